"""Options' values: how each text is read, and what a caller may give in Python."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Sequence
from typing import Any, TypeAlias

from onnx_magic.errors import UsageError

Axes: TypeAlias = str | bool | dict[str, dict[int, str] | list[int]]
TRUE_WORDS = ("yes", "true", "on", "1")
FALSE_WORDS = ("no", "false", "off", "0")
NONE_WORDS = ("none", "auto", "default")


def parse_flag(text: str) -> bool:
    """`yes`, `no` and their kin.

    Example:
        >>> parse_flag("no")
        False
    """
    if text.lower() in TRUE_WORDS:
        return True
    if text.lower() in FALSE_WORDS:
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def parse_int(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def parse_name(text: str) -> str:
    """A name that a variable may have."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise ValueError(f"{text!r} cannot be the name of a variable")
    return text


def parse_names(text: str) -> tuple[str, ...]:
    """Names between commas, each once.

    Example:
        >>> parse_names("int8, q4")
        ('int8', 'q4')
    """
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip(" []()"))))
    if not names:
        raise ValueError(f"{text!r} names nothing: expected names with commas between them")
    return names


def parse_tolerance(text: str) -> float:
    """A tolerance, 0 or above."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text} is not a tolerance: expected 0 or above")
    return value


def parse_share(text: str) -> float:
    """A share between 0 and 1; `99%` is 0.99.

    Example:
        >>> parse_share("99%")
        0.99
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 < value <= 1:
        raise ValueError(f"{text} is not a share: expected more than 0, at most 1")
    return value


def names_of(value: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """Names as a verb's caller may give them: one, several with commas, a tuple or list, or none."""
    if value is None:
        return ()
    return parse_names(value) if isinstance(value, str) else tuple(value)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Sizes of an axis with commas between, each once.

    Example:
        >>> parse_sizes("1,8,32")
        (1, 8, 32)
    """
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.strip("[]() ").split(",") if part.strip()))
    except ValueError:
        raise ValueError(f"{text!r} are no sizes: expected whole numbers with commas between them") from None
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{text!r} are no sizes: expected 1 or above")
    return sizes


def sizes_of(name: str, value: int | str | Sequence[int] | None) -> tuple[int, ...]:
    """Sizes as a verb's caller may give them: one, several with commas, a list, or none.

    Raises:
        UsageError: what is given are no sizes.
    """
    if value is None:
        return ()
    try:
        return parse_sizes(value if isinstance(value, str) else ",".join(map(str, _listed(value))))
    except ValueError as error:
        raise UsageError(f"{name}={value!r}: {error}", fix=f"{name}=1,8") from None


def _listed(value: int | Sequence[int]) -> Sequence[int]:
    return (value,) if isinstance(value, int) else value


def parse_axes(text: str) -> Axes:
    """One axis name, `no`, or `{input: {axis: name}}` as Python writes it; `{input: [axis]}` takes the names found.

    Example:
        >>> parse_axes('{"x": {0: "batch_size"}}')
        {'x': {0: 'batch_size'}}
        >>> parse_axes("no")
        False
    """
    if not text.lstrip().startswith("{"):
        return False if text.lower() in FALSE_WORDS else text
    try:
        return check_axes(ast.literal_eval(text))
    except (SyntaxError, ValueError, TypeError, UsageError) as error:
        raise ValueError(f"{text} is no table of axes: expected {{'x': {{0: 'batch_size'}}}}") from error


def check_axes(dynamic: Any) -> Axes:
    """The value of `dynamic=` as the plan takes it.

    Raises:
        UsageError: it is neither an axis name, False, nor `{input: {axis: name}}`.
    """
    if isinstance(dynamic, str) and dynamic.isidentifier():
        return dynamic
    if isinstance(dynamic, bool):
        return dynamic
    if isinstance(dynamic, dict) and all(_is_axis_row(name, axes) for name, axes in dynamic.items()):
        return dynamic
    raise UsageError(
        f"dynamic={dynamic!r} is neither an axis name, no, nor {{input: {{axis: name}}}}",
        fix="dynamic={'x': {0: 'batch_size'}}",
    )


def _is_axis_row(name: Any, axes: Any) -> bool:
    if isinstance(axes, list | tuple):
        return isinstance(name, str) and all(isinstance(axis, int) for axis in axes)
    return (
        isinstance(name, str)
        and isinstance(axes, dict)
        and all(isinstance(axis, int) and isinstance(dim, str) and dim.strip() != "" for axis, dim in axes.items())
    )
