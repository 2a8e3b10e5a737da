"""Scores from logits: the few functions that every decoder shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_magic.records.results import Array


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis.

    Example:
        >>> softmax(np.zeros((1, 2))).tolist()
        [[0.5, 0.5]]
    """
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    """One probability per logit."""
    return np.asarray(0.5 * (1.0 + np.tanh(logits / 2)))  # 1 / (1 + exp(-x)), without overflow


def best(scores: Array, count: int) -> list[int]:
    """Indices of the `count` largest of a row, the largest first; the earlier one first at a tie."""
    return [int(i) for i in np.argsort(-scores, kind="stable")[:count]]


def logits_of(outputs: Mapping[str, Array], rank: int) -> Array | None:
    """The logits: the output of that name, else the first one; `None` when it has another rank."""
    values = outputs.get("logits", next(iter(outputs.values()), None))
    if values is None or values.ndim != rank:
        return None
    return values


def label_of(labels: Mapping[int, str], index: int) -> str:
    """The label, or `LABEL_3` where the model names none."""
    return labels.get(index, f"LABEL_{index}")
