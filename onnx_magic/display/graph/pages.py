"""A GraphView as HTML: the tables folded above the frame in a cell, or a page of its own in a file."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from onnx_magic.display.graph.bundler import NetronChangedError, asset
from onnx_magic.display.graph.document import SANDBOX, document
from onnx_magic.display.graph.fallback import reason_not_drawn, view_blocks
from onnx_magic.display.html import html
from onnx_magic.display.wording import plural, shown, size
from onnx_magic.errors import StorageError, UsageError
from onnx_magic.records.views import GraphView

CELL_HEIGHT, PAGE_HEIGHT = "520px", "85vh"
_SUFFIXES = (".html", ".htm")
_FRAME = "width:100%;border:1px solid var(--jp-border-color1,rgba(128,128,128,.4));border-radius:3px;height:"


def view_html(view: GraphView, height: str = CELL_HEIGHT) -> str:
    """The tables, and the frame in which Netron draws; the tables alone, and why, where it cannot."""
    if reason_not_drawn(view):
        return html(view_blocks(view))
    try:
        page = document(view)
    except NetronChangedError as changed:
        return html(view_blocks(view, str(changed)))
    name = escape(shown(view.graph.path.name))
    told = f"{name}: {plural(view.nodes, 'node')}, opset {view.graph.opset}, {size(view.graph.size)}"
    return (
        f'<details><summary style="cursor:pointer">{told}</summary>\n{html(view_blocks(view))}\n</details>\n'
        f'<iframe data-onnx-magic="graph" title="Graph of {name}, drawn by Netron" sandbox="{SANDBOX}" '
        f'style="{_FRAME}{height}" srcdoc="{escape(page, quote=True)}"></iframe>'
        f'<div role="status" hidden></div>\n<script>{asset("around.js")}</script>'
    )


def page_path(output: str | os.PathLike[str], name: str) -> Path:
    """The file that `output` means: itself, or `<name>.html` in the folder it names.

    Raises:
        UsageError: another suffix than .html.

    Example:
        >>> page_path(".", "sentiment-mini").name
        'sentiment-mini.html'
    """
    path = Path(output)
    if path.is_dir():
        return path / f"{name}.html"
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"output={str(output)!r} is no HTML file, and no folder that is there", fix=f"output={path.stem}.html"
        )
    return path


def write_page(view: GraphView, path: Path) -> None:
    """Write the view as a page of its own, which needs nothing else: it opens from a folder, without a network.

    Raises:
        StorageError: it cannot be written there.
    """
    name = escape(shown(view.graph.path.name))
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">\n'
        f'<link rel="icon" href="data:,"></head>\n<body style="font-family:sans-serif;margin:1em">\n'
        f"{view_html(view, PAGE_HEIGHT)}\n</body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", fix="output=<another file>.html") from error
