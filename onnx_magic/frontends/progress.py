"""Stages while they run: one display in a notebook, one line of stderr in a terminal, nothing anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TextIO, TypeAlias

from onnx_magic.display.progress import StageBoard
from onnx_magic.events import Event, Progress, StageDone, StageStarted, Token, listening

Draw: TypeAlias = Callable[[StageBoard], None]

_STEP = 0.1
"""Seconds between two drawings of a stage's steps; stages that begin or end are always drawn."""


class Watch:
    """Hears the events of one run; knows its stages when the run is interrupted.

    Args:
        draw: Shows the board as it is now.
        clock: Gives the seconds; another one in tests.
    """

    def __init__(self, draw: Draw | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.board = StageBoard(clock=clock)
        self.draw, self.clock, self.drawn = draw, clock, float("-inf")
        self.running: list[str] = []
        self.interrupted: str | None = None
        self.ended: list[str] = []

    def hear(self, event: Event) -> None:
        """Take one event, and draw."""
        self.board.feed(event)
        match event:
            case StageStarted(name):
                self.running.append(name)
            case StageDone(name, ok):
                if name in self.running:
                    self.running.remove(name)
                if ok:
                    self.ended.append(name)
                elif self.interrupted is None:  # the innermost stage ends first
                    self.interrupted = name
        now = self.clock()
        steps = isinstance(event, Progress | Token)
        if self.draw and isinstance(event, StageStarted | StageDone | Progress):
            if not steps or now - self.drawn >= _STEP:
                self.drawn = now
                self.draw(self.board)

    @property
    def stage(self) -> str | None:
        """The stage that ran when the run was interrupted; `None` before the first."""
        return self.running[-1] if self.running else self.interrupted

    def close(self) -> None:
        """The run is over: draw the empty board."""
        self.board.close()
        if self.draw:
            self.draw(self.board)


@contextlib.contextmanager
def watching(draw: Draw | None) -> Iterator[Watch]:
    """Hear what the block does, and draw it; what was drawn is taken away at the end, whatever happens."""
    watch = Watch(draw)
    try:
        with listening(watch.hear):
            yield watch
    finally:
        watch.close()


def line_on(stream: TextIO) -> Draw | None:
    """Draws the board as one line of `stream`, rewritten in place; `None` when that is no terminal."""
    if not stream.isatty():
        return None

    encoding = stream.encoding or "utf-8"

    def draw(board: StageBoard) -> None:
        line = board.bundle()["text/plain"].encode(encoding, "replace").decode(encoding)
        with contextlib.suppress(OSError):  # a terminal that has gone away must not end an export
            stream.write(f"\r\x1b[K{line}")
            stream.flush()

    return draw
