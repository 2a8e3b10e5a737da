"""Numbers, sizes, paths and names as people read them: the same on every run and every machine."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

DASH = "–"
"""Stands where there is no number."""

NAME_LIMIT = 60
SENTENCE_LIMIT = 700

_CEILINGS = (
    (1e-6, "1e-6"),
    (1e-5, "1e-5"),
    (1e-4, "1e-4"),
    (1e-3, "1e-3"),
    (1e-2, "0.01"),
    (1e-1, "0.1"),
    (1.0, "1"),
    (10.0, "10"),
    (100.0, "100"),
    (1000.0, "1000"),
    (1e6, "1e6"),
    (1e9, "1e9"),
)
_FLOORS = tuple((float(text), text) for text in ("0.99999", "0.9999", "0.999", "0.99", "0.9", "0.5", "0"))
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_HAIR = 1 + 1e-6
"""A float32 0.001 is a little above the float64 one: it still counts as 0.001."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Unseen, but a part of words (Persian) and of emoji."""


def at_most(value: float) -> str:
    """A difference, rounded up to a power of ten, never below 1e-6.

    Example:
        >>> at_most(3.1e-7), at_most(0.34), at_most(float("nan"))
        ('≤ 1e-6', '≤ 1', '–')
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞"
    return next((f"≤ {text}" for ceiling, text in _CEILINGS if abs(value) <= ceiling * _HAIR), "> 1e9")


def at_least(cosine: float) -> str:
    """A cosine, rounded down to one of a few steps.

    Example:
        >>> at_least(0.9999998), at_least(0.42), at_least(-0.3)
        ('≥ 0.99999', '≥ 0', '< 0')
    """
    if not math.isfinite(cosine):
        return DASH
    return next((f"≥ {text}" for floor, text in _FLOORS if cosine >= floor), "< 0")


def tolerance(value: float) -> str:
    """A tolerance as it is typed.

    Example:
        >>> tolerance(0.0001), tolerance(2.5e-3), tolerance(0.0)
        ('1e-4', '2.5e-3', '0')
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def number(value: float) -> str:
    """A number of an answer: at most 4 significant digits and 3 decimals.

    Example:
        >>> number(0.99812), number(12.3456), number(-1e-9), number(123456.0)
        ('0.998', '12.35', '0.000', '1.235e+05')
    """
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "∞" if value > 0 else "-∞"
    decimals = 3 if abs(value) < 9.9995 else 2 if abs(value) < 99.995 else 1 if abs(value) < 999.95 else None
    if decimals is None:
        return f"{value:.4g}"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def size(count: int) -> str:
    """Bytes with 3 significant digits, in powers of a thousand.

    Example:
        >>> size(512), size(5_812_345), size(999_999)
        ('512 B', '5.81 MB', '1.00 MB')
    """
    if count < 1000:
        return f"{count} B"
    for index, (unit, name) in enumerate(_UNITS):
        if count < unit:
            continue
        scaled = count / unit
        text = f"{scaled:.2f}" if scaled < 9.995 else f"{scaled:.1f}" if scaled < 99.95 else f"{scaled:.0f}"
        return f"1.00 {_UNITS[index - 1][1]}" if text == "1000" and index else f"{text} {name}"
    raise AssertionError("a count of 1000 and above has a unit")


def path_text(path: Path | str) -> str:
    """A path as it is typed here: relative when it lies in the current folder, else as it is; `/` between its parts.

    Example:
        >>> path_text(Path.cwd() / "mini-onnx" / "onnx")
        'mini-onnx/onnx'
    """
    where = Path(path)
    if where.is_absolute():
        here = Path(os.getcwd())
        if where.is_relative_to(here):
            where = where.relative_to(here)
    return where.as_posix()


def plural(count: int, one: str, many: str = "") -> str:
    """`1 shape`, `6 shapes`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def rate(value: float) -> str:
    """So many per second, in three digits.

    Example:
        >>> rate(1654.3), rate(104.6), rate(9.25)
        ('1,650', '105', '9.25')
    """
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def shape_text(shape: Iterable[int | str]) -> str:
    """A shape as a person says it: `2 × 14`; `scalar` without axes."""
    return " × ".join(str(dim) for dim in shape) or "scalar"


def visible(text: str, *, breaks: bool = False) -> str:
    """`text` on one line, everything in it to be seen: control, direction and other hidden characters as escapes.

    Args:
        text: Any text.
        breaks: Whether line breaks stay what they are, for a text that is read.

    Example:
        >>> visible("a" + chr(10) + chr(27) + "[31mb")
        'a\\\\n\\\\x1b[31mb'
    """
    if text.isascii() and text.isprintable():
        return text
    kept = _JOINERS | {"\n"} if breaks else _JOINERS
    return "".join(_escape(c) if unicodedata.category(c) in _HIDDEN and c not in kept else c for c in text)


def shorten(text: str, limit: int) -> str:
    """`text`, cut in the middle when it is longer than `limit` characters.

    Example:
        >>> shorten("encoder.layer.attention", 11)
        'encod…ntion'
    """
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def shown(text: str, limit: int = NAME_LIMIT) -> str:
    """`text` as any rendering may print it: visible, on one line, cut in the middle to `limit` characters."""
    return shorten(visible(shorten(text, 4 * limit)), limit)


def width(text: str) -> int:
    """Columns that `text` takes in a terminal: two for a wide character (Chinese), none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int) -> str:
    """`text`, cut in the middle until it takes no more than so many columns of a terminal."""
    cut, limit = text, columns
    while width(cut) > columns:  # a wide character takes two: fewer characters until it fits
        cut, limit = shorten(text, limit), limit - 1
    return cut


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
