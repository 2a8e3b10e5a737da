"""The PyTorch side of each graph of a folder that generates, read off the names of the graphs' inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import FlatModel, Leaf
from onnx_magic.engine.generation.caches import PAST, PRESENT, CacheBinding, CacheShape, LayerShape, read_presents
from onnx_magic.engine.generation.encoder_decoders import (
    MASK,
    OF_DECODER,
    OF_ENCODER,
    STATES,
    BothBranches,
    TwoCaches,
    decoder_flat,
    encoder_flat,
)
from onnx_magic.engine.generation.merging import USE_CACHE

if TYPE_CHECKING:
    from onnx_magic.records.artifact import GraphFile
    from onnx_magic.records.plan import TensorSpec

_CACHED = re.compile(r"(past_key_values|present)\.(\d+)\.(?:(decoder|encoder)\.)?(key|value)")


def graph_sides(model: Any, graphs: Mapping[str, GraphFile]) -> dict[str, FlatModel]:
    """What PyTorch computes of each graph: the decoder with its cache, the encoder, the decoder's first step.

    Args:
        model: The whole model.
        graphs: The folder's graphs, by role.

    Returns:
        By role; empty where the graphs are no generator's with a cache or parts.
    """
    if len(graphs) == 1:
        return {role: _decoder(model, graph) for role, graph in graphs.items() if _caches(graph.inputs, PAST)}
    if not hasattr(model, "get_encoder"):
        return {}
    return {
        role: _decoder_of_states(model, graph) if STATES in _names(graph) else encoder_flat(model, _names(graph))
        for role, graph in graphs.items()
    }


def _names(graph: GraphFile) -> tuple[str, ...]:
    return tuple(spec.name for spec in graph.inputs)


def _decoder(model: Any, graph: GraphFile) -> FlatModel:
    """A decoder alone, with a past."""
    shape = _caches(graph.inputs, PAST)
    assert shape is not None
    plain = {name: Leaf(name) for name in _names(graph) if not _CACHED.fullmatch(name)}
    kwargs = {**plain, PAST: shape.pairs(), "use_cache": True, "return_dict": True}
    return FlatModel(model, CacheBinding((), kwargs), read_presents)


def _decoder_of_states(model: Any, graph: GraphFile) -> FlatModel:
    """The decoder of an encoder-decoder: its first step, a step with a cache, or both in one."""
    names = _names(graph)
    masked = MASK in names
    past, made = _caches(graph.inputs, PAST), _caches(graph.outputs, PRESENT)
    if past is None:
        return decoder_flat(model, made, masked=masked, past=False)
    cached = decoder_flat(model, past, masked=masked, past=True, crossed=False)
    if USE_CACHE not in names:
        return cached
    return BothBranches(decoder_flat(model, past, masked=masked, past=False), cached, past)


def _caches(specs: Sequence[TensorSpec], root: str) -> TwoCaches | None:
    """The cache that these tensors are; `None` where there is none."""
    found: dict[str, dict[int, dict[str, tuple[int, int]]]] = {}
    dtype = "float32"
    for spec in specs:
        match = _CACHED.fullmatch(spec.name)
        if match is None or match[1] != root:
            continue
        heads, size = (dim if isinstance(dim, int) else 0 for dim in (spec.shape[1], spec.shape[3]))
        found.setdefault(match[3] or OF_DECODER, {}).setdefault(int(match[2]), {})[match[4]] = (heads, size)
        dtype = spec.dtype
    if OF_DECODER not in found:
        return None
    shapes = {
        role: CacheShape(tuple(LayerShape(kinds["key"], kinds["value"]) for _, kinds in sorted(layers.items())), dtype)
        for role, layers in found.items()
    }
    return TwoCaches(shapes[OF_DECODER], shapes.get(OF_ENCODER))
