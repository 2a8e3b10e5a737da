"""A graph as tables: in a terminal, where scripts are taken away, and where Netron cannot draw it."""

from __future__ import annotations

from onnx_magic.display.blocks import Block, Blocks, Cell, Facts, Item
from onnx_magic.display.exported import graph_blocks
from onnx_magic.display.wording import path_text
from onnx_magic.records.views import GraphView

MOST_NODES = 5000
"""Beyond that the layout takes so long that the tables are shown instead: 2,700 nodes take 5 to 8 seconds."""


def reason_not_drawn(view: GraphView) -> str:
    """Why this graph is not drawn, in a few words; empty when it is."""
    if view.nodes > MOST_NODES:
        return f"{view.nodes:,} nodes are too many to lay out in a page (at most {MOST_NODES:,})"
    return "" if view.nodes else "the graph has no nodes"


def view_blocks(view: GraphView, reason: str = "") -> Blocks:
    """Where the file lies, its tensors and its operators; before them why it is not drawn, where it is not."""
    blocks: list[Block] = []
    if why := reason or reason_not_drawn(view):
        blocks.append(Item("warn", "not drawn", f"{why}; here are its tensors and operators"))
    blocks += graph_blocks(view.graph)
    if view.highlight:
        numbers = view.highlight.values()
        scale = f"from {min(numbers):g} (light) to {max(numbers):g} (dark)"
        blocks.append(Facts((Cell("highlight"), Cell(f"{len(view.highlight)} of {view.nodes} nodes"), Cell(scale))))
    if view.output is not None:
        blocks.append(Facts((Cell("written"), Cell(path_text(view.output), mono=True, limit=200))))
    return blocks
