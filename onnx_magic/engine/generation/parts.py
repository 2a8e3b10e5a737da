"""One graph of a generator before it is converted: a flat model with named tensors, and how it is proven."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.examples import Examples
from onnx_magic.engine.flat import FlatModel

if TYPE_CHECKING:
    import torch

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Step:
    """One run of a graph in its proof.

    Args:
        label: What it is: `prefill, batch 3, left-padded`.
        feed: The inputs by name.
        sizes: The axes' sizes; empty: the traced ones, with other values. `None`: the traced inputs themselves.
        counted: Which positions count: `{root of the output's name: mask that broadcasts against it}`. Padded positions
            hold what no reader may use.
    """

    label: str
    feed: Mapping[str, Array]
    sizes: Mapping[str, int] | None = field(default_factory=dict)
    counted: Mapping[str, Array] = field(default_factory=dict)


Walk: TypeAlias = Callable[[], Generator[Step, Mapping[str, Array], None]]
"""The runs of a proof, in order; PyTorch's outputs of a step are sent back, for the next one to start from."""


@dataclass(frozen=True, eq=False)
class Part:
    """One graph of a generator.

    Args:
        role: `model`, `encoder`, `decoder`: a key of `engine.storing.GRAPH_FILES`.
        flat: The model as a function of the graph's inputs, named as optimum and transformers.js name them.
        examples: Inputs that are traced, with the axes named.
        output_axes: The outputs' axes: `{output: {axis: name}}`.
        walk: The runs that prove it; `None`: it is proven as a graph of one forward is.
        maker: What made its inputs, for graphs that are put together from this one.
    """

    role: str
    flat: FlatModel
    examples: Examples
    output_axes: Mapping[str, Mapping[int, str]]
    walk: Walk | None
    maker: Any = None


@dataclass(frozen=True, eq=False)
class Prompt:
    """What `generate` is given in the proof by tokens: one row, or a batch.

    Args:
        inputs: Keyword arguments of `generate`: `{"input_ids": ..., "attention_mask": ...}`.
        room: How many new tokens the model's positions leave; `None`: no limit is known.
        options: More arguments of `generate` that belong to it (a forced BOS).
    """

    inputs: Mapping[str, torch.Tensor]
    room: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many prompts there are in the batch."""
        return int(next(iter(self.inputs.values())).shape[0])
