"""Answer spans from start and end logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_magic.records.results import Array
from onnx_magic.runtime.scoring import best, softmax
from onnx_magic.runtime.tokenizing import Encoded

MAX_ANSWER_TOKENS = 15
"""The longest answer, as Transformers' pipeline had it."""


def find_answers(start: Array, end: Array, encoded: Encoded, cls_token_id: int | None, top_k: int | None) -> list[Any]:
    """The best answer of each sample, or a list of the `top_k` best.

    A span starts and ends in the context, is no longer than `MAX_ANSWER_TOKENS` and is widened to whole words. Its
    score is the product of the two probabilities, among the context's tokens and the one for "no answer".

    Args:
        start: Start logits, [samples, tokens].
        end: End logits, [samples, tokens].
        encoded: (question, context) pairs.
        cls_token_id: The token that stands for "no answer".
        top_k: How many answers per sample; one, bare, when not given.
    """
    return [_answers(start[i], end[i], encoded, i, cls_token_id, top_k) for i in range(len(start))]


def legal_spans(scores_start: Array, scores_end: Array, limit: int) -> Array:
    """Sums of a row's scores, [tokens, tokens]; -inf where the end precedes the start or the span is too long."""
    sums = scores_start[:, None] + scores_end[None, :]
    lengths = np.arange(len(scores_end))[None, :] - np.arange(len(scores_start))[:, None]
    return np.where((lengths >= 0) & (lengths < limit), sums, -np.inf)


def _answers(
    start: Array, end: Array, encoded: Encoded, sample: int, cls_token_id: int | None, top_k: int | None
) -> Any:
    context = np.asarray([sequence == 1 for sequence in encoded.sequence_ids[sample]])
    known = context.copy()
    if cls_token_id is not None and "input_ids" in encoded.arrays:
        known |= encoded.arrays["input_ids"][sample] == cls_token_id
    empty = {"answer": "", "score": 0.0, "start": 0, "end": 0}
    if not context.any():
        return empty if top_k is None else []
    p_start, p_end = (softmax(np.where(known, row, -np.inf)) for row in (start, end))
    # Ranked by logits: products of tiny probabilities would all be 0.
    starts, ends = (np.where(context, row, -np.inf) for row in (start, end))
    sums = legal_spans(starts, ends, MAX_ANSWER_TOKENS)
    ranked = [divmod(i, len(start)) for i in best(sums.ravel(), top_k or 1)]
    found = [
        _answer(first, last, float(p_start[first] * p_end[last]), encoded, sample)
        for first, last in ranked
        if np.isfinite(sums[first, last])
    ]
    return found if top_k is not None else found[0] if found else empty


def _answer(first: int, last: int, score: float, encoded: Encoded, sample: int) -> dict[str, Any]:
    words, offsets = encoded.word_ids[sample], encoded.offsets[sample]
    inside = [i for i, sequence in enumerate(encoded.sequence_ids[sample]) if sequence == 1]
    # Whole words: an answer that starts or ends within one is widened to it.
    starts = [offsets[i][0] for i in inside if words[i] is not None and words[i] == words[first]]
    ends = [offsets[i][1] for i in inside if words[i] is not None and words[i] == words[last]]
    start = min(starts, default=offsets[first][0])
    end = max(ends, default=offsets[last][1])
    text = encoded.texts[sample]
    context = text if isinstance(text, str) else text[1]
    return {"answer": context[start:end], "score": score, "start": start, "end": end}
