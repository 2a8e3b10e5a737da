"""Blocks as text: 100 columns, no ANSI codes, one line per row."""

from __future__ import annotations

import textwrap

from onnx_magic.display.blocks import (
    MARKS,
    Beside,
    Block,
    Blocks,
    Cell,
    Column,
    Facts,
    Figure,
    Figures,
    Item,
    Table,
    Verdict,
)
from onnx_magic.display.wording import SENTENCE_LIMIT, fit, plural, shown, visible, width

COLUMNS = 100
_GAP = "  "
_LEAST = 8
"""A column is never made narrower than this."""

_BAR = 20
"""Columns of the longest bar."""

_TIE, _TIED = "\ue000", 30
"""Stands for a space that is not broken at, in parts of at most so many characters; `visible` lets none through."""


def text(blocks: Blocks) -> str:
    """The blocks as plain text, without a line break at the end."""
    lines: list[str] = []
    for index, block in enumerate(blocks):
        if index and _apart(blocks[index - 1], block):
            lines.append("")
        lines += _lines(block)
    return "\n".join(lines)


def _apart(above: Block, below: Block) -> bool:
    """Whether an empty line stands between the two: not between findings, nor between facts."""
    return type(above) is not type(below) or isinstance(above, Table)


def _lines(block: Block) -> list[str]:
    match block:
        case Verdict() | Item():
            return _sentence(block)
        case Table():
            return _table(block)
        case Facts():
            return _wrapped(block.gap.join(_cell(part) for part in block.parts), "")
        case Beside():
            apart: list[str] = []
            for table in block.tables:
                apart += ["", *_table(table)] if apart else _table(table)
            return apart
        case Figures():
            figures: list[str] = []
            for figure in block.figures:
                figures += ["", *_figure(figure)] if figures else _figure(figure)
            return figures


def _figure(figure: Figure) -> list[str]:
    return [*_lines(figure.title), *_table(figure.table)]


def _sentence(block: Verdict | Item) -> list[str]:
    mark = MARKS.get(block.tone, "·")
    place = f" [{shown(block.place)}]" if isinstance(block, Item) and block.place else ""
    word = f"{shown(block.word)}: " if block.sentence else shown(block.word)
    lines = _wrapped(f"{mark} {word}{shown(block.sentence, SENTENCE_LIMIT)}{place}", "  ")
    # a fix is a line to copy: it is not wrapped
    return [*lines, f"  fix: {shown(block.fix, SENTENCE_LIMIT)}"] if block.fix else lines


def _wrapped(line: str, indent: str) -> list[str]:
    """`line` in lines of 100 columns; what stands between two dots stays together where it is short."""
    parts = [part.replace(" ", _TIE) if len(part) <= _TIED else part for part in line.split(" · ")]
    lines = textwrap.wrap(" · ".join(parts), COLUMNS, subsequent_indent=indent, break_on_hyphens=False)
    return [each.replace(_TIE, " ") for each in lines] or [""]


def _cell(cell: Cell) -> str:
    if cell.bar is not None:
        return ("█" * round(cell.bar * _BAR) or "▏") + (f" {shown(cell.text)}" if cell.text else "")
    if cell.mark is None:
        written = shown(cell.text, cell.limit)
    else:
        start, stop = cell.mark
        parts = (cell.text[:start], "»", cell.text[start:stop], "«", cell.text[stop:])
        written = "".join(map(visible, parts))
    return f"{written} ({shown(cell.aside)})" if cell.aside else written


def _table(table: Table) -> list[str]:
    rows = [[shown(column.title) for column in table.columns]]
    rows += [[_cell(cell) for cell in row] for row in table.rows[: table.keep]]
    widths = _widths(rows)
    head, *body = [_row(row, widths, table.columns) for row in rows]
    lines = [*head, _GAP.join("─" * each for each in widths)]
    for index, row in enumerate(body):
        lines += ["", *row] if index in table.rules and index else row
    hidden = len(table.rows) - table.keep
    if hidden > 0:
        lines.append(f"… and {plural(hidden, 'more row')}" + (f": {table.more}" if table.more else ""))
    return lines


def _widths(rows: list[list[str]]) -> list[int]:
    """Widths of the columns: as wide as their widest cell; where that is too much the widest wrap, then are cut."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(width, column)) for column in columns]
    words = [max(width(word) for entry in column for word in entry.split(" ")) for column in columns]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - COLUMNS
    for least in ([max(_LEAST, word) for word in words], [_LEAST] * len(words)):
        while over > 0:
            room, widest = max((widths[at] - least[at], at) for at in range(len(widths)))
            if room <= 0:
                break
            widths[widest] -= 1
            over -= 1
    return widths


def _row(entries: list[str], widths: list[int], columns: tuple[Column, ...]) -> list[str]:
    """A row: several lines where a cell wraps."""
    cells = [_wrapped_cell(entry, limit) for entry, limit in zip(entries, widths, strict=True)]
    lines = []
    for at in range(max(map(len, cells))):
        fitted = [
            _fitted(cell[at] if at < len(cell) else "", limit, column.right)
            for cell, limit, column in zip(cells, widths, columns, strict=True)
        ]
        lines.append(_GAP.join(fitted).rstrip())
    return lines


def _wrapped_cell(entry: str, limit: int) -> list[str]:
    """A cell in lines, broken at spaces; a word that is too long is left to `_fitted`."""
    if width(entry) <= limit:
        return [entry]
    return textwrap.wrap(entry, limit, break_long_words=False, break_on_hyphens=False) or [""]


def _fitted(entry: str, limit: int, right: bool) -> str:
    cut = fit(entry, limit)
    space = " " * (limit - width(cut))
    return space + cut if right else cut + space
