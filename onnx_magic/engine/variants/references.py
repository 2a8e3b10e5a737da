"""What a variant is held against: PyTorch where it can be had, else the float graph; and at which inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.generation.merging import USE_CACHE
from onnx_magic.engine.reference import reference_sides, run_reference
from onnx_magic.engine.validating import labelled_feeds
from onnx_magic.errors import OnnxMagicError, SourceError, UsageError
from onnx_magic.records.artifact import GraphFile
from onnx_magic.runtime.sessions import Session, open_session

if TYPE_CHECKING:
    from onnx_magic.engine.examples import Examples
    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.runtime.folder import OpenedFolder

Array: TypeAlias = np.ndarray[Any, Any]
Outputs: TypeAlias = Mapping[str, Array]

PYTORCH = "PyTorch"
FLOAT_GRAPH = "the float graph"
SEED = 20261
SIZES = (
    {"batch_size": 2},
    {"batch_size": 1},
    {"batch_size": 3, "sequence_length": 7, "past_sequence_length": 11, "encoder_sequence_length": 9},
    {"sequence_length": 33, "past_sequence_length": 20, "encoder_sequence_length": 40},
)
"""Sizes tried of a graph about which nothing was recorded; every other axis has `USUAL`."""

SHORT = {
    "batch_size": "batch",
    "sequence_length": "length",
    "past_sequence_length": "past",
    "encoder_sequence_length": "read",
}
"""What these axes are called in a label."""

OF_PAST = {"encoder_sequence_length_out": "encoder_sequence_length"}
"""Axes that have the size of another: the encoder's part of a past is as long as its states."""

USUAL = {"batch_size": 2, "sequence_length": 14, "height": 224, "width": 224, "num_choices": 2, "num_channels": 3}
OTHER = 4


@dataclass(frozen=True, eq=False)
class Reference:
    """One graph's reference.

    Args:
        name: `PyTorch`, or `the float graph`.
        run: Feed → outputs by name.
        cases: (label, feed) of the shapes to try.
        why: Why it is not PyTorch; empty where it is.
    """

    name: str
    run: Callable[[Mapping[str, Array]], Outputs]
    cases: Sequence[tuple[str, Mapping[str, Array]]]
    why: str = ""


def torch_sides(opened: OpenedFolder, live: FlatModel | None) -> tuple[dict[str, FlatModel], str]:
    """What PyTorch computes of each graph; and where there is none, why not.

    Args:
        opened: The folder of the parent.
        live: The model that was exported, while it is held.

    Raises:
        VerificationError: the live model's weights are no longer those that were exported.
    """
    if live is not None:
        return reference_sides(opened, live), ""
    try:
        return reference_sides(opened, None), ""
    except OnnxMagicError as error:
        return {}, error.what if isinstance(error, UsageError | SourceError) else "its weights are others by now"


def reference_for(
    opened: OpenedFolder, role: str, plain: GraphFile, side: FlatModel | None, why: str, examples: Examples | None
) -> Reference:
    """What the variant of one graph is held against.

    Args:
        opened: The folder of the parent.
        role: Which graph.
        plain: The graph of the plain export.
        side: The PyTorch side of that graph, where there is one.
        why: Why there is none.
        examples: The inputs that it was exported with, while they are held.
    """
    cases = labelled_feeds(examples) if examples is not None and role == "model" else _recorded(opened, role, plain)
    if side is not None:
        return Reference(PYTORCH, lambda feed: run_reference(side, feed), cases)
    session = Session(open_session(plain.path))
    return Reference(FLOAT_GRAPH, session.run, cases, why)


def _recorded(opened: OpenedFolder, role: str, graph: GraphFile) -> list[tuple[str, dict[str, Array]]]:
    """Feeds of the shapes at which the export was proven; of usual sizes where none were recorded.

    A merged decoder is tried at its first step and with a cache.
    """
    maker = FeedMaker(opened, graph)
    manifest = opened.manifest
    rows = manifest.validated.get("shapes", ()) if manifest is not None and role == "model" else ()
    names = {spec.name for spec in graph.inputs}
    found = []
    for seed, row in enumerate(rows):
        shapes = {name: tuple(shape) for name, shape in row.get("shapes", {}).items()}
        if names <= set(shapes):
            found.append((str(row.get("label")), maker.of_shapes(shapes, seed)))
    if found:
        return found
    axes = axes_of(graph)
    usual = [
        (", ".join(f"{SHORT[k]} {v}" for k, v in sizes.items() if k in axes), maker.at(sizes, seed))
        for seed, sizes in enumerate(SIZES)
    ]
    if not any(USE_CACHE in feed for _, feed in usual):
        return usual
    both = (("first step", False), ("with a cache", True))
    return [
        (f"{step}, {label}", {**feed, USE_CACHE: np.full_like(feed[USE_CACHE], value)})
        for step, value in both
        for label, feed in usual
    ]


def axes_of(graph: GraphFile) -> set[str]:
    """The dynamic axes of a graph's inputs; of a sum its parts."""
    dims = [dim for spec in graph.inputs for dim in spec.shape if isinstance(dim, str)]
    return {part.strip() for dim in dims for part in dim.split("+") if not part.strip().isdecimal()}


class FeedMaker:
    """Makes feeds of a graph from what its file and folder say: no model, no tokenizer of transformers.

    Token ids are random words of the vocabulary, masks hold padding in all rows but the first, floats are normal.
    """

    def __init__(self, opened: OpenedFolder, graph: GraphFile) -> None:
        self.graph = graph
        config = opened.config
        parts = (config.get("text_config") or {}, config.get("decoder") or {}, config)
        self.vocabulary = next((int(c["vocab_size"]) for c in parts if c.get("vocab_size")), 100)

    def at(self, sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        """A feed at these sizes of the axes."""
        known = {**USUAL, **sizes}
        known |= {axis: known[other] for axis, other in OF_PAST.items() if other in known}
        shapes = {
            spec.name: tuple(dim if isinstance(dim, int) else _size(dim, known) for dim in spec.shape)
            for spec in self.graph.inputs
        }
        return self.of_shapes(shapes, seed)

    def of_shapes(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
        """A feed of these shapes."""
        random = np.random.default_rng([SEED, seed])
        return {spec.name: self._values(spec.name, spec.dtype, shapes[spec.name], random) for spec in self.graph.inputs}

    def _values(self, name: str, dtype: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
        if dtype.startswith(("float", "bfloat")):
            return random.standard_normal(shape).astype(np.float32 if dtype == "bfloat16" else dtype)
        if dtype == "bool":
            return np.zeros(shape, bool)
        if name.endswith("mask"):
            return _padded(shape).astype(dtype)
        if name.endswith("ids") and "token_type" not in name and "position" not in name:
            return random.integers(min(5, self.vocabulary - 1), self.vocabulary, shape).astype(dtype)
        if "position" in name:
            return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape).astype(dtype)
        return np.zeros(shape, dtype)


def _padded(shape: tuple[int, ...]) -> Array:
    mask = np.ones(shape, np.int64)
    for row in range(1, shape[0] if len(shape) == 2 else 0):
        mask[row, max(1, shape[1] - row) :] = 0
    return mask


def _size(dim: str, known: Mapping[str, int]) -> int:
    """The size of a symbolic dimension: a name, or a sum of names and numbers."""
    parts = [part.strip() for part in re.split(r"\+", dim)]
    return sum(int(part) if part.isdecimal() else known.get(part, OTHER) for part in parts)
