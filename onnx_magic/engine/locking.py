"""One export at a time in a process: tracing patches globals of torch and transformers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from onnx_magic.errors import ExportError
from onnx_magic.events import LogLine, emit, stage

WAITING = "waiting"
POLL_SECONDS = 0.2
"""A wait wakes this often, so that an interrupt is heard on every platform."""

_lock = threading.Lock()
_owner: list[int] = []
"""Thread that exports now; empty when none does. Guarded by `_lock`."""


@contextlib.contextmanager
def export_lock() -> Iterator[None]:
    """Hold the process's export lock for the block; wait for another thread's export, and say so.

    Raises:
        ExportError: this very thread is exporting already (an export inside a forward, or inside a calibration).

    Example:
        >>> with export_lock():
        ...     pass
    """
    me = threading.get_ident()
    if me in _owner:
        raise ExportError(
            "an export is running in this very thread: exports cannot be nested",
            fix="export the inner model first",
            stage="arguments",
        )
    held = _lock.acquire(blocking=False)
    try:
        if not held:
            emit(LogLine("another thread is exporting: waiting for it"))
            with stage(WAITING):
                while not held:
                    held = _lock.acquire(timeout=POLL_SECONDS)
        _owner.append(me)
        yield
    finally:
        if held:
            _owner.clear()
            _lock.release()
