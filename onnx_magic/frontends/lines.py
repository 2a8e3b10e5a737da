"""A magic's line → words: split on spaces outside brackets and quotes, a trailing comment or `;` taken off first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx_magic.errors import UsageError

_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""


@dataclass(frozen=True)
class Line:
    """The words of a line, and whether a `;` at its end silences it."""

    words: tuple[str, ...]
    silent: bool = False


def split_line(text: str) -> Line:
    """Split a magic's line.

    Raises:
        UsageError: a quote or a bracket is not closed.

    Example:
        >>> split_line('model dynamic={"x": {0: "batch"}} task=ner;  # as on the Hub')
        Line(words=('model', 'dynamic={"x": {0: "batch"}}', 'task=ner'), silent=True)
    """
    words, word, opened, index = [], "", "", 0
    while index < len(text):
        char = text[index]
        if char in _QUOTES:
            end = _end_of_quote(text, index)
            word, index = word + text[index:end], end
            continue
        if char == "#" and not word and not opened:
            break
        if char in _OPENING:
            opened += char
        elif char in _CLOSING:
            opened = opened[:-1]
        if char.isspace() and not opened:
            words.append(word)
            word = ""
        else:
            word += char
        index += 1
    if opened:
        raise UsageError(f"{opened[-1]!r} is not closed in: {text.strip()}", fix="close the bracket")
    words = [w for w in (*words, word) if w]
    silent = bool(words) and words[-1].endswith(";")
    if silent:
        words[-1] = words[-1].rstrip(";")
    return Line(tuple(w for w in words if w), silent)


def _end_of_quote(text: str, start: int) -> int:
    """Index behind the quote that opens at `start`."""
    index = start + 1
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] == text[start]:
            return index + 1
        index += 1
    raise UsageError(f"the quote {text[start]} is not closed in: {text.strip()}", fix="close the quote")


def unquoted(text: str) -> str:
    """`text` without the quotes around it, if there are any.

    Example:
        >>> unquoted("'my folder'")
        'my folder'
    """
    quoted = len(text) >= 2 and text[0] in _QUOTES and _end_of_quote(text, 0) == len(text)
    return text[1:-1] if quoted else text


def insert_values(text: str, scope: dict[str, Any]) -> str:
    """`text` with every `{expression}` replaced by its value, as an f-string does; `{{` is a brace.

    Raises:
        SyntaxError: a brace is not closed, or the expression cannot be read.
        Exception: whatever the expression raises.

    Example:
        >>> insert_values("models/{name}-{size:02d}", {"name": "mini", "size": 3})
        'models/mini-03'
    """
    pieces, index = "", 0
    while index < len(text):
        if text[index : index + 2] in ("{{", "}}"):
            pieces, index = pieces + text[index], index + 2
        elif text[index] == "{":
            end = _end_of_brace(text, index)
            pieces, index = pieces + str(eval(f'f"""{text[index:end]}"""', scope)), end
        else:
            pieces, index = pieces + text[index], index + 1
    return pieces


def _end_of_brace(text: str, start: int) -> int:
    """Index behind the brace that opens at `start`."""
    depth, index = 0, start
    while index < len(text):
        if text[index] in _QUOTES:
            index = _end_of_quote(text, index)
            continue
        depth += (text[index] in _OPENING) - (text[index] in _CLOSING)
        index += 1
        if depth == 0:
            return index
    raise SyntaxError(f"'{{' is not closed in {text!r}")
