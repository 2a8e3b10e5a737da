"""What is shown while a verb works: one bar for a cell, one line for a terminal. Pure: the front ends push it out.

The bar begins and ends as `EMPTY`: nbval compares the first display of a cell, a notebook stores the last one, and
neither may hold a time. That of a run that was interrupted stays, without times, and says where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from onnx_magic.display.blocks import Tone
from onnx_magic.display.html import COLOURS, FONT, LINE
from onnx_magic.display.stages import mark_of, seconds_text
from onnx_magic.display.wording import fit, shown, width
from onnx_magic.events import Event, Progress, StageDone, StageStarted

EMPTY: Mapping[str, str] = MappingProxyType({"text/plain": "", "text/html": ""})
"""What the display holds before the first stage and after the last."""

LINE_COLUMNS = 79
_NAME_COLUMNS = 20
_GROWING = "0 1 66px"
"""A piece of a bar whose end is not known: the bar grows by one with every stage, and no piece shrinks."""


@dataclass
class _Row:
    """A stage that began: `ok` is `None` while it runs."""

    name: str
    started: float
    ok: bool | None = None
    seconds: float = 0.0
    done: int = 0
    total: int = 0
    stopped: bool = False

    @property
    def fraction(self) -> float:
        """How much of it is through: all of it when it is over; where it was stopped, what it had done."""
        over = self.ok is not None and not self.stopped
        return 1.0 if over else min(1.0, self.done / self.total) if self.total else 0.0


class StageBoard:
    """The stages of one run, from its events.

    Args:
        expected: Names of the stages that will come, where they are known: the bar has a piece for each. Where they
            are not, it grows by a piece with every stage.
        clock: Gives the seconds; another one in tests.

    Example:
        >>> board = StageBoard(clock=lambda: 0.0)
        >>> board.bundle() == EMPTY
        True
        >>> board.feed(StageStarted("source")); board.feed(StageDone("source", True, 0.4))
        >>> board.feed(StageStarted("verify")); board.feed(Progress("verify", 2, 6))
        >>> board.line()
        '✓ source  ▸ verify 2/6'
    """

    def __init__(self, expected: tuple[str, ...] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.expected = expected
        self._clock = clock
        self._rows: list[_Row] = []
        self._closed = False
        self._stopped = False

    def feed(self, event: Event) -> None:
        """Take an event; those that are not about stages change nothing."""
        match event:
            case StageStarted(name):
                # a stage that is entered again is one stage; what failed before stays to be seen
                self._rows = [row for row in self._rows if row.name != name or row.ok is not True]
                self._rows.append(_Row(name, self._clock()))
            case StageDone(name, ok, seconds):
                row = self._running(name)
                if row is not None:
                    row.ok, row.seconds = ok, seconds
            case Progress(stage, done, total):
                row = self._running(stage)
                if row is not None:
                    row.done, row.total = done, total

    def close(self) -> None:
        """The run is over: the bar is empty from here on; the line still says what failed."""
        self._closed = True

    def stop(self, names: Collection[str] = ()) -> None:
        """The run was interrupted: these stages were not done, nor were those that still run.

        Args:
            names: Stages that ended because of the interrupt.
        """
        self._stopped = True
        for row in self._rows:
            if row.ok is None or (row.ok is False and row.name in names):
                row.ok, row.stopped = False, True

    @property
    def closed(self) -> bool:
        """Whether the run is over."""
        return self._closed or self._stopped

    @property
    def failed(self) -> str | None:
        """Name of the stage that failed last, unless another one went well after it."""
        ended = [row for row in self._rows if row.ok is not None]
        return ended[-1].name if ended and ended[-1].ok is False else None

    def bundle(self) -> dict[str, str]:
        """The bar as `{"text/plain", "text/html"}`; `EMPTY` before the first stage and after `close()`."""
        if self._closed or not self._rows:
            return dict(EMPTY)
        return {"text/plain": self.line(), "text/html": self._html()}

    def line(self) -> str:
        """One line of at most 79 columns: the stages that are over, the one that runs or was stopped, its seconds."""
        if not self._rows:
            return ""
        rows, seconds = list(self._rows), self._seconds()
        line = self._joined(rows, seconds)
        while width(line) > LINE_COLUMNS and len(rows) > 1:
            # the oldest that went well goes first, then the oldest that failed: what failed last and what runs stay
            rows.remove(next((row for row in rows[:-1] if row.ok), rows[0]))
            line = "…  " + self._joined(rows, seconds)
        return fit(line, LINE_COLUMNS)

    def _joined(self, rows: list[_Row], seconds: str) -> str:
        return "  ".join([*map(self._words, rows), *([seconds] if seconds else [])])

    def _running(self, name: str) -> _Row | None:
        return next((row for row in reversed(self._rows) if row.name == name and row.ok is None), None)

    def _words(self, row: _Row) -> str:
        name = fit(shown(row.name), _NAME_COLUMNS)
        if row.ok is None:
            return f"▸ {name} {row.done}/{row.total}" if row.total else f"▸ {name}"
        if row.stopped:
            return f"■ {name} stopped" + (f" at {row.done}/{row.total}" if row.total else "")
        return f"{mark_of(row.ok)} {name}" if row.ok else f"{mark_of(row.ok)} {name} failed"

    def _seconds(self) -> str:
        """Seconds of the stage that runs, or of the last one; nothing where it has just begun or was stopped."""
        if self._stopped:
            return ""
        running = next((row for row in reversed(self._rows) if row.ok is None), None)
        if running is None:
            return f"{seconds_text(self._rows[-1].seconds)} s"
        elapsed = self._clock() - running.started
        return f"{seconds_text(elapsed)} s" if elapsed >= 0.1 else ""

    def _html(self) -> str:
        begun = [row.name for row in self._rows]
        size = "1" if self.expected else _GROWING
        pieces = [_piece(row, size) for row in self._rows]
        pieces += [_piece(None, size) for name in self.expected if name not in begun]
        words = " &nbsp;".join(escape(self._words(row)) for row in self._rows)
        bar = "display:flex;gap:2px;max-width:480px;height:6px;margin:2px 0 3px"
        return (
            f'<div role="status" style="font:12px/1.4 {FONT}"><div style="{bar}">{"".join(pieces)}</div>'
            f'{words} &nbsp;<span style="opacity:.7">{self._seconds()}</span></div>'
        )


def _piece(row: _Row | None, size: str) -> str:
    """One piece of the bar: empty, filled by its fraction, or red when its stage failed."""
    fraction = row.fraction if row is not None else 0.0
    tone: Tone = "name"
    if row is not None and row.ok is not None:
        tone = "good" if row.ok else "warn" if row.stopped else "bad"
    colour = COLOURS[tone]
    filled = f'<div style="width:{round(100 * fraction)}%;height:6px;background:{colour}"></div>' if fraction else ""
    return f'<div style="flex:{size};background:{LINE};border-radius:2px;overflow:hidden">{filled}</div>'
