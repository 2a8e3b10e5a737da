"""The PyTorch side of a comparison: the live source, the one the manifest names, or what the user hands over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.inputs import keyword_binding
from onnx_magic.engine.precision import widened
from onnx_magic.engine.sources import fingerprint_module, resolve_source
from onnx_magic.engine.state import comparable_attention, preserved
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

Array: TypeAlias = np.ndarray[Any, Any]


def reference_sides(opened: OpenedFolder, live: FlatModel | None, against: Any = None) -> dict[str, FlatModel]:
    """What PyTorch computes of each graph of a folder, by role.

    Args:
        opened: The exported folder.
        live: The model that was exported, while it is held.
        against: A model or checkpoint that the user hands over; its weights may be others.

    Raises:
        UsageError: no source is left and none was given.
        VerificationError: the source's weights are not those that were exported.
    """
    from onnx_magic.engine.generation.sides import graph_sides

    manifest = opened.manifest
    if against is not None:
        model = resolve_source(against, opened.task).model
    elif live is not None:
        model = live.model
    elif manifest is None or manifest.source is None:
        raise UsageError(
            f"{opened.name} has no live source to compare with", fix="exported.compare(inputs, against=model)"
        )
    else:
        model = resolve_source(_origin(opened.name, manifest.source), opened.task).model
    if against is None and manifest is not None and (now := fingerprint_module(model)) != manifest.fingerprint:
        raise VerificationError(
            f"the model has changed since the export: its weights are {now}, expected {manifest.fingerprint}",
            fix="exported = %onnx_export model",
        )
    sides = graph_sides(model, opened.graphs)
    if sides or len(opened.graphs) > 1:
        return sides
    names = tuple(spec.name for spec in opened.graph.inputs)
    own = live if live is not None and against is None else FlatModel(model, keyword_binding(model, names))
    return dict.fromkeys(opened.graphs, own)


def reference_model(opened: OpenedFolder, live: FlatModel | None, against: Any = None) -> FlatModel:
    """The model that ONNX Runtime is held against, as a function of the inputs of the graph that answers.

    Args:
        opened: The exported folder.
        live: The model that was exported, while it is held.
        against: A model or checkpoint that the user hands over; its weights may be others.

    Raises:
        UsageError: no source is left and none was given, or it has no side like that graph.
        VerificationError: the source's weights are not those that were exported.
    """
    sides = reference_sides(opened, live, against)
    role = next(role for role, graph in opened.graphs.items() if graph is opened.graph)
    if role not in sides:
        raise UsageError(
            f"PyTorch has no part like {opened.graph.path.name}: the model is no encoder-decoder",
            fix="exported.compare(inputs, against=model)",
        )
    return sides[role]


def _origin(name: str, origin: str) -> str:
    """What a manifest says its model came from, where that is a folder here or can only be a Hub id.

    Of a folder that was not below the current one its name alone is kept: that is not asked of the Hub.
    """
    if "/" not in origin and not Path(origin).is_dir():
        raise UsageError(
            f"{name} was exported from {origin!r}, and there is no such folder here",
            fix="exported.compare(inputs, against=model)  # a model, its folder, or a Hub id",
        )
    return origin


def run_reference(flat: FlatModel, feed: Mapping[str, Array]) -> dict[str, Array]:
    """What PyTorch gives for a feed: in eval mode, without gradients, bfloat16 widened, the model left as it was."""
    with widened(flat.model), preserved(flat.model), comparable_attention():
        return to_arrays(flat.run(to_tensors(feed)))
