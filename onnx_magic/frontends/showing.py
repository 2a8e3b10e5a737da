"""What a magic shows: its record exactly once, wherever the call stands, and errors in two lines.

`x = %onnx_export model` shows the record at once; as the last expression of a cell the call leaves that to IPython's
display hook. Whether the hook will draw is read from the caller's source and place; after the cell the display is put
right where that was wrong.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from onnx_magic.display.failures import error_text
from onnx_magic.display.growing import GrowingText
from onnx_magic.display.progress import EMPTY, StageBoard
from onnx_magic.frontends.progress import Draw, Watch, line_on

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_MAGIC_CALLS = ("run_line_magic", "run_cell_magic")


class Handle:
    """One output of a cell that can be changed after it was shown."""

    def __init__(self, shell: InteractiveShell, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.publisher = shell.display_pub
        self.rewritable = is_notebook(shell)
        self.key = f"onnx_magic-{os.urandom(8).hex()}"  # travels beside the output, is never saved in it
        self._publish(data, metadata, update=False)

    def update(self, data: Mapping[str, Any]) -> None:
        """Put something else there. A terminal cannot take back what it printed."""
        if self.rewritable:
            self._publish(data, {}, update=True)

    def _publish(self, data: Mapping[str, Any], metadata: Mapping[str, Any], update: bool) -> None:
        transient = {"display_id": self.key}
        self.publisher.publish(data=dict(data), metadata=dict(metadata), transient=transient, update=update)


@dataclass
class _Shown:
    """A record of the running cell: with the display it stands in, or left to the display hook."""

    record: Any
    handle: Handle | None


class Showing:
    """What the magics of one shell have shown in the running cell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self._shown: list[_Shown] = []

    def show(self, record: Any, *, drawn: bool) -> None:
        """Show a record in place, unless the display hook will draw it."""
        if drawn and self.shell.ast_node_interactivity == "all":
            return  # of all it draws, the hook keeps the last one only: nothing to check after the cell
        handle = None if drawn else self._display(record)
        if drawn or handle is not None:  # what shows itself (a live table) has no handle, and is not watched
            self._shown.append(_Shown(record, handle))

    def after_cell(self, result: Any) -> None:
        """`post_run_cell`: draw what the display hook was expected to draw and did not; take away what both drew."""
        shown, self._shown = self._shown, []
        drawn = getattr(result, "result", None)
        for entry in shown:
            if entry.handle is None and drawn is not entry.record:
                self._display(entry.record)
            elif entry.handle is not None and drawn is entry.record:
                entry.handle.update(EMPTY)

    def _display(self, record: Any) -> Handle | None:
        formatter = self.shell.display_formatter
        assert formatter is not None, "an IPython shell has a display formatter"
        data, metadata = formatter.format(record)
        return Handle(self.shell, data, metadata) if data else None


def is_notebook(shell: InteractiveShell) -> bool:
    """Whether outputs go to a front end that can change them; a terminal prints them."""
    from IPython.core.displaypub import DisplayPublisher

    return type(shell.display_pub) is not DisplayPublisher


def board_of(shell: InteractiveShell) -> Draw | None:
    """Draws stages in the running cell. Begins and ends as the empty bundle: what a notebook compares has no times."""
    if not is_notebook(shell):
        return line_on(sys.stderr)
    handle = Handle(shell, EMPTY, {})

    def draw(board: StageBoard | GrowingText) -> None:
        handle.update(board.bundle())

    return draw


@dataclass(frozen=True)
class Place:
    """Where the running magic stands.

    Args:
        drawn: IPython's display hook will draw what it returns.
        alone: It is a line of its own: nobody takes what it returns.
    """

    drawn: bool = False
    alone: bool = False


def place_of_call(shell: InteractiveShell) -> Place:
    """Read the place of the running magic from the source of the code that called it; nowhere where there is none."""
    frame = _caller()
    end = _position(frame) if frame else None
    if frame is None or end is None:
        return Place()
    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return Place()
    alone = any(isinstance(node, ast.Expr) and _is_call(node.value, end) for node in ast.walk(tree))
    quiet = getattr(shell.displayhook, "quiet", lambda: False)
    drawn = frame.f_code.co_name == "<module>" and is_drawn(tree, end, shell.ast_node_interactivity) and not quiet()
    return Place(drawn, alone)


def is_drawn(tree: ast.Module, end: tuple[int, int], interactivity: str) -> bool:
    """Whether the display hook draws the value of the call that ends at `end` (line, column).

    Args:
        tree: The cell, magics already turned into calls.
        end: Where the call ends.
        interactivity: IPython's `ast_node_interactivity`.

    Example:
        >>> is_drawn(ast.parse("x = 1\\nf()"), (2, 3), "last_expr")
        True
        >>> is_drawn(ast.parse("x = f()"), (1, 7), "last_expr")
        False
    """
    if interactivity == "none" or not tree.body:
        return False
    drawn = tree.body if interactivity == "all" else tree.body[-1:]
    if any(isinstance(node, ast.Expr) and _is_call(node.value, end) for node in drawn):
        return True
    last = tree.body[-1]
    if isinstance(last, ast.Assign) and interactivity == "last_expr_or_assign":
        return _is_call(last.value, end)
    # x = %onnx_export model, and x as the last line: it is drawn there
    named = last.value.id if isinstance(last, ast.Expr) and isinstance(last.value, ast.Name) else None
    binds = (node for node in tree.body if isinstance(node, ast.Assign) and _is_call(node.value, end))
    return any(isinstance(target, ast.Name) and target.id == named for node in binds for target in node.targets)


def _is_call(node: ast.expr, end: tuple[int, int]) -> bool:
    return isinstance(node, ast.Call) and (node.end_lineno, node.end_col_offset) == end


def _caller() -> FrameType | None:
    """The frame that called the innermost magic."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _MAGIC_CALLS and "IPython" in frame.f_code.co_filename:
            return frame.f_back
        frame = frame.f_back
    return None


def _position(frame: FrameType) -> tuple[int, int] | None:
    """Where the call that `frame` is in ends, as the AST counts: line, column in bytes."""
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    _, end_line, _, end_column = positions
    return None if end_line is None or end_column is None else (end_line, end_column)


def shorten(error: BaseException, lines: list[str]) -> None:
    """Have IPython show `lines` in place of the traceback of this very exception; class and `__cause__` stay."""

    def render() -> list[str]:
        return list(lines)

    error._render_traceback_ = render  # type: ignore[attr-defined]


def error_lines(error: BaseException) -> list[str]:
    """What failed, and the fix. Never raises: IPython would show no error at all."""
    try:
        return error_text(error).encode("utf-8", "replace").decode("utf-8").splitlines() or [type(error).__name__]
    except Exception as broken:  # the error's own text cannot be had
        return [f"{type(error).__name__} (its message cannot be shown: {type(broken).__name__})"]


def interrupt_lines(watch: Watch, verb: str) -> list[str]:
    """What is said of an interrupted run."""
    kept = "its folder was written already" if "store" in watch.ended else "nothing was written"
    during = f"interrupted during {watch.stage}" if watch.stage else f"{verb} was interrupted"
    return [f"{during}; {kept}", "fix: run the cell again"]
