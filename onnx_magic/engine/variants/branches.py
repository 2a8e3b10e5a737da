"""A merged decoder's two branches as graphs of their own, and one file again: the quantizers leave subgraphs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.generation.merging import CACHED, FIRST, USE_CACHE, merge_decoders, take_branch
from onnx_magic.engine.packing import save_graph

if TYPE_CHECKING:
    import onnx_ir

_TITLES = {FIRST: "first step", CACHED: "with a cache"}


@dataclass(frozen=True)
class Piece:
    """What a quantizer is given at once: a graph, or one branch of a merged decoder.

    Args:
        path: Its file.
        name: What its working folder is called.
        title: What a step done to it is told of; empty for a graph that is the whole model.
        branch: `first` or `cached`; empty for a whole graph.
    """

    path: Path
    name: str
    title: str
    branch: str = ""

    def feeds(self, feeds: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those feeds of the whole graph that come to this branch, without what the branch does not take."""
        if not self.branch:
            return list(feeds)
        import onnx

        taken = {value.name for value in onnx.load(self.path, load_external_data=False).graph.input}
        mine = [feed for feed in feeds if bool(feed[USE_CACHE].all()) == (self.branch == CACHED)]
        return [{name: array for name, array in feed.items() if name in taken} for feed in mine]


def pieces_of(path: Path, role: str, operators: Mapping[str, int], work: Path, *, apart: bool) -> list[Piece]:
    """The graph itself; of a merged decoder its two branches, each as a file in `work`.

    Args:
        path: The graph's file.
        role: Its role in the folder.
        operators: How many nodes it has of each operator.
        work: Where the branches' files are written.
        apart: Whether branches are to be taken apart at all.
    """
    whole = Piece(path, role, "" if role == "model" else role)
    if not apart or "If" not in operators:
        return [whole]
    import onnx_ir

    pieces = []
    for branch, title in _TITLES.items():
        model = take_branch(onnx_ir.load(path), branch)
        if model is None:
            return [whole]
        name = f"{role}-{branch}"
        target = work / f"{name}-apart" / "model.onnx"
        target.parent.mkdir(parents=True)
        save_graph(model, target)
        pieces.append(Piece(target, name, f"{role}, {title}", branch))
    return pieces


def joined(models: Sequence[onnx_ir.Model], inputs: Sequence[str] = ()) -> onnx_ir.Model:
    """The graph that was changed, its branches in one file again: weights that both have stand there once.

    Args:
        models: What came of the pieces.
        inputs: Names of the whole graph's inputs, in order: a tool may have dropped one that a branch does not read.
    """
    if len(models) == 1:
        return models[0]
    first, cached = models
    model = merge_decoders(first, cached, {})
    places = {name: place for place, name in enumerate(inputs)}
    ordered = sorted(model.graph.inputs, key=lambda value: places.get(value.name or "", len(places)))
    model.graph.inputs.clear()
    model.graph.inputs.extend(ordered)
    return model
