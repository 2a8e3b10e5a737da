"""Any Python value of a cell in a few words, the same on every run: no addresses, no long floats."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import numbers
import pathlib
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.display.wording import number, shorten
from onnx_magic.records.results import RunResult

Array: TypeAlias = np.ndarray[Any, Any]

TEXT_LIMIT = 200
SAME = 1e-3
"""Numbers of answers nearer than this (absolutely, or relatively) count as the same; the tensors' table is exact."""

_FIRST = 4
_PART = 2**17
"""So many values of an array are looked at at a time."""

_ENTRIES = 6
_AS_WRITTEN = (
    pathlib.PurePath,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    range,
    slice,
    type(None),
    type(Ellipsis),
)
"""Types whose `str` says what they hold and never an address."""


def as_array(value: Any) -> Array | None:
    """`value` as a NumPy array when it is an array or a torch tensor (told by its `detach`), else `None`."""
    if isinstance(value, np.ndarray):
        return value
    if not (hasattr(value, "detach") and hasattr(value, "dtype") and hasattr(value, "shape")):
        return None
    dense = value.detach().cpu()
    # NumPy has no bfloat16; every bfloat16 is a float32
    return np.asarray(dense.float() if _dtype(value) == "bfloat16" else dense)


def brief(value: Any, limit: int = TEXT_LIMIT) -> str:
    """`value` in a few words.

    Example:
        >>> brief({"label": "POSITIVE", "score": 0.99812}), brief(np.zeros((2, 3), "float32"))
        ('POSITIVE 0.998', 'float32[2, 3] 0.000, 0.000, 0.000, 0.000, …')
    """
    return shorten(_brief(value, 0), limit)


def full_text(value: Any) -> str:
    """`value` as `brief` says it, its texts whole however long they are."""
    return _brief(value, 0)


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """What a value holds by name: a mapping's entries, a dataclass's fields; else `None`."""
    if isinstance(value, RunResult):
        return value.outputs
    if isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two values say the same: numbers within `SAME`, arrays by shape and numbers, all else by equality.

    A value of which nothing can be told (an object without a readable form) counts as the same as one of its own kind.
    """
    arrays = as_array(one), as_array(other)
    if arrays[0] is not None and arrays[1] is not None:
        return _same_arrays(arrays[0], arrays[1])
    if isinstance(one, numbers.Real) and isinstance(other, numbers.Real):
        return _same_numbers(float(one), float(other))
    fields = fields_of(one), fields_of(other)
    if fields[0] is not None and fields[1] is not None:
        left, right = fields[0], fields[1]
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if _is_list(one) and _is_list(other):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return _brief(one, 0) == _brief(other, 0)


def _brief(value: Any, depth: int) -> str:
    array = as_array(value)
    if array is not None:
        return array_text(array, _dtype(value))
    if isinstance(value, str):
        return value
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, bool | np.bool_ | numbers.Integral | bytes) or isinstance(value, _AS_WRITTEN):
        return str(value)
    if isinstance(value, numbers.Real) and not isinstance(value, decimal.Decimal | fractions.Fraction):
        return number(float(value))
    if isinstance(value, complex | np.complexfloating):
        return f"{number(float(value.real))} + {number(float(value.imag))}j"
    return _nested(value, depth)


def _nested(value: Any, depth: int) -> str:
    """A container in a few words; of anything else its class, because its `repr` may hold an address."""
    if isinstance(value, type):
        return value.__qualname__
    if depth > 2:
        return "…"
    fields = fields_of(value)
    if fields is not None:
        return _fields_text(fields, depth)
    if isinstance(value, Set):
        return "{" + _listed(sorted(_brief(entry, depth + 1) for entry in value)) + "}"
    if _is_list(value):
        return "[" + _listed([_brief(entry, depth + 1) for entry in value[: _ENTRIES + 1]], len(value)) + "]"
    return f"<{type(value).__qualname__}>"


def _fields_text(fields: Mapping[str, Any], depth: int) -> str:
    """`POSITIVE 0.998` for an answer with its score, `name: value, ...` for the rest."""
    if len(fields) == 2 and "score" in fields:
        name = next(key for key in fields if key != "score")
        return f"{_brief(fields[name], depth + 1)} {_brief(fields['score'], depth + 1)}"
    return _listed([f"{key}: {_brief(entry, depth + 1)}" for key, entry in fields.items()])


def array_text(array: Array, dtype: str = "") -> str:
    """dtype, shape and the first few values of an array."""
    head = f"{dtype or array.dtype}[{', '.join(map(str, array.shape))}]"
    values = first_values(array)
    return f"{head} {values}" if values else head


def first_values(array: Array, count: int = _FIRST) -> str:
    """The first values of an array, in the order in which they lie in it."""
    entries = [_brief(entry, 1) for entry in array.flat[:count].tolist()]
    return _listed(entries, array.size, count)


def _listed(entries: Sequence[str], total: int | None = None, most: int = _ENTRIES) -> str:
    total = len(entries) if total is None else total
    return ", ".join([*entries[:most], "…"] if total > most else entries)


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | range)


def numeric(array: Array) -> bool:
    """Whether an array holds numbers that have a largest: integers and floats, those of ml_dtypes too."""
    return array.dtype.kind in "iuf" or _is_float(array)


def top_text(array: Array, count: int) -> str:
    """The largest values of an array with their positions, the largest first, and how many are not finite, if any.

    Example:
        >>> top_text(np.array([[0.5, 9.25], [3.0, -1.0]]), 2)
        '9.250 at [0, 1], 3.000 at [1, 0]'
    """
    positions, odd = _largest(array, count)
    found = []
    for position in positions:
        index = tuple(int(at) for at in np.unravel_index(position, array.shape))
        found.append(f"{_brief(array[index].item(), 1)} at [{', '.join(map(str, index))}]")
    said = ", ".join(found) or "nothing finite"
    return f"{said} ({odd} not finite)" if odd else said


def _largest(array: Array, count: int) -> tuple[list[int], int]:
    """Flat positions of the largest finite values, and how many are not finite; in parts, because arrays are large."""
    flat, best, odd = array.reshape(-1), np.zeros(0, np.int64), 0
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART]
        part = part if part.dtype.kind in "iu" else part.astype(np.float32 if _is_small(part) else np.float64)
        finite = np.isfinite(part)
        if not finite.all():
            odd += int(part.size - np.count_nonzero(finite))
            part = np.where(finite, part, -np.inf)
        near = np.argpartition(part, -count)[-count:] if part.size > count else np.arange(part.size)
        near = near[np.isfinite(part[near])]
        best = np.concatenate((best, near + start))
        values = flat[best].astype(np.float64)
        best = best[np.lexsort((best, -values))][:count]
    return best.tolist(), odd


def _is_small(array: Array) -> bool:
    return bool(array.dtype.itemsize <= 4)


def _is_float(array: Array) -> bool:
    """Whether an array holds floats; bfloat16 and float8 of ml_dtypes have no kind of their own."""
    dtype: np.dtype[Any] = array.dtype
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in str(dtype.name))


def _same_arrays(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    exact = not (_is_float(one) or _is_float(other) or "c" in (one.dtype.kind, other.dtype.kind))
    if exact:
        return bool(np.array_equal(one, other))
    left, right = one.reshape(-1), other.reshape(-1)
    return all(_close(left[at : at + _PART], right[at : at + _PART]) for at in range(0, left.size, _PART))


def _close(one: Array, other: Array) -> bool:
    if one.dtype.kind == "V" or other.dtype.kind == "V":
        one, other = one.astype(np.float32), other.astype(np.float32)
    return bool(np.allclose(other, one, rtol=SAME, atol=SAME, equal_nan=True))


def _same_numbers(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=SAME, abs_tol=SAME)
