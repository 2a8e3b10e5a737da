from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnx_magic.errors import FeedError
from onnx_magic.records.plan import TensorSpec
from onnx_magic.runtime.feeds import example_feed, fit_feed

AXES = ("batch_size", "sequence_length")
IDS = TensorSpec("input_ids", "int64", AXES)
MASK = TensorSpec("attention_mask", "int64", AXES)
TYPES = TensorSpec("token_type_ids", "int64", AXES)
POSITIONS = TensorSpec("position_ids", "int64", AXES)
X = TensorSpec("x", "float32", ("batch_size", 3))


def test_arrays_that_fit_pass_through_untouched() -> None:
    ids, mask = np.ones((2, 4), np.int64), np.zeros((2, 4), np.int64)
    arrays, notes = fit_feed({"attention_mask": mask, "input_ids": ids}, (IDS, MASK))
    assert arrays["input_ids"] is ids and arrays["attention_mask"] is mask
    assert list(arrays) == ["input_ids", "attention_mask"] and notes == ()


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.ones((1, 3), np.float64), "float32"),
        (np.ones((1, 3), np.float16), "float32"),
        (np.ones((1, 3), np.int32), "float32"),
        (np.ones((1, 3), ml_dtypes.bfloat16), "float32"),
        (np.ones((1, 3), np.float32), "bfloat16"),
        (np.ones((1, 3), np.float32), "float16"),
        (np.ones((1, 3), np.int32), "int64"),
        (np.ones((1, 3), np.uint8), "int64"),
        (np.ones((1, 3), np.int64), "int32"),
        (np.ones((1, 3), bool), "int64"),
        (np.ones((1, 3), np.int64), "bool"),
        (np.ones((1, 3), ">f4"), "float32"),
        ([[1, 2, 3]], "float32"),
        ([[1.0, 2.0, 3.0]], "float32"),
        ([[True, False, True]], "int64"),
    ],
)
def test_a_cast_that_loses_nothing_is_made_and_said(given: Any, dtype: str) -> None:
    arrays, notes = fit_feed({"x": given}, (TensorSpec("x", dtype, ("batch_size", 3)),))
    assert arrays["x"].dtype.name == dtype and np.array_equal(arrays["x"].astype(float), np.asarray(given, float))
    assert len(notes) == 1 and "was turned into" in notes[0] and dtype in notes[0]


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.ones((1, 3), np.float32), "int64"),
        ([[1.5, 2.0, 3.0]], "int64"),
        (np.full((1, 3), 2**40), "int32"),
        (np.full((1, 3), -1), "uint8"),
        (np.full((1, 3), 2**24 + 1), "float32"),
        (np.full((1, 3), 2), "bool"),
        (np.full((1, 3), 1e6, np.float32), "float16"),
        (np.ones((1, 3), complex), "float32"),
        (np.array([["a", "b", "c"]]), "float32"),
        (np.array([["1", "2", "3"]]), "int64"),
        (np.array([[object(), 1, 2]], object), "float32"),
        ([["a", 1, 2]], "float32"),
    ],
)
def test_a_cast_that_would_lose_something_is_refused(given: Any, dtype: str) -> None:
    with pytest.raises(FeedError) as caught:
        fit_feed({"x": given}, (TensorSpec("x", dtype, ("batch_size", 3)),))
    assert f"x: {dtype}[batch_size, 3]" in caught.value.what and "without loss" in caught.value.what


def test_a_misspelt_name_is_refused_with_the_right_one() -> None:
    with pytest.raises(FeedError, match="did you mean 'input_ids'") as caught:
        fit_feed({"inputs_ids": np.ones((1, 2), np.int64)}, (IDS, MASK))
    assert "input_ids: int64[batch_size, sequence_length]" in caught.value.what
    assert caught.value.fix == "rename 'inputs_ids' to 'input_ids'"


def test_an_input_that_the_graph_does_not_have_is_refused() -> None:
    with pytest.raises(FeedError, match="no input 'pixel_values'"):
        fit_feed({"input_ids": [[1]], "pixel_values": [[1.0]]}, (IDS,))


def test_a_missing_input_is_refused_with_its_spec() -> None:
    with pytest.raises(FeedError, match=r"'x' is missing; expected x: float32\[batch_size, 3\]"):
        fit_feed({"input_ids": [[1]]}, (IDS, X))


def test_none_counts_as_not_given() -> None:
    arrays, notes = fit_feed({"input_ids": np.ones((1, 2), np.int64), "attention_mask": None}, (IDS, MASK))
    assert arrays["attention_mask"].tolist() == [[1, 1]] and "filled in" in notes[0]


@pytest.mark.parametrize("given", [np.ones(3, np.float32), np.ones((1, 1, 3), np.float32), np.float32(1)])
def test_a_wrong_rank_is_refused(given: Any) -> None:
    with pytest.raises(FeedError, match=r"axes; expected x: float32\[batch_size, 3\]"):
        fit_feed({"x": given}, (X,))


def test_ids_without_a_batch_axis_are_refused_with_the_line_that_mends_them() -> None:
    with pytest.raises(FeedError) as caught:
        fit_feed({"input_ids": [1, 2, 3]}, (IDS,))
    assert "expected input_ids: int64[batch_size, sequence_length]" in caught.value.what
    assert caught.value.fix.endswith("input_ids = input_ids[None]")


def test_another_size_of_a_static_axis_is_refused() -> None:
    with pytest.raises(
        FeedError, match=r"axis 1 of x is 4, the graph takes 3 only; expected x: float32\[batch_size, 3\]"
    ):
        fit_feed({"x": np.ones((1, 4), np.float32)}, (X,))


def test_two_sizes_of_one_name_are_refused() -> None:
    with pytest.raises(FeedError, match="sequence_length is 4 in input_ids and 5 in attention_mask"):
        fit_feed({"input_ids": np.ones((1, 4), np.int64), "attention_mask": np.ones((1, 5), np.int64)}, (IDS, MASK))


def test_a_ragged_list_is_refused() -> None:
    with pytest.raises(FeedError, match=r"input_ids is ragged.*expected input_ids"):
        fit_feed({"input_ids": [[1, 2, 3], [1]]}, (IDS,))


def test_a_static_axis_that_fits_and_an_empty_batch_are_passed_on() -> None:
    arrays, _ = fit_feed({"x": np.ones((0, 3), np.float32)}, (X,))
    assert arrays["x"].shape == (0, 3)


@pytest.mark.parametrize("name", ["token_type_ids", "attention_mask", "position_ids"])
def test_what_everyone_leaves_out_is_filled_in_and_said(name: str) -> None:
    spec = TensorSpec(name, "int64", AXES)
    arrays, notes = fit_feed({"input_ids": np.array([[7, 8, 9]])}, (IDS, spec))
    expected = {"token_type_ids": [[0, 0, 0]], "attention_mask": [[1, 1, 1]], "position_ids": [[0, 1, 2]]}
    assert arrays[name].tolist() == expected[name] and arrays[name].dtype == np.int64
    assert len(notes) == 1 and notes[0].startswith(f"{name} was filled in")


def test_positions_do_not_count_padding_on_the_left() -> None:
    given = {"input_ids": np.array([[0, 0, 7, 8]]), "attention_mask": np.array([[0, 0, 1, 1]])}
    assert fit_feed(given, (IDS, MASK, POSITIONS))[0]["position_ids"].tolist() == [[0, 0, 0, 1]]


def test_positions_are_not_guessed_beside_a_cache() -> None:
    past = TensorSpec("past_key_values.0.key", "float32", ("batch_size", 2, "past_sequence_length", 4))
    given = {"input_ids": [[1]], "past_key_values.0.key": np.zeros((1, 2, 3, 4), np.float32)}
    with pytest.raises(FeedError, match="'position_ids' is missing"):
        fit_feed(given, (IDS, past, POSITIONS))


def test_a_mask_over_past_and_present_has_the_length_of_both() -> None:
    total = TensorSpec("attention_mask", "int64", ("batch_size", "past_sequence_length + sequence_length"))
    past = TensorSpec("past_key_values.0.key", "float32", ("batch_size", 2, "past_sequence_length", 4))
    given = {"input_ids": [[1, 2]], "past_key_values.0.key": np.zeros((1, 2, 3, 4), np.float32)}
    assert fit_feed(given, (IDS, total, past))[0]["attention_mask"].shape == (1, 5)


def test_a_mask_is_filled_in_where_the_axes_have_no_names() -> None:
    ids = TensorSpec("input_ids", "int64", ("input_ids_dim_0", "input_ids_dim_1"))
    mask = TensorSpec("attention_mask", "int64", ("attention_mask_dim_0", "attention_mask_dim_1"))
    assert fit_feed({"input_ids": [[1, 2]]}, (ids, mask))[0]["attention_mask"].tolist() == [[1, 1]]


def test_one_array_goes_into_the_only_input_and_a_tuple_in_order() -> None:
    x, y = np.ones((2, 3), np.float32), TensorSpec("y", "float32", (1,))
    one = np.ones(1, np.float32)
    assert fit_feed(x, (X,))[0]["x"] is x
    assert fit_feed([[1.0, 2.0, 3.0]], (X,))[0]["x"].shape == (1, 3)
    for given in ((x, one), [x, one]):
        arrays, _ = fit_feed(given, (X, y))
        assert arrays["x"] is x and arrays["y"] is one


def test_one_array_for_two_inputs_and_three_for_two_are_refused() -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(FeedError, match="one ndarray for a graph with 2 inputs"):
        fit_feed(x, (X, IDS))
    with pytest.raises(FeedError, match="3 arrays for a graph with 2 inputs"):
        fit_feed((x, x, x), (X, IDS))


def test_torch_tensors_are_taken_whatever_they_require() -> None:
    import torch

    plain = torch.arange(6).reshape(2, 3)
    arrays, notes = fit_feed({"x": plain.float().requires_grad_()}, (X,))
    assert arrays["x"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] and notes == ()
    arrays, _ = fit_feed({"x": plain.to(torch.bfloat16)}, (TensorSpec("x", "bfloat16", ("batch_size", 3)),))
    assert arrays["x"].dtype == ml_dtypes.bfloat16
    arrays, _ = fit_feed({"x": [row.float() for row in plain]}, (X,))
    assert arrays["x"].shape == (2, 3)
    with pytest.raises(FeedError, match="without loss"):
        fit_feed({"x": plain.float()}, (TensorSpec("x", "int64", ("batch_size", 3)),))


def test_text_goes_into_a_text_input_only() -> None:
    spec = TensorSpec("t", "str", ("n",))
    assert fit_feed({"t": ["a", "bc"]}, (spec,))[0]["t"].tolist() == ["a", "bc"]
    with pytest.raises(FeedError, match="without loss"):
        fit_feed({"t": [1, 2]}, (spec,))


def test_an_unknown_rank_takes_any() -> None:
    spec = TensorSpec("x", "float32", ("...",))
    for shape in ((), (2,), (2, 3)):
        assert fit_feed({"x": np.ones(shape, np.float32)}, (spec,))[0]["x"].shape == shape


def test_the_example_in_a_fix_is_a_feed_that_fits() -> None:
    example = eval(example_feed((IDS, X)), {"np": np})
    arrays, notes = fit_feed(example, (IDS, X))
    assert arrays["x"].shape == (2, 3) and notes == ()
