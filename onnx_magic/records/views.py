"""A graph as it is looked at: all that a view needs, so that it stands when the model is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnx_magic.records.artifact import GraphFile


@dataclass(frozen=True)
class GraphView:
    """What `view` gives: it is shown as Netron's picture of the graph, and as tables where no picture can be.

    Args:
        graph: The file, its tensors and operators.
        model: The graph without its weights, as bytes of an .onnx file.
        nodes: Nodes of the main graph, those in subgraphs and functions not counted.
        highlight: Node name → number, which colours it.
        output: The HTML file that was written, if one was asked for.
    """

    graph: GraphFile
    model: bytes = field(repr=False)
    nodes: int
    highlight: Mapping[str, float] = field(default_factory=dict)
    output: Path | None = None
