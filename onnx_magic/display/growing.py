"""Text while it is generated, with tokens per second: shown while it grows, gone when the answer stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

from onnx_magic.display.html import FONT
from onnx_magic.display.progress import EMPTY, LINE_COLUMNS
from onnx_magic.display.wording import fit, plural, shown, width
from onnx_magic.events import Event, StageDone, StageStarted, Token

GENERATE = "generate"
"""The stage in which texts grow."""

_ROWS = 8
"""Rows of a batch that are shown while they grow."""


class GrowingText:
    """The texts of one generation, from its events.

    It begins and ends as `EMPTY`: no text of a run that went well stays beside its record, and no time.

    Args:
        clock: Gives the seconds; another one in tests.

    Example:
        >>> text = GrowingText(clock=lambda: 0.0)
        >>> text.feed(StageStarted("generate")); text.feed(Token("Once")); text.feed(Token(" upon"))
        >>> text.line()
        'Once upon'
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clear()
        self.cut = False

    def _clear(self) -> None:
        self._texts: dict[int, str] = {}
        self._pieces, self._began = 0, self._clock()

    def feed(self, event: Event) -> bool:
        """Take an event; whether it changed what is shown."""
        match event:
            case StageStarted(name) if name == GENERATE:
                self._clear()
                self.cut = False
            case StageDone(name, ok) if name == GENERATE:
                self.cut = not ok
            case Token(text, row):
                self._texts[row] = self._texts.get(row, "") + text
                self._pieces += 1
            case _:
                return False
        return True

    def close(self, *, keep: bool) -> None:
        """The run is over: empty from here on, unless it was cut off and what there was is to stay."""
        if not (keep and self.cut):
            self._clear()

    @property
    def rate(self) -> float:
        """Pieces of text per second so far; 0 before there is anything to count."""
        seconds = self._clock() - self._began
        return self._pieces / seconds if seconds > 0.2 else 0.0

    def bundle(self) -> dict[str, str]:
        """The texts as `{"text/plain", "text/html"}`; `EMPTY` while there are none."""
        if not self._texts:
            return dict(EMPTY)
        return {"text/plain": self._plain() if self.cut else self.line(), "text/html": self._html()}

    def line(self) -> str:
        """The end of the first row's text in one line of at most 79 columns."""
        text = " ".join(self._texts.get(0, next(iter(self._texts.values()), "")).split())
        text = shown(text) if len(text) <= LINE_COLUMNS else "…" + shown(text[-LINE_COLUMNS:])
        rate = f"  {self.rate:.0f} tokens/s" if self.rate else ""
        room = LINE_COLUMNS - len(rate)
        while width(text) > room:
            text = "…" + text[2:] if text.startswith("…") else "…" + text[1:]
        return fit(text + rate, LINE_COLUMNS)

    def _plain(self) -> str:
        return "\n".join([*(text for _, text in sorted(self._texts.items())), self._foot()])

    def _foot(self) -> str:
        left = len(self._texts) - _ROWS
        words = ["interrupted"] if self.cut else [f"{self.rate:.0f} tokens/s"] if self.rate else []
        return " · ".join([*words, *([f"{plural(left, 'row')} more"] if left > 0 else [])])

    def _html(self) -> str:
        style = f"font:13px/1.5 {FONT};white-space:pre-wrap;overflow-wrap:anywhere;max-width:1100px"
        rows = "".join(f"<div>{escape(text)}</div>" for _, text in sorted(self._texts.items())[:_ROWS])
        return f'<div role="status" style="{style}">{rows}<span style="opacity:.7">{escape(self._foot())}</span></div>'
