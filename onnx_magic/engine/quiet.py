"""None of the libraries' noise reaches the cell: it is caught here and kept in `exported.log`."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import IO, Any, cast

from onnx_magic.events import LogLine, emit

LIBRARIES = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "huggingface_hub", "safetensors")
"""Loggers of these packages, and all below them, write to the log during an export."""


class Log:
    """The lines that libraries wrote, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, text: str) -> None:
        """Keep one line (or several) and tell whoever listens."""
        for line in text.rstrip().splitlines():
            self.lines.append(line)
            emit(LogLine(line))

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)


@contextlib.contextmanager
def quiet(log: Log) -> Iterator[None]:
    """Send this thread's prints, all warnings and the libraries' log records to `log` for the block.

    Prints of other threads pass through: a user's training loop in another thread keeps its output.
    """
    owner = threading.get_ident()
    out, err = sys.stdout, sys.stderr
    with _captured_loggers(log), _captured_root(log, owner), warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, category, *_rest, **_more: log.add(f"{category.__name__}: {message}")
        tee_out, tee_err = _OwnThread(out, log, owner), _OwnThread(err, log, owner)
        sys.stdout, sys.stderr = cast(Any, tee_out), cast(Any, tee_err)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err
            tee_out.finish()
            tee_err.finish()


class _OwnThread:
    """A stream that keeps one thread's writes in the log and lets those of others through."""

    def __init__(self, stream: IO[str], log: Log, owner: int) -> None:
        self._stream, self._log, self._owner = stream, log, owner
        self._rest = ""

    def write(self, text: str) -> int:
        if threading.get_ident() != self._owner:
            return self._stream.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log.add(line.rpartition("\r")[2])
        return len(text)

    def finish(self) -> None:
        if self._rest.strip():
            self._log.add(self._rest.rpartition("\r")[2])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _ToLog(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.add(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def _captured_loggers(log: Log) -> Iterator[None]:
    """Put one handler on every library's root logger in place of its own; children that have handlers lose them too."""
    handler = _ToLog(log)
    names = [
        name
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] in LIBRARIES and isinstance(logger, logging.Logger) and logger.handlers
    ]
    touched = [logging.getLogger(name) for name in {*LIBRARIES, *names}]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in touched]
    for logger in touched:
        logger.handlers[:] = [handler] if logger.name in LIBRARIES else []
        logger.propagate = logger.name not in LIBRARIES
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers[:] = handlers
            logger.propagate = propagate


@contextlib.contextmanager
def _captured_root(log: Log, owner: int) -> Iterator[None]:
    """Keep this thread's records out of the root logger's handlers, and a handler there.

    ONNX Runtime's quantizers call `logging.warning`: on a root without handlers that would set one up for good.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [_OwnToLog(log, owner, before)]
    try:
        yield
    finally:
        root.handlers[:] = before


class _OwnToLog(_ToLog):
    """One thread's records go to the log, those of others to the handlers that were there."""

    def __init__(self, log: Log, owner: int, before: list[logging.Handler]) -> None:
        super().__init__(log)
        self.setLevel(logging.NOTSET)
        self._owner, self._before = owner, before

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._owner:
            last = [logging.lastResort] if logging.lastResort is not None else []
            for handler in self._before or last:
                if record.levelno >= handler.level:
                    handler.handle(record)
        elif record.levelno >= logging.WARNING:
            super().emit(record)
