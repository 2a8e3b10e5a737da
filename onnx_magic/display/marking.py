"""Values in a row of a side-by-side table as cells: where two texts or token sequences part, the place is marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_magic.display.blocks import Cell
from onnx_magic.display.values import as_array, brief, full_text, numeric, same, top_text
from onnx_magic.display.wording import visible

LIMIT = 100
"""Characters of a cell; of a longer text that differs, those around the place."""

NOTHING = "nothing"
NOWHERE: Any = object()
"""Stands for the value of a side that has none."""

HANDFUL = 8
"""Numbers of a sample that are shown whole; of more, the largest."""

_AROUND = 36
_WORD = 24
_TOKENS = 3
_GONE = "∅"
"""Stands for the word that a text, which has ended, does not have."""


def row_cells(values: Sequence[Any], top_k: int) -> tuple[list[Cell], list[bool]]:
    """A cell per value, the first one being what is expected, and for each whether it says the same as that.

    Args:
        values: The values, or `NOWHERE`.
        top_k: How many values are shown of a long array: the largest.
    """
    expected, *others = values
    alike = [True, *(value is expected or _same(expected, value) for value in others)]
    parting = [value for value, like in zip(values, alike, strict=True) if not like and value is not NOWHERE]
    cells = [_marked(expected, parting[0], top_k) if parting else _cell(expected, top_k)]
    for value, like in zip(others, alike[1:], strict=True):
        cell = _cell(value, top_k) if like else _marked(value, expected, top_k)
        cells.append(cell if like else replace(cell, tone="bad"))
    return cells, alike


def first_difference(text: str, other: str) -> tuple[int, int]:
    """From where to where the first word of `text` that is not in its place in `other` goes; empty at its end.

    Example:
        >>> first_difference("the cat sat", "the cow sat"), first_difference("the", "the cat")
        ((4, 7), (3, 3))
    """
    at = next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    inside = any(_in_word(one[at]) for one in (text, other) if at < len(one))
    if at == len(other) and not _in_word(text[at]):  # the other has ended: what stands out is the next word
        at += len(text[at:]) - len(text[at:].lstrip())
    first = stop = at
    while inside and first > 0 and at - first < _WORD and _in_word(text[first - 1]):
        first -= 1
    while stop < len(text) and stop - at < _WORD and _in_word(text[stop]):
        stop += 1
    if first == stop and stop < len(text):  # a space or a mark differs
        stop += 1
    return first, stop


def _in_word(character: str) -> bool:
    """Whether a character belongs to a word; Chinese and Japanese ones are words of their own."""
    return (character.isalnum() or character in "_-.'") and not "\u2e80" <= character <= "\u9fff"


def _same(one: Any, other: Any) -> bool:
    return one is not NOWHERE and other is not NOWHERE and same(one, other)


def _cell(value: Any, top_k: int) -> Cell:
    return Cell(NOTHING, "quiet") if value is NOWHERE else Cell(_text(value, top_k), limit=LIMIT, lines=True)


def is_long(value: Any) -> bool:
    """Whether a value is an array of more than a handful of numbers, of which the largest are shown."""
    array = as_array(value)
    return array is not None and numeric(array) and array.size > HANDFUL and not is_tokens(value)


def _text(value: Any, top_k: int) -> str:
    array = as_array(value)
    return brief(value) if array is None or not is_long(value) else top_text(array, top_k)


def _marked(value: Any, other: Any, top_k: int) -> Cell:
    """The value, with the place marked at which it parts from another."""
    if value is NOWHERE or other is NOWHERE:
        return _cell(value, top_k)
    if is_tokens(value) and is_tokens(other):
        return _marked_tokens(_tokens(value), _tokens(other))
    long = as_array(value) is not None
    texts = [visible(_text(one, top_k) if long else full_text(one), breaks=True) for one in (value, other)]
    if texts[0] == texts[1]:
        return Cell(texts[0], limit=LIMIT, lines=True)
    return _around(texts[0], *first_difference(texts[0], texts[1]))


def _around(text: str, start: int, stop: int) -> Cell:
    """The part of a text around the mark; all of it where it is short."""
    if start == stop:
        text, stop = text[:start] + _GONE + text[start:], start + len(_GONE)
    if len(text) <= LIMIT:
        return Cell(text, limit=LIMIT, mark=(start, stop), lines=True)
    left = max(min(start - _AROUND, len(text) - LIMIT), 0)
    right = min(max(stop + _AROUND, left + LIMIT), len(text))
    before, behind = "…" if left else "", "…" if right < len(text) else ""
    moved = len(before) - left
    mark = start + moved, stop + moved
    return Cell(before + text[left:right] + behind, limit=LIMIT, mark=mark, lines=True)


def is_tokens(value: Any) -> bool:
    """Whether a value is a sequence of token numbers: a list of integers, an integer array with one axis."""
    array = as_array(value)
    if array is not None:
        return array.ndim == 1 and array.dtype.kind in "iu"
    return isinstance(value, list | tuple) and bool(value) and all(type(entry) is int for entry in value)


def _tokens(value: Any) -> Any:
    array = as_array(value)
    return np.asarray(value) if array is None else array


def _marked_tokens(tokens: Any, other: Any) -> Cell:
    """The tokens around the first one that differs, and its number."""
    common = min(len(tokens), len(other))
    differing = np.flatnonzero(tokens[:common] != other[:common])
    at = int(differing[0]) if len(differing) else common
    left = max(at - _TOKENS, 0)
    window = tokens[left : at + _TOKENS + 1].tolist()
    before = "".join(f"{token}, " for token in window[: at - left])
    here = str(window[at - left]) if at - left < len(window) else _GONE
    behind = "".join(f", {token}" for token in window[at - left + 1 :])
    lead = f"token {at}: {'…, ' if left else ''}{before}"
    trail = ", …" if at + _TOKENS + 1 < len(tokens) else ""
    return Cell(f"{lead}{here}{behind}{trail}", limit=LIMIT, mark=(len(lead), len(lead) + len(here)))
