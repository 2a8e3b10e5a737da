"""The graphs of an encoder-decoder as Parts: what is traced, how the axes are named, and the walks that prove them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.examples import BATCH, PAST, SEED, SEQUENCE, TOTAL, Examples, read_vocabulary
from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.generation.caches import PAST as PAST_NAME
from onnx_magic.engine.generation.caches import PRESENT
from onnx_magic.engine.generation.encoder_decoders import (
    LAST_HIDDEN,
    MASK,
    OF_DECODER,
    OF_ENCODER,
    STATES,
    BothBranches,
    TwoCaches,
    decoder_config,
    decoder_flat,
    encoder_flat,
    read_caches,
    reads_mask,
)
from onnx_magic.engine.generation.merging import USE_CACHE
from onnx_magic.engine.generation.parts import Part, Step
from onnx_magic.engine.inputs import encoder_candidates, first_that_runs
from onnx_magic.engine.probing import Probe, probe
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.errors import ExportError

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.sources import ModelSource

Array: TypeAlias = np.ndarray[Any, Any]

ENCODER_SEQUENCE = "encoder_sequence_length"
PAST_ENCODER_SEQUENCE = "encoder_sequence_length_out"
"""Length of the encoder's part of a past: 0 before the first step, where the encoder's states have theirs already."""

TRACED = {BATCH: 2, SEQUENCE: 3, PAST: 5}
"""Sizes that are traced, all different."""

STEPS = 3
ENCODER, DECODER, LATER = "encoder", "decoder", "decoder_with_past"


def encoder_decoder_parts(source: ModelSource, request: ExportRequest) -> tuple[Part, ...]:
    """The encoder, and the decoder as one graph or as the two that are merged.

    Raises:
        InputsError: the encoder's inputs cannot be made up, or it raises on them.
        ExportError: it is no encoder-decoder, or its state is no key/value cache.
    """
    if not getattr(source.config, "is_encoder_decoder", False) or not hasattr(source.model, "get_encoder"):
        raise ExportError(
            f"{source.architecture} is no encoder-decoder: {source.task} is exported as an encoder and a decoder",
            fix="task=feature-extraction",
            stage="plan",
        )
    found, flat = first_that_runs(
        ((encoder_flat(source.model, tuple(e.traced)), e) for e in encoder_candidates(source)),
        lambda flat, examples: (probe(flat, examples), flat),
        source.architecture,
    )
    encoder = Part(ENCODER, flat, found.examples, found.output_axes, None)
    states = to_tensors({"": found.outputs[LAST_HIDDEN]})[""].to(flat.device)
    masked = reads_mask(source, states)
    if not request.cache:
        makes = Maker(source, found, flat, None, masked, past=False)
        return encoder, makes.part(DECODER, decoder_flat(source.model, None, masked=masked, past=False))
    shape = read_caches(source, states)
    cached = decoder_flat(source.model, shape, masked=masked, past=True, crossed=False)
    if shape.crossed is None:
        return encoder, Maker(source, found, flat, shape, masked, past=True).part(DECODER, cached)
    first = decoder_flat(source.model, shape, masked=masked, past=False)
    later = Maker(source, found, flat, shape, masked, past=True, first=None if request.merge else first)
    return (
        encoder,
        later.part(LATER, cached),
        Maker(source, found, flat, shape, masked, past=False).part(DECODER, first),
    )


def merged_part(first: Part, cached: Part) -> Part:
    """The graph that both decoder graphs become, as it is run and proven."""
    makes = first.maker
    assert isinstance(makes, Maker) and makes.shape is not None
    both = Maker(makes.source, makes.encoder, makes.encoder_flat, makes.shape, makes.masked, past=True, merged=True)
    return both.part(DECODER, BothBranches(first.flat, cached.flat, makes.shape))


def decoder_limit(source: ModelSource) -> int | None:
    """How many tokens the decoder's table of positions holds; `None` where it has none."""
    config = decoder_config(source)
    names = ("max_target_positions", "max_position_embeddings", "n_positions")
    return next((n for name in names if isinstance(n := getattr(config, name, None), int) and n > 0), None)


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes inputs of a decoder, from what the encoder really gives.

    Args:
        source: The model.
        encoder: The encoder's examples and which of its axes move.
        encoder_flat: The encoder.
        shape: The decoder's cache; `None` for a graph without.
        masked: Whether the encoder's mask is an input.
        past: Whether a past is one.
        merged: Whether both are, and `use_cache_branch` chooses.
        first: Of a graph that cannot take the first step and is not merged: what takes it.
    """

    source: ModelSource
    encoder: Probe
    encoder_flat: FlatModel
    shape: TwoCaches | None
    masked: bool
    past: bool
    merged: bool = False
    first: FlatModel | None = None

    def part(self, role: str, flat: FlatModel) -> Part:
        """The Part of a decoder graph."""
        return Part(role, flat, self.examples(), self.output_axes(), self.walk, maker=self)

    def states(self, batch: int, seed: int) -> dict[str, Array]:
        """The encoder's states, and its mask where the decoder takes it; all rows but the first are padded."""
        given = self.encoder.examples.make({**self.encoder.examples.sizes, BATCH: batch}, seed)
        states = to_arrays(self.encoder_flat.run(to_tensors(given)))[LAST_HIDDEN]
        if not self.masked:
            return {STATES: states}
        mask = given.get("attention_mask")
        if mask is None or mask.shape != states.shape[:2]:
            mask = np.ones(states.shape[:2], np.int64)
            mask[1:, -(states.shape[1] // 3) :] = 0
        return {MASK: mask, STATES: states}

    def ids(self, batch: int, length: int, seed: int) -> Array:
        """Token ids for the decoder: words alone, no padding."""
        vocabulary = read_vocabulary(decoder_config(self.source), None)
        words = np.setdiff1d(np.arange(vocabulary.size), sorted(vocabulary.special))
        return np.random.default_rng([SEED, seed, batch, length]).choice(words, (batch, length)).astype(np.int64)

    def caches(self, batch: int, past: int, encoder: int, seed: int) -> dict[str, Array]:
        """Keys and values of a past: normal noise."""
        if self.shape is None:
            return {}
        random = np.random.default_rng([SEED, seed, batch, past])
        theirs = {name for name, _ in self.shape.names(PAST_NAME, role=OF_ENCODER)}
        return {
            name: random.standard_normal((batch, heads, encoder if name in theirs else past, size)).astype(
                self.shape.own.dtype
            )
            for name, (heads, size) in self.shape.names(PAST_NAME)
        }

    def make(self, sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        """Inputs at these sizes, with a cache where the graph takes one."""
        batch = sizes[BATCH]
        given = self.states(batch, seed)
        feed = {"input_ids": self.ids(batch, sizes[SEQUENCE], seed), **given}
        if self.past:
            feed |= self.caches(batch, sizes[PAST], given[STATES].shape[1], seed)
        if self.merged:
            feed[USE_CACHE] = np.array([True])
        return feed

    def examples(self) -> Examples:
        """The inputs that are traced."""
        sizes = TRACED if self.past else {BATCH: TRACED[BATCH], SEQUENCE: TRACED[SEQUENCE]}
        traced = self.make(sizes, 0)
        axes: dict[str, dict[int, str]] = {"input_ids": {0: BATCH, 1: SEQUENCE}}
        axes |= {name: {0: BATCH, 1: ENCODER_SEQUENCE} for name in (MASK, STATES) if name in traced}
        if self.past and self.shape is not None:
            crossed = PAST_ENCODER_SEQUENCE if self.merged else ENCODER_SEQUENCE
            axes |= {name: {0: BATCH, 2: PAST} for name, _ in self.shape.names(PAST_NAME, role=OF_DECODER)}
            axes |= {name: {0: BATCH, 2: crossed} for name, _ in self.shape.names(PAST_NAME, role=OF_ENCODER)}
        limit = decoder_limit(self.source)
        limits = {SEQUENCE: limit - sizes.get(PAST, 0)} if limit else {}
        return Examples(traced, axes, self.make, "task", limits, padded=self.masked)

    def output_axes(self) -> dict[str, dict[int, str]]:
        """The outputs' axes."""
        axes: dict[str, dict[int, str]] = {"logits": {0: BATCH, 1: SEQUENCE}}
        if self.shape is not None:
            total = TOTAL if self.past else SEQUENCE
            axes |= {name: {0: BATCH, 2: total} for name, _ in self.shape.names(PRESENT, role=OF_DECODER)}
            theirs = self.shape.names(PRESENT, role=OF_ENCODER) if self.merged or not self.past else ()
            axes |= {name: {0: BATCH, 2: ENCODER_SEQUENCE} for name, _ in theirs}
        return axes

    def walk(self) -> Generator[Step, Mapping[str, Array], None]:
        """The traced inputs, others like them; then first tokens, and the steps after them."""
        sizes = self.examples().sizes
        yield Step("traced", self.make(sizes, 0), None)
        for seed in (1, 2):
            yield Step(f"other values {seed}", self.make(sizes, seed))
        padded = ", padded encoder inputs" if self.masked else ""
        for seed, (batch, length) in enumerate(((1, 1), (3, 1), (3, 4)), start=3):
            shown = f"batch {batch}" + (padded if batch > 1 else "")
            yield from self._sequence(batch, length, seed, shown)

    def _sequence(self, batch: int, length: int, seed: int, shown: str) -> Generator[Step, Mapping[str, Array], None]:
        """The first tokens, and single ones after them."""
        states = self.states(batch, seed)
        past = self.caches(batch, 0, 0, seed) if self.past else {}
        first = {"input_ids": self.ids(batch, length, seed), **states}
        if self.merged:
            first[USE_CACHE] = np.array([False])
        sizes = {BATCH: batch, SEQUENCE: length, PAST: 0}
        if self.past and not self.merged and self.shape is not None and self.shape.crossed is not None:
            if self.first is None:
                return  # the merged graph is walked from its first step on
            outputs: Mapping[str, Array] = to_arrays(self.first.run(to_tensors(first)))
        else:
            outputs = yield Step(f"prefill of {length}, {shown}", {**first, **past}, sizes)
        for number in range(1, STEPS + 1 if self.past else 1):
            known = {n.replace(PRESENT, PAST_NAME, 1): a for n, a in outputs.items() if n.startswith(PRESENT)}
            past |= {name: array for name, array in known.items() if array.shape[0]}
            feed = {"input_ids": self.ids(batch, 1, 10 * seed + number), **states, **past}
            if self.merged:
                feed[USE_CACHE] = np.array([True])
            sizes = {BATCH: batch, SEQUENCE: 1, PAST: length + number - 1}
            outputs = yield Step(f"step {number}, {shown}", feed, sizes)
