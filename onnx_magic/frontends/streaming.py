"""Text that grows in the running cell, whichever way generation was called: a magic, `exported.run`, a verb."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnx_magic.display.growing import GrowingText
from onnx_magic.display.progress import EMPTY
from onnx_magic.events import Event, StageDone, Token, listen, unlisten
from onnx_magic.frontends.progress import line_on
from onnx_magic.frontends.showing import Handle, is_notebook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_STEP = 0.1
"""Seconds between two drawings."""


@dataclass
class _Cell:
    """One running cell."""

    text: GrowingText = field(default_factory=GrowingText)
    handle: Handle | None = None
    mark: contextvars.Token[Any] | None = None
    drawn: float = float("-inf")
    over: bool = False


class CellStream:
    """Shows in each cell the text that is generated in it; nothing at all in cells that generate none.

    Args:
        shell: The shell whose cells these are.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self._cells: list[_Cell] = []
        self._line = None if is_notebook(shell) else line_on(sys.stderr)

    def before_cell(self, info: Any = None) -> None:
        """`pre_run_cell`: listen."""
        if self._line is None and not is_notebook(self.shell):
            return
        cell = _Cell()
        self._cells.append(cell)
        cell.mark = listen(lambda event: self._hear(cell, event))

    def after_cell(self, result: Any) -> None:
        """`post_run_cell`: take the text away, unless the run was interrupted: what there was stays to be read."""
        if not self._cells:
            return
        cell = self._cells.pop()
        cell.over = True
        if cell.mark is not None:
            with contextlib.suppress(ValueError):  # the cell ran in a task of its own, whose context is gone with it
                unlisten(cell.mark)
        cell.text.close(keep=isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt))
        self._draw(cell)

    def close(self) -> None:
        """Listen no longer, in the middle of a cell too."""
        while self._cells:
            self.after_cell(None)

    def _hear(self, cell: _Cell, event: Event) -> None:
        if cell.over or not cell.text.feed(event):
            return
        now = time.monotonic()
        if (isinstance(event, Token) and now - cell.drawn >= _STEP) or isinstance(event, StageDone):
            cell.drawn = now
            self._draw(cell)

    def _draw(self, cell: _Cell) -> None:
        bundle = cell.text.bundle()
        if self._line is not None:
            if cell.drawn > float("-inf"):
                self._line(cell.text)
        elif cell.handle is not None:
            cell.handle.update(bundle)
        elif bundle != EMPTY:
            cell.handle = Handle(self.shell, EMPTY, {})  # what a notebook compares: it has no times
            cell.handle.update(bundle)
