"""Whether two backends answer the same: agreement of meaning, beside the agreement of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onnx_magic.records.results import Agreement, Array
from onnx_magic.runtime.spans import MAX_ANSWER_TOKENS, legal_spans

Outputs = Mapping[str, Array]
Scores = Callable[[Outputs, Array | None], Array | None]


def agreement(
    task: str | None, expected: Outputs, actual: Outputs, feed: Mapping[str, Array], atol: float
) -> Agreement | None:
    """How many answers (labels, tokens, spans, choices) are the same on both sides.

    A tie counts as agreed: the actual answer's score on the expected side lies within `2 * atol` of the best one's.
    Padding is left out. An answer whose actual scores hold NaN disagrees.

    Args:
        task: Canonical task.
        expected: PyTorch's outputs by name.
        actual: ONNX Runtime's outputs by name.
        feed: What both were fed; its `attention_mask` says what is padding.
        atol: Absolute tolerance of the logits.

    Returns:
        The count, or `None` where the task has no discrete answer, or its outputs are not there.

    Example:
        >>> one, two = {"logits": np.array([[0.0, 1.0]])}, {"logits": np.array([[1.0, 0.0]])}
        >>> str(agreement("text-classification", one, two, {}, 1e-4))
        'label 0/1'
    """
    kind, scores_of = _MEANINGS.get(task or "", ("", None))
    if scores_of is None:
        return None
    mask = feed.get("attention_mask")
    wanted = scores_of(expected, mask)
    if wanted is None or wanted.shape[-1] < 2:
        return None
    found = scores_of(actual, mask)
    if found is None or found.shape != wanted.shape:
        return Agreement(kind, 0, len(wanted))
    # Where PyTorch itself gives NaN there is no answer to agree on; the numbers' comparison says so.
    sound = ~np.isnan(wanted).any(axis=-1)
    wanted, found = wanted[sound], found[sound]
    chosen = found.argmax(axis=-1)
    close = np.take_along_axis(wanted, chosen[:, None], axis=-1)[:, 0] >= _floor(wanted.max(axis=-1), atol)
    agreed = close & ~np.isnan(found).any(axis=-1)
    return Agreement(kind, int(agreed.sum()), len(wanted))


def lead_changes(
    task: str | None, expected: Outputs, actual: Outputs, feed: Mapping[str, Array]
) -> tuple[Array, Array] | None:
    """Of every answer: how far the expected one leads its runner-up, and what the actual side adds to that lead.

    An answer changes where the two sum up to less than 0. Padding and rows that are not finite are left out.

    Returns:
        Both float[answers], or `None` where the task has no discrete answer, or its outputs are not there.

    Example:
        >>> one, two = {"logits": np.array([[0.0, 2.0]])}, {"logits": np.array([[1.5, 1.0]])}
        >>> lead_changes("text-classification", one, two, {})
        (array([2.]), array([-2.5]))
    """
    _, scores_of = _MEANINGS.get(task or "", ("", None))
    mask = feed.get("attention_mask")
    wanted, found = (scores_of(side, mask) if scores_of else None for side in (expected, actual))
    if wanted is None or found is None or wanted.shape != found.shape or wanted.shape[-1] < 2:
        return None
    pair = np.argpartition(wanted, -2, axis=-1)[:, -2:]
    lead, other = (np.take_along_axis(side, pair, axis=-1).astype(np.float64) for side in (wanted, found))
    with np.errstate(invalid="ignore"):
        lead, other = lead[:, 1] - lead[:, 0], other[:, 1] - other[:, 0]
    sound = np.isfinite(lead) & np.isfinite(other)
    return lead[sound], (other - lead)[sound]


def _floor(top: Array, atol: float) -> Array:
    """What counts as tied with `top`: both scores may be off by `atol`, and by rounding."""
    return np.asarray(top - 2 * atol - 1e-6 * np.abs(top))


def _widened(values: Array) -> Array:
    """float32 at the least: half-precision types cannot hold the tolerance. A vocabulary's logits are not copied."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _per_sample(outputs: Outputs, _mask: Array | None) -> Array | None:
    logits = outputs.get("logits")
    return None if logits is None or logits.ndim != 2 else _widened(logits)


def _per_token(outputs: Outputs, mask: Array | None) -> Array | None:
    logits = outputs.get("logits")
    if logits is None or logits.ndim != 3:
        return None
    return _widened(logits[_valid(mask, logits.shape[:2])])


def _per_frame(outputs: Outputs, _mask: Array | None) -> Array | None:
    """A mask over samples says nothing of frames: all of them are compared."""
    return _per_token(outputs, None)


def _valid(mask: Array | None, shape: tuple[int, ...]) -> Array:
    """Which positions are no padding: all of them where there is no mask of that shape.

    A decoder's mask covers the past too: the last of its columns are those of the tokens.
    """
    if mask is None or mask.ndim != 2 or mask.shape[0] != shape[0] or mask.shape[1] < shape[1]:
        return np.ones(shape, bool)
    return np.asarray(mask[:, mask.shape[1] - shape[1] :].astype(bool))


def _per_span(outputs: Outputs, mask: Array | None) -> Array | None:
    """[samples, tokens * tokens]: the score of every span, -inf for those that are none."""
    pair = [outputs.get(name) for name in ("start_logits", "end_logits")]
    start, end = pair
    if start is None or end is None or start.ndim != 2 or start.shape != end.shape:
        return None
    rows = []
    for row_start, row_end, row in zip(_widened(start), _widened(end), _valid(mask, start.shape), strict=True):
        first, last = np.where(row, row_start, -np.inf), np.where(row, row_end, -np.inf)
        rows.append(legal_spans(first, last, MAX_ANSWER_TOKENS).ravel())
    return np.stack(rows) if rows else None


_MEANINGS: Mapping[str, tuple[str, Scores]] = {
    "text-classification": ("label", _per_sample),
    "image-classification": ("label", _per_sample),
    "token-classification": ("token-label", _per_token),
    "fill-mask": ("mask-token", _per_token),
    "question-answering": ("span", _per_span),
    "multiple-choice": ("choice", _per_sample),
    "text-generation": ("token", _per_token),
    "text2text-generation": ("token", _per_token),
    "translation": ("token", _per_token),
    "summarization": ("token", _per_token),
    "image-to-text": ("token", _per_token),
    "automatic-speech-recognition": ("token", _per_frame),
}
"""Canonical task → what its answer is called, and a row of scores per answer."""
