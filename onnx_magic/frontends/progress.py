"""Stages while they run: one display in a notebook, one line of stderr in a terminal, nothing anywhere else."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO, TypeAlias

from onnx_magic.display.progress import StageBoard
from onnx_magic.events import Event, Progress, StageDone, StageStarted, Token, listening

Draw: TypeAlias = Callable[[StageBoard], None]

_STEP = 0.1
"""Seconds between two drawings of a stage's steps; stages that begin or end are always drawn."""
_TICK = 0.5
"""Seconds between two drawings of a stage that reports no steps."""


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
        self.failing: list[str] = []  # the stages that what is being raised now has ended, the innermost first
        self.ended: list[str] = []
        self._lock = threading.RLock()  # events come from the run, ticks from a thread of their own
        self._closed = False

    def hear(self, event: Event) -> None:
        """Take one event, and draw."""
        with self._lock:
            self._hear(event)

    def tick(self) -> None:
        """Draw the seconds of the stage that runs, when nothing else was drawn for a while."""
        with self._lock:
            now = self.clock()
            if self.draw and self.running and not self._closed and now - self.drawn >= _TICK / 2:
                self.drawn = now
                self.draw(self.board)

    def _hear(self, event: Event) -> None:
        self.board.feed(event)
        match event:
            case StageStarted(name):
                self.running.append(name)
                self.failing.clear()  # what failed before was got over: another way is tried
            case StageDone(name, ok):
                if name in self.running:
                    self.running.remove(name)
                if ok:
                    self.ended.append(name)
                    self.failing.clear()
                else:
                    self.failing.append(name)
        now = self.clock()
        steps = isinstance(event, Progress | Token)
        if self.draw and isinstance(event, StageStarted | StageDone | Progress):
            if not steps or now - self.drawn >= _STEP:
                self.drawn = now
                self.draw(self.board)

    @property
    def stage(self) -> str | None:
        """The stage that ran when the run was interrupted; `None` before the first."""
        return self.running[-1] if self.running else next(iter(self.failing), None)

    def close(self) -> None:
        """The run is over: draw the empty board."""
        self._end(self.board.close)

    def stop(self) -> None:
        """The run was interrupted: draw where it stopped, once and for all."""
        self._end(lambda: self.board.stop(self.failing))

    def _end(self, end: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            end()
            if self.draw:
                self.draw(self.board)


@contextlib.contextmanager
def watching(draw: Draw | None) -> Iterator[Watch]:
    """Hear what the block does, and draw it; taken away at the end, unless it is interrupted: then it says where."""
    watch = Watch(draw)
    try:
        with listening(watch.hear), _ticking(watch):
            yield watch
    except KeyboardInterrupt:
        watch.stop()
        raise
    finally:
        watch.close()


@contextlib.contextmanager
def _ticking(watch: Watch) -> Iterator[None]:
    """Tick while the block runs: a conversion of a minute is seen to be alive."""
    if watch.draw is None:
        yield
        return
    over = threading.Event()

    def tick() -> None:
        while not over.wait(_TICK):
            watch.tick()

    # ipykernel keeps the cell that an output belongs to in a context variable
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(tick,), name="onnx_magic-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def line_on(stream: TextIO) -> Draw | None:
    """Draws the board as one line of `stream`, rewritten in place; `None` when that is no terminal."""
    if not stream.isatty():
        return None

    encoding = stream.encoding or "utf-8"

    def draw(board: StageBoard) -> None:
        # what was interrupted is said in a line of its own
        line = "" if board.closed else board.line().encode(encoding, "replace").decode(encoding)
        with contextlib.suppress(OSError):  # a terminal that has gone away must not end an export
            stream.write(f"\r\x1b[K{line}")
            stream.flush()

    return draw
