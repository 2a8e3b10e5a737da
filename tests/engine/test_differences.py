"""Arrays compared block by block: the same as in one piece, and where they differ."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnx_magic.engine import differences as module
from onnx_magic.engine.comparing import diff_output
from onnx_magic.engine.differences import CELLS, closeup_of, differences
from onnx_magic.records.closeups import NOT_COUNTED, STEPS, Closeup

AT, RT = 1e-4, 1e-3


def arrays(shape: tuple[int, ...], off: float = 1e-3) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    one = rng.standard_normal(shape).astype(np.float32)
    return one, one + (rng.standard_normal(shape) * off).astype(np.float32)


def close(one: Any, other: Any, **options: Any) -> Closeup:
    found = diff_output("y", one, other, closeup=True, **options).closeup
    assert found is not None
    return found


@pytest.mark.parametrize("block", [1, 7, 64, 2**17])
@pytest.mark.parametrize("shape", [(), (5,), (200,), (70, 3), (3, 70), (4, 5, 90), (1, 1), (129, 1)])
def test_blocks_of_any_size_give_what_one_piece_gives(
    monkeypatch: pytest.MonkeyPatch, block: int, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    one, other = arrays(shape)
    found = differences(one, other, AT, RT, closeup=True)
    a, b = one.astype(np.float64), other.astype(np.float64)
    gap = np.abs(b - a)
    ratio = gap / (AT + RT * np.abs(a))
    assert (found.max_abs, found.max_ratio) == (gap.max(), ratio.max())
    assert found.max_rel == (gap / (np.abs(a) + AT)).max()
    assert (found.farthest, found.worst) == (gap.argmax(), ratio.argmax())
    assert (found.beyond, found.counted) == ((ratio > 1).sum(), ratio.size)
    # sums in another order
    assert found.cosine == pytest.approx(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
    plane = ratio.reshape(-1, shape[-1]) if shape else ratio.reshape(1, 1)
    assert np.array_equal(found.grid, pooled(plane))


def pooled(plane: Any) -> Any:
    """The slow way: the largest value between the edges of each cell."""
    height, width = (min(size, CELLS) for size in plane.shape)
    edges = [
        [at * size // cells for at in range(cells + 1)]
        for size, cells in zip(plane.shape, (height, width), strict=True)
    ]
    grid = np.zeros((height, width))
    for y, x in itertools.product(range(height), range(width)):
        grid[y, x] = plane[edges[0][y] : edges[0][y + 1], edges[1][x] : edges[1][x + 1]].max()
    return grid


@pytest.mark.parametrize("block", [5, 2**17])
def test_padding_counts_in_no_number_and_has_no_colour(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    one = np.ones((2, 3, 4), np.float32)
    other, mask = one.copy(), np.array([[0, 1, 1], [1, 0, 0]], bool)
    other[0, 0], other[1, 1:] = 9, np.nan
    found = differences(one, other, AT, RT, mask, closeup=True)
    assert found.finite and not found.beyond and found.max_abs == 0 and found.counted == 12
    closeup = closeup_of(found, one, other, AT, RT)
    assert closeup is not None and closeup.first[0].index == (0, 1, 0)
    rows = [closeup.levels[at : at + 4] for at in range(0, 24, 4)]
    assert rows == [bytes([NOT_COUNTED]) * 4 if not row else bytes(4) for row in mask.ravel()]
    other[0, 2, 3] = 2  # negative control: a position that counts
    assert differences(one, other, AT, RT, mask).farthest == 11


def test_a_mask_of_the_arrays_own_shape() -> None:
    one, mask = np.zeros((2, 100), np.float32), np.zeros((2, 100), bool)
    other = one.copy()
    other[1, 99], mask[1, 97:99] = 5, True
    found = differences(one, other, AT, RT, mask)
    assert found.counted == 2 and not found.beyond and found.first == (197, 198)


@pytest.mark.parametrize(
    ("factor", "level"),
    [
        (0.0, 0),
        (0.009, 0),
        (0.02, 1),
        (0.2, 2),
        (0.99, 2),
        (1.1, 3),
        (11, 4),
        (99, 4),
        (150, 5),
        (math.inf, 5),
        (math.nan, 5),
    ],
)
def test_levels_are_decades_of_the_tolerance(factor: float, level: int) -> None:
    """An expected 0 has the tolerance 0.5 exactly: no rounding at the bounds."""
    closeup = close(np.zeros(3), np.array([0, 0.5 * factor, 0]), atol={"float64": 0.5}, rtol={"float64": 0.0})
    assert closeup.levels == bytes([0, level, 0])
    assert closeup.beyond == (level > 2) and (closeup.worst is None) == (level == 0)
    assert len(STEPS) == 5


def test_rounding_noise_leaves_the_closeup_as_it_is() -> None:
    """Another machine's sums differ in the last digits: the same picture, the same words."""
    one, _ = arrays((3, 40))
    pictures = {close(one, one + np.float32(noise)).levels for noise in (0, 1e-7, -2e-7, 5e-7)}
    assert pictures == {bytes(120)}
    assert close(one, one + np.float32(5e-7)).worst is None


def test_one_wrong_value_is_seen_at_its_place_however_large_the_tensor() -> None:
    one = np.zeros((8, 50, 700), np.float32)
    other = one.copy()
    other[5, 10, 650] = 3
    closeup = close(one, other)
    assert (closeup.rows, closeup.columns) == (64, 64)
    (cell,) = np.flatnonzero(np.frombuffer(closeup.levels, np.uint8))
    row, column = divmod(int(cell), 64)
    assert (
        row * 400 // 64 <= 5 * 50 + 10 < (row + 1) * 400 // 64 and column * 700 // 64 <= 650 < (column + 1) * 700 // 64
    )
    assert closeup.worst is not None and closeup.worst.index == (5, 10, 650)
    assert (closeup.worst.expected, closeup.worst.actual, closeup.worst.within) == (0.0, 3.0, False)


@pytest.mark.parametrize(
    ("one", "other", "beyond"),
    [
        (np.array([True, False]), np.array([True, True]), 1),
        (np.array([1, 2, 3]), np.array([1, 2, 3]), 0),
        (np.array([2**60 + 1]), np.array([2**60]), 1),  # the same in float64
        (np.array([0], np.uint8), np.array([255], np.uint8), 1),
        (np.ones(3, np.float16), np.array([1, 1.5, 1], np.float16), 1),
        (np.ones(3, ml_dtypes.bfloat16), np.array([1, 1, 2], ml_dtypes.bfloat16), 1),
        (np.ones(2, np.complex64), np.array([1, 1j], np.complex64), 1),
        (np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0]), 0),
        (np.array([np.nan, np.inf, 1.0, 2.0]), np.array([1.0, -np.inf, np.nan, np.inf]), 4),
        (np.float32(2).reshape(()), np.float32(3).reshape(()), 1),
    ],
)
def test_dtypes_and_what_is_no_number(one: Any, other: Any, beyond: int) -> None:
    diff = diff_output("y", one, other, closeup=True)
    assert diff.closeup is not None and diff.closeup.beyond == beyond and diff.passed == (beyond == 0)
    assert all(type(spot.expected) in (bool, int, float, complex) for spot in diff.closeup.first)
    assert (diff.max_abs > 0) == (beyond > 0) and not math.isnan(diff.max_abs)


def test_what_has_no_closeup() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert diff_output("y", empty, empty, closeup=True).closeup is None
    assert diff_output("y", np.zeros((2, 0)), np.zeros((2, 0)), closeup=True).passed
    assert diff_output("y", np.zeros(3), np.zeros(4), closeup=True).closeup is None
    assert diff_output("y", np.zeros(3), np.zeros(3)).closeup is None


def test_arrays_that_do_not_lie_in_one_piece() -> None:
    one, other = arrays((60, 40))
    assert diff_output("y", one.T, other.T).max_abs == diff_output("y", one, other).max_abs


def test_no_temporary_is_as_large_as_the_arrays() -> None:
    """(64, 64, 30522) float32, half a GB a side, in 40 MB at the most; one eighth of it here, the bound is the same."""
    one = np.zeros((8, 64, 30522), np.float32)
    other = one.copy()
    other[7, 63, 30521] = 1
    tracemalloc.start()
    try:
        diff = diff_output("y", one, other, counted=np.ones((8, 64), bool), closeup=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert diff.worst == (7, 63, 30521) and peak < 40e6 < one.nbytes
