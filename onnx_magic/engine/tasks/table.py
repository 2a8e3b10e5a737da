"""What a row of the task tables says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Modality: TypeAlias = Literal["text", "image", "audio"]
Meaning: TypeAlias = Literal["label", "token-label", "span", "mask-token", "choice", "token"]
Graphs: TypeAlias = Literal["one", "causal", "encoder-decoder"]
"""How a task is exported: one graph of the forward, a decoder with its key/value cache, an encoder and a decoder."""


@dataclass(frozen=True)
class Head:
    """One kind of model that does a task.

    Args:
        auto_class: The Transformers auto class that loads it.
        mapping: Name of the table in `transformers.models.auto.modeling_auto` that holds its classes.
        graphs: How many graphs it is exported as, and of which kind.
    """

    auto_class: str
    mapping: str
    graphs: Graphs = "one"


@dataclass(frozen=True)
class TaskRow:
    """One task: everything the engine needs to know of it.

    Args:
        name: Canonical name, as the Hub calls it.
        aliases: Other names that mean the same.
        auto_class: The Transformers auto class that loads its models.
        mapping: Name of the table in `transformers.models.auto.modeling_auto` whose classes do this task.
        modality: What the example inputs are made of.
        sample: What one sample is, for people.
        answer: What the decoded answer is, for people.
        meaning: Which discrete answer both sides must agree on; `None`: numbers only.
        examples: Samples that make the example inputs: unequal lengths, so that the batch is padded.
        extra_axes: Names of axes between batch and sequence (`num_choices`).
        graphs: How many graphs, and of which kind: see `Graphs` and `engine.generation.kinds`.
        others: Other kinds of models that do this task.
    """

    name: str
    aliases: tuple[str, ...]
    auto_class: str
    mapping: str
    modality: Modality
    sample: str
    answer: str
    meaning: Meaning | None = None
    examples: tuple[object, ...] = ()
    extra_axes: tuple[str, ...] = ()
    graphs: Graphs = "one"
    others: tuple[Head, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        """All kinds of models that do this task, the usual one first."""
        return (Head(self.auto_class, self.mapping, self.graphs), *self.others)
