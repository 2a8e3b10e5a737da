"""What a row of the task tables says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Modality: TypeAlias = Literal["text", "image"]
Meaning: TypeAlias = Literal["label", "token-label", "span", "mask-token", "choice", "token"]
Graphs: TypeAlias = Literal["one", "causal", "encoder-decoder"]
"""How a task is exported: one graph of the forward, a decoder with its key/value cache, an encoder and a decoder."""


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
