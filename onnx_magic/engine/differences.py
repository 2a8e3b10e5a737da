"""How far two arrays are apart, block by block: no temporary is as large as they are, however large they are.

Values are compared in float64 (integers and booleans as they are), 128 Ki values at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.records.closeups import NOT_COUNTED, STEPS, Closeup, Spot

Array: TypeAlias = np.ndarray[Any, Any]

CELLS = 64
"""A closeup has at most so many cells along each side."""

_BLOCK = 2**17
_FIRST = 4
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(eq=False)
class Differences:
    """What is known of two arrays of one shape; grows block by block.

    Args:
        max_abs: Largest absolute difference.
        max_rel: Largest of |actual - expected| / (|expected| + atol).
        max_ratio: Largest difference as a multiple of the tolerance.
        finite: Whether the actual values are finite wherever the expected ones are.
        beyond: How many values are beyond the tolerance.
        counted: How many values were compared.
        farthest: Flat position of `max_abs`; `None` where nothing differs.
        worst: Flat position of `max_ratio`; `None` where nothing differs.
        grid: Largest multiple of the tolerance per cell; -1 where nothing counts. Empty without a closeup.
        first: Flat positions of the first few values that count.
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    max_ratio: float = 0.0
    finite: bool = True
    beyond: int = 0
    counted: int = 0
    farthest: int | None = None
    worst: int | None = None
    grid: Array = field(default_factory=lambda: np.zeros((0, 0)))
    first: tuple[int, ...] = ()
    _dot: complex = 0.0
    _norms: tuple[float, float] = (0.0, 0.0)
    _equal: bool = True

    @property
    def cosine(self) -> float:
        """Cosine of the two, over what is finite in both; of two zero vectors 1 when they are the same, else 0."""
        norms = float(np.sqrt(self._norms[0]) * np.sqrt(self._norms[1]))
        if norms == 0:
            return 1.0 if self._equal else 0.0
        return float(np.real(self._dot) / norms)


def differences(
    expected: Array, actual: Array, atol: float, rtol: float, counted: Array | None = None, *, closeup: bool = False
) -> Differences:
    """Compare two arrays of one shape.

    Args:
        expected: PyTorch's values.
        actual: ONNX Runtime's values.
        atol: Absolute tolerance.
        rtol: Relative tolerance.
        counted: Boolean mask over the leading axes: positions that count.
        closeup: Whether to keep the grid that a Closeup is made of.

    Example:
        >>> found = differences(np.float32([1, 2]), np.float32([1, 2.5]), 1e-4, 1e-3)
        >>> found.max_abs, found.beyond, found.farthest
        (0.5, 1, 1)
    """
    plane = _plane(expected.shape)
    cells = (min(plane[0], CELLS), min(plane[1], CELLS)) if closeup else (0, 0)
    mask = _mask(counted, expected.ndim, plane)
    found = Differences(grid=np.full(cells, -1.0), first=_first_positions(mask, plane))
    one, other = expected.reshape(plane), actual.reshape(plane)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for y, x in _blocks(*plane):
            weight = None if mask is None else mask[y, x if mask.shape[1] > 1 else slice(None)]
            _Block(one[y, x], other[y, x], weight, atol, rtol).add_to(found, (y.start, x.start), plane)
    return found


def closeup_of(found: Differences, expected: Array, actual: Array, atol: float, rtol: float) -> Closeup | None:
    """The closeup of what `differences(..., closeup=True)` found; `None` for arrays without values."""
    if not found.grid.size:
        return None
    levels = np.searchsorted(STEPS, found.grid, side="left").astype(np.uint8)
    levels[found.grid < 0] = NOT_COUNTED

    def spot(position: int) -> Spot:
        index = tuple(int(at) for at in np.unravel_index(position, expected.shape))
        block = _Block(expected[index].reshape(1, 1), actual[index].reshape(1, 1), None, atol, rtol)
        return Spot(index, _number(expected[index]), _number(actual[index]), bool(block.ratio[0, 0] <= 1))

    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return Closeup(
            found.grid.shape[0],
            found.grid.shape[1],
            levels.tobytes(),
            first=tuple(map(spot, found.first)),
            worst=spot(found.worst) if found.worst is not None and found.max_ratio > STEPS[0] else None,
            beyond=found.beyond,
            counted=found.counted,
        )


class _Block:
    """A piece of both arrays, two axes: gaps, and gaps as multiples of the tolerance; never NaN."""

    def __init__(self, one: Array, other: Array, weight: Array | None, atol: float, rtol: float) -> None:
        wide: Any = np.complex128 if one.dtype.kind == "c" else np.float64
        self.a, self.b = one.astype(wide), other.astype(wide)
        self.size, self.finite, self.weight = one.size, True, weight
        self.gap = np.abs(self.b - self.a)
        exact = one.dtype.kind in "iub" and other.dtype.kind in "iub"
        if exact:  # float64 cannot tell large integers apart
            np.putmask(self.gap, one != other, np.maximum(self.gap, 1.0))
        size = np.abs(self.a)
        if not np.isfinite(self.gap).all():
            self._mend_not_finite(size)
        if weight is not None and not weight.all():
            self._leave_out(weight)
        tolerance = size * rtol
        tolerance += atol
        # where both are 0 (integers, equal) the quotient is NaN, which fmax drops
        self.ratio = np.fmax(np.divide(self.gap, tolerance, out=tolerance), 0.0)
        size += max(atol, _TINY)
        self.relative = np.divide(self.gap, size, out=size)

    def _mend_not_finite(self, size: Array) -> None:
        """Give equal infinities and paired NaN no gap, all other NaN an infinite one."""
        a, b = self.a, self.b
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        broken = np.isfinite(a) & ~np.isfinite(b)
        self.finite = not bool((broken if self.weight is None else broken & self.weight).any())
        self.gap[np.isnan(self.gap)] = np.inf
        self.gap[same] = 0.0
        size[~np.isfinite(size)] = 0.0
        keep = np.isfinite(a) & np.isfinite(b)
        self.a, self.b = np.where(keep, a, 0), np.where(keep, b, 0)

    def _leave_out(self, weight: Array) -> None:
        self.weight = np.broadcast_to(weight, self.gap.shape)
        self.gap = np.where(self.weight, self.gap, 0.0)
        self.a, self.b = np.where(self.weight, self.a, 0), np.where(self.weight, self.b, 0)
        self.size = int(np.count_nonzero(self.weight))

    def add_to(self, found: Differences, start: tuple[int, int], plane: tuple[int, int]) -> None:
        """Add what this block knows to what is known of the arrays."""
        found.finite &= self.finite
        found.counted += self.size
        found.beyond += int(np.count_nonzero(self.ratio > 1))
        found.max_rel = max(found.max_rel, float(self.relative.max()))
        for values, best, place in ((self.gap, "max_abs", "farthest"), (self.ratio, "max_ratio", "worst")):
            at = int(values.argmax())
            largest = float(values.flat[at])
            if largest > getattr(found, best):
                y, x = divmod(at, values.shape[1])
                setattr(found, best, largest)
                setattr(found, place, (start[0] + y) * plane[1] + start[1] + x)
        a, b = self.a.ravel(), self.b.ravel()
        found._dot += complex(np.vdot(a, b))
        norms = float(np.vdot(a, a).real), float(np.vdot(b, b).real)
        found._norms = (found._norms[0] + norms[0], found._norms[1] + norms[1])
        found._equal &= bool(found.max_abs == 0)
        if found.grid.size:
            self._pool_into(found.grid, start, plane)

    def _pool_into(self, grid: Array, start: tuple[int, int], plane: tuple[int, int]) -> None:
        ratio = self.ratio
        if self.weight is not None and self.size < ratio.size:
            ratio = np.where(self.weight, ratio, -1.0)
        spans = [_cells(start[axis], ratio.shape[axis], plane[axis], grid.shape[axis]) for axis in (0, 1)]
        for axis in (1, 0):
            _, starts = spans[axis]
            if len(starts) < ratio.shape[axis]:
                ratio = np.maximum.reduceat(ratio, starts, axis=axis)
        cells = grid[spans[0][0], spans[1][0]]
        np.maximum(cells, ratio, out=cells)


def _cells(start: int, length: int, total: int, cells: int) -> tuple[slice, Array]:
    """Which cells a block reaches along one axis, and where each of them begins within the block."""
    edges = np.arange(cells) * total // cells
    first = int(np.searchsorted(edges, start, side="right")) - 1
    last = int(np.searchsorted(edges, start + length - 1, side="right"))
    return slice(first, last), np.maximum(edges[first:last] - start, 0)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns: the last axis lies, all others stand on one another."""
    if not shape:
        return 1, 1
    return int(np.prod(shape[:-1], dtype=np.int64)), shape[-1]


def _mask(counted: Array | None, rank: int, plane: tuple[int, int]) -> Array | None:
    """Which positions count: a row per row of the plane, with one column where whole rows do or do not."""
    if counted is None or not plane[0] * plane[1]:
        return None
    if counted.ndim == rank:
        return counted.astype(bool).reshape(plane)
    return np.repeat(counted.astype(bool).ravel(), plane[0] // counted.size)[:, None]


def _first_positions(mask: Array | None, plane: tuple[int, int]) -> tuple[int, ...]:
    rows, columns = plane
    if mask is None:
        return tuple(range(min(rows * columns, _FIRST)))
    if mask.shape[1] == columns:
        return tuple(np.flatnonzero(mask)[:_FIRST].tolist())
    positions = (row * columns + x for row in np.flatnonzero(mask)[:_FIRST].tolist() for x in range(columns))
    return tuple(itertools.islice(positions, _FIRST))


def _blocks(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """The plane in blocks of `_BLOCK` values at the most."""
    wide = max(min(columns, _BLOCK), 1)
    high = max(_BLOCK // wide, 1)
    for y in range(0, rows, high):
        for x in range(0, columns, wide):
            yield slice(y, min(y + high, rows)), slice(x, min(x + wide, columns))


def _number(value: Any) -> Any:
    """A NumPy scalar as a Python number; the dtypes of ml_dtypes have no kind of their own."""
    return float(value) if value.dtype.kind == "V" else value.item()
