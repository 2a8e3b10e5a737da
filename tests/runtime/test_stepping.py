"""A decoder step by step: what is bound, what is made, and that the past stays in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import FeedError
from onnx_magic.runtime.generating import decoder_steps
from onnx_magic.runtime.reordering import CacheEdits
from onnx_magic.runtime.stepping import DecoderSteps, positions

IDS = np.array([[5, 6, 7], [8, 9, 10]])


@pytest.fixture(scope="module")
def steps(writer: Any) -> DecoderSteps:
    return decoder_steps(writer.load().opened)


def logits(steps: DecoderSteps, ids: Any, past: Any) -> Any:
    found, _ = steps.step({"input_ids": np.asarray(ids)}, past)
    return steps.last(found)


def test_a_step_is_the_whole_run(steps: DecoderSteps) -> None:
    _, past = steps.step({"input_ids": IDS[:, :2]}, steps.empty(2))
    assert past is not None and (past.length, past.batch) == (2, 2)
    # the same sums in another order: a few times float32's resolution at logits of about 30
    np.testing.assert_allclose(logits(steps, IDS[:, 2:], past), logits(steps, IDS, steps.empty(2)), atol=1e-4)
    assert np.abs(logits(steps, IDS[:, 2:], past) - logits(steps, IDS[:, 2:], steps.empty(2))).max() > 0.1


def test_the_past_is_never_read_here(steps: DecoderSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime import OrtValue

    read: list[Any] = []
    monkeypatch.setattr(OrtValue, "numpy", lambda self: read.append(self))
    _, past = steps.step({"input_ids": IDS}, steps.empty(2))
    for _ in range(3):
        assert past is not None
        past = steps.select(past, np.array([1, 0]))
        found, past = steps.step({"input_ids": IDS[:, :1]}, past)
    assert not read


def test_rows_are_picked_repeated_and_cut(steps: DecoderSteps) -> None:
    _, past = steps.step({"input_ids": IDS}, steps.empty(2))
    assert past is not None
    plain = logits(steps, [[4], [4]], past)
    np.testing.assert_array_equal(logits(steps, [[4], [4]], steps.select(past, np.array([1, 0]))), plain[::-1])
    assert steps.select(past, np.array([1, 1, 0])).batch == 3
    assert steps.select(past, np.array([0, 1])) is past
    cut = steps.crop(past, 2)
    _, two = steps.step({"input_ids": IDS[:, :2]}, steps.empty(2))
    np.testing.assert_allclose(logits(steps, [[4], [4]], cut), logits(steps, [[4], [4]], two), atol=1e-4)
    assert steps.crop(past, 9) is past and steps.crop(past, 0).length == 0


def test_a_left_padded_row_is_the_row_alone(steps: DecoderSteps) -> None:
    ids, mask = np.array([[0, 0, 5], [8, 9, 10]]), np.array([[0, 0, 1], [1, 1, 1]])
    found, _ = steps.step({"input_ids": ids, "attention_mask": mask}, steps.empty(2))
    alone = logits(steps, [[5]], steps.empty(1))
    np.testing.assert_allclose(steps.last(found)[:1], alone, atol=1e-4)
    assert np.abs(logits(steps, ids, steps.empty(2))[:1] - alone).max() > 0.1


def test_positions_do_not_count_padding() -> None:
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert positions(mask, 2, 2, 2).tolist() == [[0, 1], [2, 3]]
    assert positions(None, 1, 3, 2).tolist() == [[3, 4]]


def test_what_does_not_fit_is_refused(steps: DecoderSteps) -> None:
    _, past = steps.step({"input_ids": IDS}, steps.empty(2))
    with pytest.raises(FeedError, match="2 rows, input_ids 1"):
        steps.step({"input_ids": IDS[:1]}, past)
    with pytest.raises(FeedError, match=r"attention_mask has shape \[2, 3\]: expected \[2, 4\]"):
        steps.step({"input_ids": IDS[:, :1], "attention_mask": np.ones((2, 3), np.int64)}, past)
    with pytest.raises(FeedError, match="no tokens"):
        steps.step({}, past)
    with pytest.raises(FeedError, match="missing"):
        steps.given({})


def test_edits_of_other_dtypes() -> None:
    from onnxruntime import OrtValue

    edits, half = CacheEdits(), np.arange(6, dtype=np.float16).reshape(2, 3)
    value = OrtValue.ortvalue_from_numpy(half)
    np.testing.assert_array_equal(edits.select({"k": value}, np.array([1, 1]))["k"].numpy(), half[[1, 1]])
    np.testing.assert_array_equal(edits.crop({"k": value}, {"k": 1}, 2)["k"].numpy(), half[:, :2])
