"""Example inputs at any size: from a tokenizer, a config, or the user's own call.

An `Examples` makes the inputs that are traced, and others like them at other sizes, seeded, so that a graph can be
checked at shapes it never saw. `text_examples` and `image_examples` need no user code; `given_examples` resamples what
the user gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.records.plan import DecidedBy

Array: TypeAlias = np.ndarray[Any, Any]
Maker: TypeAlias = Callable[[Mapping[str, int], int], dict[str, Array]]

SEED = 20260

BATCH = "batch_size"
SEQUENCE = "sequence_length"
HEIGHT, WIDTH = "height", "width"
PAST = "past_sequence_length"
TOTAL = f"{PAST} + {SEQUENCE}"


def follows(name: str) -> bool:
    """Whether an axis name is an expression of others, so that its size follows from theirs.

    Example:
        >>> follows("past_sequence_length + sequence_length"), follows("batch_size")
        (True, False)
    """
    return " + " in name


@dataclass(frozen=True, eq=False)
class Examples:
    """The example inputs, and how to make others.

    Args:
        traced: The inputs that are traced: `{name: array}`, padded where they can be, batch 2 or more.
        axes: Name of every axis that may move: `{input: {axis: name}}`. The same name means the same size.
        make: Other inputs: `make({axis name: size}, seed)`; an axis that is not named keeps its traced size.
        by: Who decided them.
        limits: Largest legal size by axis name, where the config tells.
        named: Whether the axes' meanings are known (a task's row); otherwise the probe groups and names them.
        padded: Whether `traced` holds padding.
        moved: Axes at which recorded calls differed; then only these (and what moves with them) are dynamic.
    """

    traced: Mapping[str, Array]
    axes: Mapping[str, Mapping[int, str]]
    make: Maker
    by: DecidedBy
    limits: Mapping[str, int] = field(default_factory=dict)
    named: bool = True
    padded: bool = False
    moved: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """The traced size of every axis that may move by itself."""
        return {
            name: self.traced[tensor].shape[axis]
            for tensor, moving in self.axes.items()
            for axis, name in moving.items()
            if not follows(name)
        }

    @property
    def batch(self) -> str:
        """The name of the batch axis: the one that is axis 0 of every input it stands in."""
        places: dict[str, set[int]] = {}
        for moving in self.axes.values():
            for axis, name in moving.items():
                places.setdefault(name, set()).add(axis)
        return next((name for name, axes in places.items() if axes == {0}), BATCH)

    def at(self, seed: int = 0, **sizes: int) -> dict[str, Array]:
        """Other inputs, at the traced size except where `sizes` says otherwise."""
        return self.make(self.sizes | sizes, seed)


@dataclass(frozen=True)
class Vocabulary:
    """What random token ids need to look like real ones.

    Args:
        size: Number of ids.
        first: Id a row starts with (BOS, CLS), if any.
        last: Id a row ends with (EOS, SEP), if any.
        pad: Id of padding.
        special: Ids that stand for no word.
        left: Whether padding goes on the left.
    """

    size: int
    first: int | None
    last: int | None
    pad: int
    special: frozenset[int]
    left: bool = False

    def rows(self, count: int, length: int, seed: int) -> tuple[Array, Array]:
        """Random ids and their attention mask, shape (count, length) each; all rows but the first are padded.

        Rows start and end as a tokenizer's would: some heads look for EOS, or for the last token that is not padding.
        """
        random = np.random.default_rng([SEED, seed, count, length])
        words = np.setdiff1d(np.arange(self.size), sorted(self.special))
        ids = random.choice(words, (count, length)).astype(np.int64)
        mask = np.ones((count, length), np.int64)
        for row in range(count):
            kept = length if row == 0 else max(min(3, length), length - 1 - (row * 2) % max(1, length // 2))
            if self.first is not None:
                ids[row, 0] = self.first
            if self.last is not None and kept > 1:
                ids[row, kept - 1] = self.last
            ids[row, kept:], mask[row, kept:] = self.pad, 0
            if self.left:
                ids[row], mask[row] = np.roll(ids[row], length - kept), np.roll(mask[row], length - kept)
        return ids, mask


def read_vocabulary(config: Any, tokenizer: Any | None) -> Vocabulary:
    """The vocabulary, from the tokenizer where there is one, else from the config."""

    def from_either(*names: str) -> int | None:
        for name in names:
            for holder in (tokenizer, config):
                value = getattr(holder, f"{name}_token_id", None)
                if isinstance(value, int):
                    return value
        return None

    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text_config, "vocab_size", None) or len(tokenizer or ()) or 256
    first, last, pad = from_either("cls", "bos"), from_either("eos", "sep"), from_either("pad")
    named = [first, last, pad, from_either("bos"), from_either("eos"), from_either("sep"), from_either("mask")]
    special = {i for i in (*named, *getattr(tokenizer, "all_special_ids", ())) if i is not None and i < size}
    if len(special) >= size - 1:
        special = set()
    return Vocabulary(
        size=size,
        first=first if first is not None and first < size else None,
        last=last if last is not None and last < size else None,
        pad=pad if pad is not None and pad < size else 0,
        special=frozenset(special),
        left=getattr(tokenizer, "padding_side", "right") == "left",
    )


def text_examples(
    config: Any,
    tokenizer: Any | None,
    names: tuple[str, ...],
    texts: tuple[object, ...],
    *,
    choices: bool = False,
    batch: int = 2,
) -> Examples:
    """Example inputs of a text model.

    Args:
        names: The inputs to make, of `input_ids`, `attention_mask`, `token_type_ids`, in the order of the forward.
        texts: Samples to tokenize; used when there is a tokenizer, otherwise random ids of the config's vocabulary.
        choices: Whether an axis `num_choices` stands between batch and sequence.
        batch: Rows of the traced batch.
    """
    vocabulary = read_vocabulary(config, tokenizer)
    limit = longest_sequence(config, tokenizer)
    middle = {1: "num_choices"} if choices else {}
    axes = {name: {0: BATCH, **middle, (2 if choices else 1): SEQUENCE} for name in names}
    types = int(getattr(config, "type_vocab_size", 0) or 0)

    def make(sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        shape = (sizes[BATCH], sizes["num_choices"]) if choices else (sizes[BATCH],)
        ids, mask = vocabulary.rows(int(np.prod(shape)), sizes[SEQUENCE], seed)
        half = np.arange(sizes[SEQUENCE]) >= sizes[SEQUENCE] // 2
        arrays = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": mask * half if types > 1 else np.zeros_like(ids),
        }
        return {name: arrays[name].reshape(*shape, sizes[SEQUENCE]) for name in names}

    traced = _tokenized(tokenizer, texts, names, limit, choices) if tokenizer is not None else None
    by: DecidedBy = "task" if traced is not None else "config"
    if traced is None or traced["input_ids"].shape[0] != batch:
        traced = make({BATCH: batch, "num_choices": 2, SEQUENCE: min(16, limit or 16)}, seed=0)
    padded = "attention_mask" in traced and not traced["attention_mask"].all()
    limits = {SEQUENCE: limit} if limit else {}
    return Examples(traced, axes, make, by, limits, padded=bool(padded))


def longest_sequence(config: Any, tokenizer: Any | None) -> int | None:
    """The longest sequence: the tokenizer's limit, else what the position table holds."""
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    table = next(
        (
            value
            for name in ("max_position_embeddings", "n_positions", "max_source_positions", "max_seq_len")
            if isinstance(value := getattr(text_config, name, None), int) and value > 0
        ),
        None,
    )
    stated = getattr(tokenizer, "model_max_length", None)
    known = [n for n in (table, stated) if isinstance(n, int) and 0 < n < 10**6]
    return min(known) if known else None


def _tokenized(
    tokenizer: Any, texts: tuple[object, ...], names: tuple[str, ...], limit: int | None, choices: bool
) -> dict[str, Array] | None:
    """The samples through the tokenizer, padded to the longest; `None` when it has no padding token."""
    if getattr(tokenizer, "pad_token_id", None) is None:
        return None
    mask_token = getattr(tokenizer, "mask_token", None) or "it"
    samples = [_filled(text, mask_token) for text in texts]
    if choices:
        pairs = [(prompt, choice) for prompt, options in samples for choice in options]
    firsts, seconds = samples, None
    if choices:
        firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    elif all(isinstance(sample, tuple) for sample in samples):
        firsts, seconds = [s[0] for s in samples], [s[1] for s in samples]
    encoded = tokenizer(
        firsts,
        seconds,
        padding=True,
        truncation=limit is not None,
        max_length=limit,
        return_tensors="np",
        return_attention_mask=True,
        return_token_type_ids="token_type_ids" in names,
    )
    width = encoded["input_ids"].shape[-1]
    shape = (len(samples), -1, width) if choices else (len(samples), width)
    if any(name not in encoded for name in names):
        return None
    return {name: encoded[name].astype(np.int64).reshape(shape) for name in names}


def _filled(text: Any, mask_token: str) -> Any:
    if isinstance(text, tuple):
        return tuple(_filled(part, mask_token) for part in text)
    return text.replace("{mask}", mask_token)


def image_examples(
    name: str, channels: int, size: tuple[int, int], by: DecidedBy, *, batch: int = 2, dtype: str = "float32"
) -> Examples:
    """Example inputs of an image model: normal noise, shape (batch, channels, height, width)."""

    def make(sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        shape = (sizes[BATCH], channels, sizes[HEIGHT], sizes[WIDTH])
        return {name: np.random.default_rng([SEED, seed, *shape]).standard_normal(shape).astype(dtype)}

    traced = make({BATCH: batch, HEIGHT: size[0], WIDTH: size[1]}, seed=0)
    return Examples(traced, {name: {0: BATCH, 2: HEIGHT, 3: WIDTH}}, make, by)


def given_examples(
    traced: Mapping[str, Array], axes: Mapping[str, Mapping[int, str]], *, by: DecidedBy = "user", named: bool = False
) -> Examples:
    """The user's own inputs; others like them are resampled from their values.

    Floats are drawn anew from the values given, so that they stay in range; integers and booleans repeat in their
    order, so that masks, lengths and special tokens keep their meaning. Tensors and masks of one name stay in step.
    """

    def make(sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        random = np.random.default_rng([SEED, seed])
        return {name: _resized(array, axes.get(name, {}), sizes, random, seed) for name, array in traced.items()}

    return Examples(dict(traced), axes, make, by, named=named)


def _resized(
    array: Array, axes: Mapping[int, str], sizes: Mapping[str, int], random: np.random.Generator, seed: int
) -> Array:
    shape = tuple(sizes.get(axes[i], n) if i in axes else n for i, n in enumerate(array.shape))
    if np.issubdtype(array.dtype, np.floating) or array.dtype.kind == "V":
        return _drawn(array, shape, random).astype(array.dtype)
    for axis, size in enumerate(shape):
        start = seed if axis in axes else 0
        array = np.take(array, (np.arange(size) + start) % max(1, array.shape[axis]), axis)
    return array


def _drawn(array: Array, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Values like those of `array`; where all of these are equal (`torch.ones(...)`, a dummy), normal noise.

    Measurements (all different) are drawn from between the values given, so that none repeats: a tie would leave
    `topk` and `argsort` more than one right answer. Codes (0.0 and 1.0, -inf) keep their values.
    """
    values = array.reshape(-1)
    if not values.size:
        return np.zeros(shape, array.dtype)
    if (values == values[0]).all() and values.size > 1:
        return np.asarray(random.standard_normal(shape))
    distinct = np.unique(values.astype(np.float64))
    if distinct.size < values.size or not np.isfinite(distinct).all() or (distinct == np.round(distinct)).all():
        return np.asarray(random.choice(values, shape))
    return np.asarray(np.interp(random.random(shape), np.linspace(0, 1, distinct.size), distinct))
