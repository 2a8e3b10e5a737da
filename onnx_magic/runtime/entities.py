"""Entities from token labels: neighbouring tokens of one label make one entity, its words cut from the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnx_magic.records.results import Array
from onnx_magic.runtime.scoring import label_of, softmax
from onnx_magic.runtime.tokenizing import Encoded, Text

OUTSIDE = "O"
"""The label of tokens that belong to no entity."""


def find_entities(logits: Array, encoded: Encoded, labels: Mapping[int, str]) -> list[list[dict[str, Any]]]:
    """The entities of each sample, as Transformers' pipeline finds them with `aggregation_strategy="simple"`.

    Args:
        logits: [samples, tokens, labels].
        encoded: Where the tokens came from.
        labels: Names of the labels; `B-` begins an entity, `I-` goes on with it.
    """
    return [_entities(softmax(rows.astype(np.float64)), encoded, sample, labels) for sample, rows in enumerate(logits)]


def _entities(scores: Array, encoded: Encoded, sample: int, labels: Mapping[int, str]) -> list[dict[str, Any]]:
    tokens = [i for i in range(len(scores)) if not encoded.special[sample][i]]
    named = [(i, label_of(labels, int(scores[i].argmax())), float(scores[i].max())) for i in tokens]
    return [_entity(group, encoded, sample) for group in _groups(named) if group[0][1] != OUTSIDE]


def _groups(named: list[tuple[int, str, float]]) -> Iterator[list[tuple[int, str, float]]]:
    """Runs of tokens with one tag; a `B-` starts a new run even after its own kind."""
    group: list[tuple[int, str, float]] = []
    for token in named:
        if group and (_tag(token[1]) != _tag(group[-1][1]) or token[1].startswith("B-")):
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _entity(group: list[tuple[int, str, float]], encoded: Encoded, sample: int) -> dict[str, Any]:
    first, last = group[0][0], group[-1][0]
    start, end = encoded.offsets[sample][first][0], encoded.offsets[sample][last][1]
    text = _text_of(encoded.texts[sample], encoded.sequence_ids[sample][first])
    return {
        "entity_group": group[0][1].split("-", 1)[-1],
        "score": float(np.mean([score for _, _, score in group])),
        "word": text[start:end],
        "start": start,
        "end": end,
    }


def _tag(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _text_of(text: Text, sequence: int | None) -> str:
    return text if isinstance(text, str) else text[sequence or 0]
