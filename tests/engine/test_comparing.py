"""Expected against actual."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_magic.engine.comparing import compare_outputs, diff_output, noise_scale, tolerances

ONE = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def test_equal_arrays_pass_with_zero_difference() -> None:
    diff = diff_output("y", ONE, ONE.copy())
    assert diff.passed and diff.max_abs == diff.max_rel == 0 and diff.worst is None
    assert diff.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(("by", "passes"), [(5e-5, True), (5e-3, False)])
def test_the_tolerance_decides(by: float, passes: bool) -> None:
    other = ONE.copy()
    other[1, 2] += by
    diff = diff_output("y", ONE, other)
    assert diff.passed is passes and diff.worst == (1, 2)
    assert diff.max_abs == pytest.approx(by, rel=1e-2)  # float32 rounding of the sum


def test_another_shape_or_dtype_fails() -> None:
    assert not diff_output("y", ONE, ONE.T)
    assert math.isnan(diff_output("y", ONE, ONE.T).max_abs)
    assert not diff_output("y", ONE, ONE.astype(np.float64))


def test_nan_where_pytorch_has_a_number_fails_and_where_it_has_nan_too_passes() -> None:
    broken = ONE.copy()
    broken[0, 0] = np.nan
    assert not diff_output("y", ONE, broken).finite and not diff_output("y", ONE, broken)
    assert not diff_output("y", broken, ONE)
    assert diff_output("y", broken, broken.copy())
    infinite = ONE.copy()
    infinite[0, 0] = np.inf
    assert diff_output("y", infinite, infinite.copy())
    assert not diff_output("y", infinite, -infinite)


def test_integers_must_be_equal() -> None:
    assert diff_output("y", np.array([1, 2]), np.array([1, 2]))
    assert not diff_output("y", np.array([1, 2]), np.array([1, 3]))
    assert not diff_output("y", np.array([True]), np.array([False]))


def test_empty_and_scalar_outputs_can_be_compared() -> None:
    assert diff_output("y", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    assert diff_output("y", np.float32(1.0).reshape(()), np.float32(1.0).reshape(()))


def test_padded_positions_do_not_count_and_others_do() -> None:
    feed = {"attention_mask": np.array([[1, 1, 0]])}
    expected = {"last_hidden_state": np.zeros((1, 3, 2), np.float32)}
    wrong_padding = {"last_hidden_state": np.array([[[0, 0], [0, 0], [9, 9]]], np.float32)}
    wrong_token = {"last_hidden_state": np.array([[[0, 0], [9, 9], [0, 0]]], np.float32)}
    assert compare_outputs("t", expected, wrong_padding, feed)
    assert not compare_outputs("t", expected, wrong_token, feed)


def test_a_missing_output_is_said() -> None:
    comparison = compare_outputs("t", {"a": ONE, "b": ONE}, {"a": ONE}, {})
    assert not comparison and comparison.error is not None and "b" in comparison.error


def test_another_label_fails_although_the_numbers_are_close() -> None:
    expected = {"logits": np.array([[1.0, 1.01]], np.float32)}
    flipped = {"logits": np.array([[1.01, 1.0]], np.float32)}
    loose = {"float32": 1e-3}
    comparison = compare_outputs(
        "t", expected, flipped, {}, task="text-classification", atol=loose, rtol={"float32": 10.0}
    )
    assert all(comparison.diffs), "the numbers alone would pass"
    assert comparison.agreement is not None and not comparison.agreement and not comparison


def test_the_users_tolerance_is_for_all_dtypes() -> None:
    atol, rtol = tolerances(0.5, None)
    assert set(atol.values()) == {0.5} and rtol["float32"] == 1e-3


def test_the_absolute_tolerance_grows_with_the_output() -> None:
    expected = np.float32([20.0, -20.0, 0.0])
    near = expected + np.float32([0, 0, 5e-4])  # what float32 sums of terms around 20 leave
    assert diff_output("y", expected, near).passed and diff_output("y", expected, near).atol == pytest.approx(1.6e-3)
    assert not diff_output("y", expected / 20, near / 20 + np.float32([0, 0, 4e-4])).passed
    assert not diff_output("y", expected, expected + np.float32([0, 0, 5e-3])).passed
    asked = {"float32": 2e-4}
    assert not diff_output("y", expected, near, atol=asked).passed, "what the user asks for is what is asked"


@pytest.mark.parametrize("fill", [np.finfo(np.float32).min, -np.inf, np.nan])
def test_masks_do_not_make_the_tolerance_grow(fill: float) -> None:
    expected = np.float32([fill, 0.5, 0.5])
    assert noise_scale(expected) == 1.0
    assert not diff_output("y", expected, expected + np.float32([0, 1e-2, 0])).passed


def test_the_tolerance_grows_no_further_than_sixteen_times() -> None:
    assert noise_scale(np.full(9, 1e4, np.float32)) == 16.0
