from __future__ import annotations

import numpy as np
import pytest

from onnx_magic.records.results import Agreement
from onnx_magic.runtime.agreeing import agreement

RNG = np.random.default_rng(0)
ATOL = 1e-4


def result(task: str | None, expected: dict, actual: dict, feed: dict | None = None) -> Agreement | None:
    return agreement(task, expected, actual, feed or {}, ATOL)


CASES = {
    "text-classification": ("label", {"logits": (4, 3)}, 4),
    "image-classification": ("label", {"logits": (4, 3)}, 4),
    "multiple-choice": ("choice", {"logits": (4, 3)}, 4),
    "token-classification": ("token-label", {"logits": (4, 6, 3)}, 24),
    "fill-mask": ("mask-token", {"logits": (4, 6, 50)}, 24),
    "question-answering": ("span", {"start_logits": (4, 6), "end_logits": (4, 6)}, 4),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("task", CASES)
def test_the_same_outputs_agree_and_others_do_not(task: str, dtype: type) -> None:
    kind, shapes, total = CASES[task]
    expected = {name: RNG.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    noisy = {name: (array + 1e-6).astype(dtype) for name, array in expected.items()}
    assert result(task, expected, noisy) == Agreement(kind, total, total)
    turned = {name: -array for name, array in expected.items()}
    found = result(task, expected, turned)
    assert found is not None and found.total == total and found.agreed < total / 2 and not found


def test_one_answer_of_many_that_differs_is_counted() -> None:
    expected = {"logits": np.eye(3)}
    actual = {"logits": np.eye(3)[[0, 1, 0]]}
    assert str(result("text-classification", expected, actual)) == "label 2/3"


@pytest.mark.parametrize(("gap", "agreed"), [(1.9e-4, 1), (2.5e-4, 0)])
def test_a_tie_on_the_expected_side_counts_as_agreed(gap: float, agreed: int) -> None:
    expected, actual = {"logits": np.array([[gap, 0.0]])}, {"logits": np.array([[0.0, gap]])}
    assert result("text-classification", expected, actual) == Agreement("label", agreed, 1)


@pytest.mark.parametrize("task", ["token-classification", "fill-mask"])
def test_padding_is_left_out(task: str) -> None:
    expected = {"logits": RNG.normal(size=(2, 4, 5))}
    actual = {"logits": expected["logits"].copy()}
    actual["logits"][1, 2:] *= -1
    mask = {"attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]])}
    found = result(task, expected, actual, mask)
    assert found is not None and (found.agreed, found.total) == (6, 6)
    assert not result(task, expected, actual)


def test_a_span_ends_after_its_start_and_in_the_valid_part() -> None:
    start, end = np.zeros((1, 5)), np.zeros((1, 5))
    start[0, 2], end[0, 3] = 5, 5
    expected = {"start_logits": start, "end_logits": end}
    # An end before every start, and one in the padding: they change no legal span.
    actual = {"start_logits": start.copy(), "end_logits": end.copy()}
    actual["end_logits"][0, 0], actual["end_logits"][0, 4] = 4.9, 50
    mask = {"attention_mask": np.array([[1, 1, 1, 1, 0]])}
    assert result("question-answering", expected, actual, mask)
    assert not result("question-answering", expected, actual)


def test_nan_disagrees_where_pytorch_gives_a_number() -> None:
    expected = {"logits": np.array([[1.0, 0.0], [0.0, 1.0]])}
    actual = {"logits": np.array([[np.nan, 0.0], [0.0, 1.0]])}
    assert result("text-classification", expected, actual) == Agreement("label", 1, 2)
    assert result("text-classification", actual, actual) == Agreement("label", 1, 1)


def test_another_shape_disagrees() -> None:
    expected, actual = {"logits": np.eye(3)}, {"logits": np.eye(4)}
    assert result("text-classification", expected, actual) == Agreement("label", 0, 3)
    assert result("text-classification", expected, {}) == Agreement("label", 0, 3)


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (None, {"logits": np.eye(3)}),
        ("feature-extraction", {"logits": np.eye(3)}),
        ("text-classification", {"last_hidden_state": np.eye(3)}),
        ("text-classification", {"logits": np.ones((3, 1))}),  # a regression has no label
        ("question-answering", {"start_logits": np.eye(3)}),
    ],
)
def test_where_there_is_no_discrete_answer_there_is_nothing_to_agree_on(task: str | None, outputs: dict) -> None:
    assert result(task, outputs, outputs) is None
