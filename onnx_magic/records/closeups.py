"""A close look at where two tensors differ: a small picture and a few values, never the tensors themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOT_COUNTED = 255
"""The level of a cell whose positions are all padded."""

STEPS = (1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Upper bounds of the levels 0 to 4 in multiples of the tolerance; level 5 is above all of them, or not finite."""

WITHIN = 2
"""The highest level that is within the tolerance."""


@dataclass(frozen=True)
class Spot:
    """One position in both tensors.

    Args:
        index: Where it is.
        expected: PyTorch's value there, as a Python number.
        actual: ONNX Runtime's value there.
        within: Whether the two are within the tolerance.
    """

    index: tuple[int, ...]
    expected: Any
    actual: Any
    within: bool


@dataclass(frozen=True)
class Closeup:
    """Where one output differs from PyTorch's, in at most 64 × 64 cells.

    The last axis runs from left to right, all others together from top to bottom. A cell holds the largest difference
    of its positions as a multiple of the tolerance (`atol + rtol * |expected|`), in decades (`STEPS`): rounding, which
    is another on every machine, stays below a hundredth of the tolerance and so in level 0, whatever its exact size.

    Args:
        rows: Cells from top to bottom.
        columns: Cells from left to right.
        levels: A byte per cell, row by row: 0 to 5 (see `STEPS`), or `NOT_COUNTED`.
        first: The first few positions.
        worst: Where the difference is the largest multiple of the tolerance; `None` when it is below a hundredth of it
            everywhere, where the position would be chance.
        beyond: How many values are beyond the tolerance.
        counted: How many values were compared; padded positions are not.

    Example:
        >>> Closeup(1, 2, bytes([0, 5]), worst=Spot((1,), 0.0, 1.0, False), beyond=1, counted=2).worst.index
        (1,)
    """

    rows: int
    columns: int
    levels: bytes
    first: tuple[Spot, ...] = ()
    worst: Spot | None = None
    beyond: int = 0
    counted: int = 0
