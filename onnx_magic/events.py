"""What happens while a verb works: a contextvar sink, and the checkpoints where a run can be cancelled.

The engine calls `emit(...)` and `stage(...)`; it never prints. Without a sink nothing is shown. A front end
(`frontends.magics`, `frontends.cli`) listens:

Example:
    >>> seen = []
    >>> with listening(seen.append):
    ...     with stage("capture"):
    ...         emit(LogLine("torch said so"))
    >>> [type(event).__name__ for event in seen]
    ['StageStarted', 'LogLine', 'StageDone']
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from onnx_magic.records.findings import Finding


@dataclass(frozen=True)
class StageStarted:
    """A stage of work begins."""

    name: str


@dataclass(frozen=True)
class StageDone:
    """A stage of work is over: `ok` is False when it failed."""

    name: str
    ok: bool
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of the running stage are through."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class LogLine:
    """One line that a library wrote; kept in `exported.log`, never shown in the cell."""

    text: str


@dataclass(frozen=True)
class Token:
    """A piece of generated text, of one row of the batch."""

    text: str
    row: int = 0


Event: TypeAlias = StageStarted | StageDone | Progress | LogLine | Token | Finding
Sink: TypeAlias = Callable[[Event], None]

_sinks: contextvars.ContextVar[tuple[Sink, ...]] = contextvars.ContextVar("onnx_magic_sinks", default=())


class StageNote:
    """What a running stage wants its row to say; set `detail` inside the `with stage(...)` block."""

    def __init__(self) -> None:
        self.detail = ""


@contextlib.contextmanager
def listening(sink: Sink) -> Iterator[None]:
    """Send every event of the block to `sink`, beside the sinks that listen already."""
    token = _sinks.set((*_sinks.get(), sink))
    try:
        yield
    finally:
        _sinks.reset(token)


def is_heard() -> bool:
    """Whether anyone listens: what is costly to make (the text of tokens) is made for listeners alone."""
    return bool(_sinks.get())


def emit(event: Event) -> None:
    """Hand one event to whoever listens. A place where a run can be interrupted."""
    for sink in _sinks.get():
        sink(event)


@contextlib.contextmanager
def stage(name: str) -> Iterator[StageNote]:
    """Report the block as one stage: started, then done or failed, with its seconds."""
    emit(StageStarted(name))
    note, started = StageNote(), time.perf_counter()
    try:
        yield note
    except BaseException:
        emit(StageDone(name, False, time.perf_counter() - started, note.detail))
        raise
    emit(StageDone(name, True, time.perf_counter() - started, note.detail))
