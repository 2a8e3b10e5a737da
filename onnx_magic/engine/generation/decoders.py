"""The graph of a decoder: token ids and a past in, logits and the cache after them out.

One graph serves the prompt (a past of length 0) and every step after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.examples import (
    BATCH,
    PAST,
    SEED,
    SEQUENCE,
    TOTAL,
    Examples,
    Vocabulary,
    longest_sequence,
    read_vocabulary,
)
from onnx_magic.engine.flat import Binding, FlatModel, Leaf
from onnx_magic.engine.generation.caches import (
    PAST as PAST_NAME,
)
from onnx_magic.engine.generation.caches import (
    PRESENT,
    CacheBinding,
    CacheShape,
    cache_shape,
    read_presents,
)
from onnx_magic.engine.generation.parts import Part, Step
from onnx_magic.engine.tensors import to_arrays, to_tensors

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.sources import ModelSource

Array: TypeAlias = np.ndarray[Any, Any]

TRACED = {BATCH: 2, SEQUENCE: 3, PAST: 5}
"""Sizes that are traced, all different; a sequence of 1 makes some models choose another branch."""

PROMPT = 7
"""Tokens of the prompts in the proof of the graph."""

LONG = 40
"""Tokens of a longer one, where the positions allow it."""

STEPS = 3


def decoder_parts(source: ModelSource, request: ExportRequest) -> tuple[Part, ...]:
    """The one graph of a decoder.

    Raises:
        ExportError: the model's state is no key/value cache, and `cache` is on.
    """
    makes = _Maker(source, None)
    two = to_tensors(makes.tokens(1, 2, 0, "none", 0))
    flat = FlatModel(source.model, Binding(()))
    two = {name: tensor.to(flat.device) for name, tensor in two.items()}
    names = [name for name in ("input_ids", "attention_mask", "position_ids") if name in two]
    if not request.cache:
        kwargs: dict[str, Any] = {**{name: Leaf(name) for name in names}, "use_cache": False, "return_dict": True}
        flat = FlatModel(source.model, Binding((), kwargs), _logits_alone)
        return (_part(flat, _Maker(source, None)),)
    shape = cache_shape(source, two)
    pairs = tuple(
        tuple(Leaf(f"{PAST_NAME}.{number}.{kind}") for kind in ("key", "value")) for number in range(len(shape.layers))
    )
    kwargs = {**{name: Leaf(name) for name in names}, PAST_NAME: pairs, "use_cache": True, "return_dict": True}
    return (_part(FlatModel(source.model, CacheBinding((), kwargs), read_presents), _Maker(source, shape)),)


def _logits_alone(returned: Any) -> dict[str, Any]:
    return {"logits": returned.logits}


def _part(flat: FlatModel, makes: _Maker) -> Part:
    return Part("model", flat, makes.examples(), makes.output_axes(), makes.walk)


@dataclass(frozen=True)
class _Maker:
    """Makes inputs of a decoder.

    Args:
        source: The model.
        shape: Its cache; `None` for a graph without past.
    """

    source: ModelSource
    shape: CacheShape | None

    @property
    def vocabulary(self) -> Vocabulary:
        return read_vocabulary(self.source.config, self.source.tokenizer)

    @property
    def limit(self) -> int | None:
        return longest_sequence(self.source.config, None)

    def tokens(self, batch: int, length: int, past: int, padding: str, seed: int) -> dict[str, Array]:
        """Ids, mask and positions: `length` new tokens after `past` others.

        Args:
            padding: `none`, `left`, `right`: on which side of the past and the tokens together all rows but the first
                are padded; after the first step, on the right means between the prompt and what was generated.
        """
        random = np.random.default_rng([SEED, seed, batch, length, past])
        vocabulary = self.vocabulary
        words = np.setdiff1d(np.arange(vocabulary.size), sorted(vocabulary.special))
        mask = np.ones((batch, past + length), np.int64)
        for row in range(1, batch if padding != "none" else 0):
            gone = min(1 + (row + seed) % 3, past + length - 1)
            mask[row, :gone] = 0
        if padding == "right":
            mask = mask[:, ::-1].copy()
        ids = random.choice(words, (batch, length)).astype(np.int64)
        return self.placed(ids, mask)

    def placed(self, ids: Array, mask: Array) -> dict[str, Array]:
        """The inputs for ids under a mask, padding and positions filled in."""
        length = ids.shape[1]
        ids = np.where(mask[:, -length:] == 0, self.vocabulary.pad, ids)
        arrays = {"input_ids": ids, "attention_mask": mask}
        if takes_positions(self.source):
            arrays["position_ids"] = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, -length:]
        return arrays

    def past(self, batch: int, length: int, seed: int) -> dict[str, Array]:
        """Keys and values of a past: normal noise."""
        if self.shape is None:
            return {}
        random = np.random.default_rng([SEED, seed, batch, length])
        noise = {
            name: random.standard_normal((batch, heads, length, size)).astype(np.float32)
            for name, (heads, size) in self.shape.names(PAST_NAME)
        }
        return _as_dtype(noise, self.shape.dtype)

    def make(self, sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        """Inputs at these sizes, left-padded."""
        batch, length, past = sizes[BATCH], sizes[SEQUENCE], sizes.get(PAST, 0)
        return {**self.tokens(batch, length, past, "left", seed), **self.past(batch, past, seed)}

    def examples(self) -> Examples:
        """The inputs that are traced."""
        sizes = TRACED if self.shape is not None else {BATCH: 2, SEQUENCE: PROMPT}
        total = TOTAL if self.shape is not None else SEQUENCE
        traced = self.make(sizes, 0)
        axes = {name: {0: BATCH, 1: total if name == "attention_mask" else SEQUENCE} for name in traced}
        if self.shape is not None:
            axes |= {name: {0: BATCH, 2: PAST} for name, _ in self.shape.names(PAST_NAME)}
        limits = {SEQUENCE: self.limit - sizes.get(PAST, 0)} if self.limit else {}
        return Examples(traced, axes, self.make, "task", limits, padded=True)

    def output_axes(self) -> dict[str, dict[int, str]]:
        """The outputs' axes."""
        presents = self.shape.names(PRESENT) if self.shape is not None else ()
        return {"logits": {0: BATCH, 1: SEQUENCE}, **{name: {0: BATCH, 2: TOTAL} for name, _ in presents}}

    def walk(self) -> Generator[Step, Mapping[str, Array], None]:
        """The traced inputs, others like them, then prompts and the steps after them, padded on either side."""
        sizes = self.examples().sizes
        yield self._step("traced", self.make(sizes, 0), None)
        for seed in (1, 2):
            yield self._step(f"other values {seed}", self.make(sizes, seed), {})
        for seed, (batch, padding) in enumerate(((1, "none"), (3, "left"), (3, "right")), start=3):
            shown = f"batch {batch}" if padding == "none" else f"batch {batch}, {padding}-padded"
            yield from self._sequence(batch, PROMPT, padding, seed, shown)
        long = min(LONG, (self.limit or LONG + STEPS) - STEPS)
        if long > PROMPT:
            yield from self._sequence(1, long, "none", 9, f"length {long}")

    def _sequence(
        self, batch: int, length: int, padding: str, seed: int, shown: str
    ) -> Generator[Step, Mapping[str, Array], None]:
        """A prompt, and single tokens after it."""
        tokens = self.tokens(batch, length, 0, padding, seed)
        mask = tokens["attention_mask"]
        outputs = yield self._step(f"prefill, {shown}", {**tokens, **self.past(batch, 0, seed)})
        for number in range(1, STEPS + 1 if self.shape is not None else 1):
            mask = np.concatenate([mask, np.ones((batch, 1), np.int64)], axis=1)
            ids = self.tokens(batch, 1, 0, "none", 100 * seed + number)["input_ids"]
            past = {name.replace(PRESENT, PAST_NAME, 1): array for name, array in outputs.items() if name != "logits"}
            outputs = yield self._step(f"step {number}, {shown}", {**self.placed(ids, mask), **past})

    def _step(self, label: str, feed: Mapping[str, Array], sizes: Mapping[str, int] | None | str = "") -> Step:
        mask, length = feed["attention_mask"], feed["input_ids"].shape[1]
        if isinstance(sizes, str):
            sizes = {BATCH: mask.shape[0], SEQUENCE: length, PAST: mask.shape[1] - length}
        valid = mask.astype(bool)
        counted = {"logits": valid[:, -length:, None], PRESENT: valid[:, None, :, None]}
        return Step(label, feed, sizes, counted)


def takes_positions(source: ModelSource) -> bool:
    """Whether the model's forward takes position ids."""
    return "position_ids" in inspect.signature(source.model.forward).parameters


def _as_dtype(arrays: Mapping[str, Array], dtype: str) -> dict[str, Array]:
    """float32 arrays in a dtype of torch's, bfloat16 included."""
    import torch

    return to_arrays({name: t.to(getattr(torch, dtype)) for name, t in to_tensors(arrays).items()})
