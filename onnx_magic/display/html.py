"""Blocks as HTML that is the same on every run: inline styles alone, nothing that a sanitizer prints or drops.

No style element, class, id or script; pictures are heat maps, within the page itself. Colours come from JupyterLab's
and VS Code's variables, with literals that can be read on white and on black. With every style taken away (GitHub)
tables, sentences and marks say all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from onnx_magic.display.blocks import (
    MARKS,
    Beside,
    Block,
    Blocks,
    Cell,
    Facts,
    Figure,
    Figures,
    Fold,
    Item,
    Table,
    Tone,
    Verdict,
)
from onnx_magic.display.heat import picture_size, png_uri
from onnx_magic.display.wording import SENTENCE_LIMIT, plural, shorten, shown, visible

COLOURS: dict[Tone, str] = {
    "good": "var(--jp-success-color1,var(--vscode-charts-green,#2f8a44))",
    "bad": "var(--jp-error-color1,var(--vscode-charts-red,#e0483f))",
    "warn": "var(--jp-warn-color0,var(--vscode-charts-orange,#b57014))",
    "name": "var(--jp-brand-color1,var(--vscode-charts-blue,#3a82d6))",
}
LINE = "var(--jp-border-color2,var(--vscode-panel-border,rgba(128,128,128,.35)))"
FONT = "var(--jp-ui-font-family,var(--vscode-font-family,system-ui,sans-serif))"
MONO = "var(--jp-code-font-family,var(--vscode-editor-font-family,ui-monospace,monospace))"

_ROOT = f"font:13px/1.5 {FONT};max-width:1100px;text-align:left;padding:2px 0"
_QUIET = "opacity:.7"
_SMALL = "font-size:11px;opacity:.7"
_CODE = f"font-family:{MONO};font-size:12px;background:none;padding:0;color:inherit;white-space:pre-wrap"
_PAGE = "var(--jp-layout-color0,var(--vscode-editor-background,Canvas))"
# Where a table is wider than its place a shadow stands at the edge behind which there is more: a scroll bar is not
# seen on systems that hide it. What covers the shadow moves with the table, so that it is gone at the table's end.
_REGION = (
    "overflow-x:auto;max-width:100%;min-width:0;margin:0 0 10px;scrollbar-width:thin;"
    f"background:linear-gradient(90deg,{_PAGE} 40%,transparent) 0 0/32px 100% no-repeat local,"
    f"linear-gradient(270deg,{_PAGE} 40%,transparent) 100% 0/32px 100% no-repeat local,"
    "linear-gradient(90deg,rgba(128,128,128,.4),transparent) 1px 50%/9px calc(100% - 2px) no-repeat scroll,"
    "linear-gradient(270deg,rgba(128,128,128,.4),transparent) "
    "calc(100% - 1px) 50%/9px calc(100% - 2px) no-repeat scroll"
)
_BESIDE = "display:flex;flex-wrap:wrap;gap:0 36px;align-items:flex-start"
_FIGURE = "display:flex;flex-wrap:wrap;gap:4px 14px;align-items:flex-start;margin:0 0 4px"
_LEGEND = f"{_SMALL};margin:0 0 10px"
_BAR = "display:inline-block;vertical-align:middle;height:10px;min-width:2px;margin:0"
_BAR_ROOM = 120
"""Pixels of the longest bar."""

# Notebook style sheets stripe rows, centre tables and set cells to the right: each of these is taken back here.
_TABLE = "border-collapse:collapse;table-layout:auto;margin:0;font-size:12px;color:inherit;border:none"
_PLAIN_ROW = "background:none"
_GROUP_ROW = f"background:none;border-top:1px solid {LINE}"
_HEAD_ROW = f"background:none;border-bottom:1px solid {LINE}"
_ENTRY = (
    "padding:2px 14px 2px 0;line-height:1.3;white-space:nowrap;vertical-align:baseline;font-weight:normal;border:none"
)
_WORDS = _ENTRY.replace("white-space:nowrap", "white-space:normal;min-width:110px")
_LINE_OF_TEXT = "margin:0 0 6px;overflow-wrap:anywhere"
_INDENT = "margin:2px 0 8px 16px"
_FACTS = "margin:0 0 1px;font-size:12px;overflow-wrap:anywhere"


_FOLDED = 200
"""So many rows are folded away below those that are shown; a notebook keeps every byte of them."""


def html(blocks: Blocks) -> str:
    """The blocks as one HTML element."""
    return f'<div style="{_ROOT}">\n' + "\n".join(_block(block) for block in blocks) + "\n</div>"


def _block(block: Block) -> str:
    match block:
        case Verdict():
            return _verdict(block)
        case Item():
            return _item(block)
        case Table():
            return _table(block)
        case Facts():
            gap = _span(_QUIET, block.gap) if block.gap.strip() else f"{block.gap[:-1]}&nbsp; "
            return f'<div style="{_FACTS}">{gap.join(map(_cell, block.parts))}</div>'
        case Beside():
            return f'<div style="{_BESIDE}">\n' + "\n".join(map(_table, block.tables)) + "\n</div>"
        case Figures():
            legend = f'<div style="{_LEGEND}">{_written(block.legend, SENTENCE_LIMIT)}</div>'
            return "\n".join([*map(_figure, block.figures), legend])
        case Fold():
            inner = "\n".join(map(_block, block.blocks))
            summary = f'<summary style="{_FACTS};cursor:pointer">{_written(block.title, SENTENCE_LIMIT)}</summary>'
            return f'<details style="margin:0 0 2px">{summary}\n<div style="{_INDENT}">\n{inner}\n</div>\n</details>'


def _figure(figure: Figure) -> str:
    """The heat map beside its values; below each other where there is no room."""
    width, height = picture_size(figure.closeup)
    look = (
        f"image-rendering:pixelated;flex:none;width:{width}px;height:{height}px;margin:2px 0 0;outline:1px solid {LINE}"
    )
    image = (
        f'<img src="{png_uri(figure.closeup)}" alt="{_written(figure.alt, SENTENCE_LIMIT)}" width="{width}" '
        f'height="{height}" style="{look}">'
    )
    words = f'<div style="flex:1 1 260px;min-width:0">\n{_block(figure.title)}\n{_table(figure.table)}\n</div>'
    return f'<div style="{_FIGURE}">\n{image}\n{words}\n</div>'


def _verdict(block: Verdict) -> str:
    colour = COLOURS.get(block.tone, LINE)
    frame = (
        f"border-left:4px solid {colour};background:color-mix(in srgb,{colour} 10%,transparent);"
        "padding:7px 12px;margin:0 0 10px;overflow-wrap:anywhere"
    )
    word = f'<strong style="color:{colour};font-size:15px">{_mark(block.tone)}{_written(block.word)}</strong>'
    sentence = f"{word}: {_written(block.sentence, SENTENCE_LIMIT)}" if block.sentence else word
    return f'<div style="{frame}">{sentence}{_fix(block.fix)}</div>'


def _item(block: Item) -> str:
    colour = COLOURS.get(block.tone, "inherit")
    word = f'<strong style="color:{colour}">{_mark(block.tone)}{_written(block.word)}</strong>'
    place = f" {_span(_SMALL, f'[{_written(block.place)}]')}" if block.place else ""
    indent = f"{_LINE_OF_TEXT};padding-left:16px"
    return f'<div style="{indent}">{word}: {_written(block.sentence, SENTENCE_LIMIT)}{place}{_fix(block.fix)}</div>'


def _fix(fix: str) -> str:
    if not fix:
        return ""
    return f'<br>\n{_span(_QUIET, "fix:")} <code style="{_CODE}">{_written(fix, SENTENCE_LIMIT)}</code>'


def _table(table: Table) -> str:
    region = f'<div role="region" tabindex="0" aria-label="{_written(table.label)}" style="{_REGION}">\n'
    parts = [_rows(table, 0, table.keep)]
    hidden = len(table.rows) - table.keep
    if hidden > 0:
        summary = f'<summary style="cursor:pointer;{_QUIET}">{plural(hidden, "row")} more</summary>'
        last = _rows(table, table.keep, table.keep + _FOLDED)
        parts.append(f"<details>{summary}\n{last}{_left_out(table)}\n</details>")
    return region + "\n".join(parts) + "\n</div>"


def _left_out(table: Table) -> str:
    """How many rows are not even folded away, and where they are to be had."""
    left = len(table.rows) - table.keep - _FOLDED
    if left <= 0:
        return ""
    return f'\n<div style="{_FACTS}">… and {plural(left, "more row")}{": " if table.more else ""}{table.more}</div>'


def _rows(table: Table, start: int, stop: int) -> str:
    head = " ".join(
        f'<th scope="col" style="{_ENTRY};{_SMALL}{_aligned(column.right)}">{_written(column.title)}</th>'
        for column in table.columns
    )
    body = [_row(table, index) for index in range(start, min(stop, len(table.rows)))]
    return (
        f'<table style="{_TABLE}">\n<thead><tr style="{_HEAD_ROW}">{head}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table>"
    )


def _row(table: Table, index: int) -> str:
    look = _GROUP_ROW if index in table.rules and index else _PLAIN_ROW
    return f'<tr style="{look}">{" ".join(_entries(table, index))}</tr>'


def _entries(table: Table, index: int) -> Iterable[str]:
    for place, (cell, column) in enumerate(zip(table.rows[index], table.columns, strict=True)):
        tag, scope = ("th", ' scope="row"') if place == table.header_column else ("td", "")
        look = (_WORDS if column.wraps else _ENTRY) + _aligned(column.right)
        yield f'<{tag}{scope} style="{look}">{_cell(cell, wraps=column.wraps)}</{tag}>'


def _aligned(right: bool) -> str:
    return ";text-align:right" if right else ";text-align:left"


def _cell(cell: Cell, *, wraps: bool = False) -> str:
    if cell.bar is not None:
        length = max(round(cell.bar * _BAR_ROOM), 2)
        bar = _span(f"{_BAR};width:{length}px;background:{COLOURS['name']}", "")
        return f"{bar} {_written(cell.text)}".rstrip()
    written = _text(cell) if cell.mark is None else _marked(cell.text, *cell.mark, lines=cell.lines)
    if wraps and cell.mono:  # names are not broken at their hyphens
        written = ", ".join(_span("white-space:nowrap", name) for name in written.split(", ")) if written else ""
    looks = [f"font-family:{MONO}"] if cell.mono else []
    if cell.tone in COLOURS:
        looks.append(f"color:{COLOURS[cell.tone]}")
    elif cell.tone == "quiet":
        looks.append(_QUIET)
    if looks and written:
        written = _span(";".join(looks), written)
    return f"{written} {_span(_SMALL, f'({_written(cell.aside)})')}" if cell.aside else written


def _text(cell: Cell) -> str:
    """The cell's text, cut where it is too long."""
    return _broken(shorten(cell.text, cell.limit)) if cell.lines else _written(cell.text, cell.limit)


def _broken(text: str) -> str:
    """The text with its line breaks; all else that is not seen is escaped."""
    return escape(visible(text, breaks=True)).replace("\n", "<br>")


def _marked(text: str, start: int, stop: int, *, lines: bool) -> str:
    """The text with a part of it between »«, so that it is seen without colours too; a break in it as an arrow."""
    parts = text[:start], text[start:stop].replace("\n", "↵\n" if lines else "\n"), text[stop:]
    before, inside, behind = (_broken(part) if lines else escape(visible(part)) for part in parts)
    return f"{before}»<strong>{inside}</strong>«{behind}"


def _span(style: str, inner: str) -> str:
    return f'<span style="{style}">{inner}</span>'


def _mark(tone: Tone) -> str:
    return f"{MARKS[tone]} " if tone in MARKS else ""


def _written(text: str, limit: int = 60) -> str:
    return escape(shown(text, limit))
