"""An encoder-decoder, graph by graph, on what a person has: what each is fed while the first tokens are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.generation.caches import PAST, PRESENT
from onnx_magic.engine.generation.encoder_decoders import MASK, STATES
from onnx_magic.engine.generation.merging import USE_CACHE
from onnx_magic.errors import UsageError
from onnx_magic.runtime.feeds import numpy_dtype
from onnx_magic.runtime.generation_settings import settings_of

if TYPE_CHECKING:
    from onnx_magic.records.artifact import GraphFile
    from onnx_magic.records.plan import TensorSpec
    from onnx_magic.runtime.folder import OpenedFolder

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Array]

STEPS = 8
"""Tokens that are written: enough for a past, few enough to be quick."""


def walk(
    opened: OpenedFolder, feed: Feed, run: Callable[[str, Feed], Feed], steps: int = STEPS
) -> Iterator[tuple[str, dict[str, Array], Feed]]:
    """Role, feed and outputs of the encoder, then of each greedy step of the decoder behind it.

    Args:
        opened: An exported encoder-decoder.
        feed: The encoder's inputs.
        run: Runs the graph of a role, in PyTorch or in ONNX Runtime: its outputs lead the way.
        steps: Tokens to write.

    Raises:
        UsageError: its graphs are no encoder and a decoder that writes tokens.
    """
    graphs = opened.graphs
    if not all(any(spec.name == name for spec in specs) for name, specs in _needed(opened)):
        raise UsageError(
            f"{opened.name} holds {', '.join(graphs)}: expected an encoder and a decoder that writes tokens",
            fix="onnx_magic.load(<one .onnx file>)",
        )
    reads = next(role for role, graph in graphs.items() if graph is opened.reading)
    told = run(reads, feed)
    yield reads, dict(feed), told
    states = next(iter(told.values()))
    mask = feed.get("attention_mask")
    if mask is None or mask.shape != states.shape[:2]:
        mask = np.ones(states.shape[:2], np.int64)
    ids = np.full((len(states), 1), settings_of(opened, {}).start or 0, np.int64)
    known: dict[str, Array] = {MASK: mask, STATES: states}
    first, later = _roles(graphs, reads)
    for step in range(steps):
        role = later if step and later else first
        cached = any(spec.name.startswith(PAST) for spec in graphs[role].inputs)
        known["input_ids"] = ids[:, -1:] if cached else ids
        known[USE_CACHE] = np.array([step > 0])
        given = {spec.name: known.get(spec.name, _nothing(spec, len(ids))) for spec in graphs[role].inputs}
        outputs = run(role, given)
        yield role, given, outputs
        ids = np.concatenate([ids, outputs["logits"][:, -1:].argmax(axis=-1)], axis=1)
        for name, array in outputs.items():
            # With a cache the encoder's part comes out empty: that of the first step stays.
            if name.startswith(PRESENT) and len(array):
                known[name.replace(PRESENT, PAST, 1)] = array


def _needed(opened: OpenedFolder) -> tuple[tuple[str, Sequence[TensorSpec]], ...]:
    return ("input_ids", opened.graph.inputs), (STATES, opened.graph.inputs), ("logits", opened.graph.outputs)


def _roles(graphs: Mapping[str, GraphFile], reads: str) -> tuple[str, str | None]:
    """Which graph takes the first step, and which the later ones, where that is another."""
    decoders = [role for role in graphs if role != reads]
    past = [role for role in decoders if any(spec.name.startswith(PAST) for spec in graphs[role].inputs)]
    plain = [role for role in decoders if role not in past]
    return (plain or past)[0], past[0] if past and plain else None


def _nothing(spec: TensorSpec, batch: int) -> Array:
    """A past without tokens."""
    sizes = [dim if isinstance(dim, int) else 0 for dim in spec.shape]
    return np.zeros([batch, *sizes[1:]], numpy_dtype(spec.dtype))
