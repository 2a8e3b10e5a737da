"""Arrays to answers: a row per task. Scores are those of Transformers' pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_magic.errors import UsageError
from onnx_magic.records.results import Array
from onnx_magic.runtime.agreeing import agreement
from onnx_magic.runtime.entities import find_entities
from onnx_magic.runtime.scoring import best, label_of, logits_of, sigmoid, softmax
from onnx_magic.runtime.spans import find_answers
from onnx_magic.runtime.spelling import CtcSpeller
from onnx_magic.runtime.tokenizing import Encoded, TextTokenizer

__all__ = ["Answering", "agreement", "decode", "needs_tokenizer"]

_TOP_TOKENS = 5
_TOP_IMAGE_LABELS = 5


@dataclass(frozen=True, eq=False)
class Answering:
    """What a decoder may look at.

    Args:
        outputs: The graph's outputs by name.
        feed: What was fed.
        encoded: Where the tokens came from; `None` when arrays were fed.
        labels: Names of the labels.
        tokenizer: The folder's tokenizer.
        top_k: How many answers per sample; `None`: the task's own.
        problem_type: As config.json has it: `regression`, `multi_label_classification`, ...
        speller: The folder's vocabulary of letters, of a CTC model.
    """

    outputs: Mapping[str, Array]
    feed: Mapping[str, Array]
    encoded: Encoded | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    tokenizer: TextTokenizer | None = None
    top_k: int | None = None
    problem_type: str | None = None
    speller: CtcSpeller | None = None


def decode(
    task: str | None,
    outputs: Mapping[str, Array],
    feed: Mapping[str, Array],
    encoded: Encoded | None = None,
    labels: Mapping[int, str] | None = None,
    tokenizer: TextTokenizer | None = None,
    top_k: int | None = None,
    problem_type: str | None = None,
    speller: CtcSpeller | None = None,
) -> list[Any] | None:
    """The answer in the task's own terms, a row per sample; `None` where it has none or the outputs do not fit.

    Raises:
        UsageError: `top_k` below 1.

    Example:
        >>> decode("text-classification", {"logits": np.array([[0.0, 0.0, 9.0]])}, {})[0]["label"]
        'LABEL_2'
    """
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k is {top_k}, expected 1 or more", fix="top_k=5")
    decoder = _DECODERS.get(task or "")
    if decoder is None:
        return None
    return decoder(Answering(outputs, feed, encoded, labels or {}, tokenizer, top_k, problem_type, speller))


def needs_tokenizer(task: str | None) -> bool:
    """Whether the answer is decoded with the tokenizer: reading one takes a moment."""
    return task in ("fill-mask", "question-answering")


def _label_scores(logits: Array, problem_type: str | None) -> Array:
    """Raw values of a regression; a sigmoid for one label or several at once; else a softmax."""
    if problem_type == "regression":
        return logits
    if problem_type == "multi_label_classification" or logits.shape[-1] == 1:
        return sigmoid(logits)
    return softmax(logits)


def _ranked_labels(given: Answering, count: int) -> list[list[dict[str, Any]]] | None:
    logits = logits_of(given.outputs, 2)
    if logits is None:
        return None
    scores = _label_scores(logits.astype(np.float64), given.problem_type)
    return [[{"label": label_of(given.labels, i), "score": float(row[i])} for i in best(row, count)] for row in scores]


def _text_labels(given: Answering) -> list[Any] | None:
    ranked = _ranked_labels(given, given.top_k or 1)
    return ranked if ranked is None or given.top_k is not None else [rows[0] for rows in ranked]


def _image_labels(given: Answering) -> list[Any] | None:
    return _ranked_labels(given, given.top_k or _TOP_IMAGE_LABELS)


def _token_labels(given: Answering) -> list[Any] | None:
    logits = logits_of(given.outputs, 3)
    return None if logits is None or given.encoded is None else find_entities(logits, given.encoded, given.labels)


def _spans(given: Answering) -> list[Any] | None:
    start, end = (given.outputs.get(name) for name in ("start_logits", "end_logits"))
    if start is None or end is None or given.encoded is None:
        return None
    cls_token_id = given.tokenizer.cls_token_id if given.tokenizer else None
    return find_answers(start.astype(np.float64), end.astype(np.float64), given.encoded, cls_token_id, given.top_k)


def _choices(given: Answering) -> list[Any] | None:
    logits = logits_of(given.outputs, 2)
    if logits is None:
        return None
    scores, count = softmax(logits.astype(np.float64)), logits.shape[1]

    def choice(sample: int, index: int) -> dict[str, Any]:
        text = given.encoded.texts[sample * count + index] if given.encoded and given.encoded.choices == count else None
        words = text[1] if isinstance(text, tuple) else text
        return {"choice": index, "text": words, "score": float(scores[sample, index])}

    rows = [[choice(i, j) for j in best(row, given.top_k or 1)] for i, row in enumerate(scores)]
    return rows if given.top_k is not None else [row[0] for row in rows]


def _masked_tokens(given: Answering) -> list[Any] | None:
    logits, ids, tokenizer = logits_of(given.outputs, 3), given.feed.get("input_ids"), given.tokenizer
    if logits is None or ids is None or tokenizer is None or tokenizer.mask_token_id is None:
        return None
    if not (ids == tokenizer.mask_token_id).any(axis=-1).all():
        return None
    count = given.top_k or _TOP_TOKENS
    return [_fillings(row, tokens, tokenizer, count) for row, tokens in zip(logits, ids, strict=True)]


def _transcripts(given: Answering) -> list[Any] | None:
    logits = logits_of(given.outputs, 3)
    if logits is None or given.speller is None:
        return None
    return [{"text": given.speller.text(ids)} for ids in logits.argmax(axis=-1)]


def _fillings(logits: Array, ids: Array, tokenizer: TextTokenizer, count: int) -> list[Any]:
    """The best tokens of one sample; a list per mask when there are several."""
    places = np.flatnonzero(ids == tokenizer.mask_token_id)
    single = len(places) == 1

    def filling(place: int, token: int, score: float) -> dict[str, Any]:
        filled = ids.copy()
        filled[place] = token
        sequence = tokenizer.decode(filled[filled != tokenizer.pad_token_id], skip_special=single)
        return {"score": score, "token": token, "token_str": tokenizer.decode([token]), "sequence": sequence}

    found = []
    for place in places:
        scores = softmax(logits[place].astype(np.float64))
        found.append([filling(int(place), token, float(scores[token])) for token in best(scores, count)])
    return found[0] if single else found


_DECODERS: Mapping[str, Callable[[Answering], list[Any] | None]] = {
    "text-classification": _text_labels,
    "token-classification": _token_labels,
    "question-answering": _spans,
    "fill-mask": _masked_tokens,
    "multiple-choice": _choices,
    "image-classification": _image_labels,
    "automatic-speech-recognition": _transcripts,
}
"""Canonical task → decoder. Tasks that are not here answer with their arrays."""
