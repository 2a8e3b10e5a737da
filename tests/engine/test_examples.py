"""Example inputs at any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_magic.engine.examples import Vocabulary, given_examples, image_examples, read_vocabulary, text_examples

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Config:
    vocab_size = 50
    type_vocab_size = 2
    max_position_embeddings = 40
    pad_token_id = 0


def test_text_without_tokenizer_comes_from_the_config() -> None:
    examples = text_examples(Config(), None, NAMES, ())
    assert examples.by == "config" and examples.padded
    assert set(examples.traced) == set(NAMES)
    assert examples.traced["input_ids"].shape[0] >= 2
    assert not examples.traced["attention_mask"].all(), "an unpadded trace loses its attention_mask"
    assert examples.limits == {"sequence_length": 40}


def test_text_with_tokenizer_is_tokenized_and_padded(tiny_tokenizer: Any) -> None:
    examples = text_examples(Config(), tiny_tokenizer, NAMES, ("the film was good", "bad"))
    assert examples.by == "task" and examples.padded
    ids = tiny_tokenizer(["the film was good", "bad"], padding=True)["input_ids"]
    assert examples.traced["input_ids"].tolist() == ids


@pytest.mark.parametrize("sizes", [{"batch_size": 1, "sequence_length": 3}, {"batch_size": 5, "sequence_length": 33}])
def test_other_sizes_are_legal_rows(sizes: dict[str, int]) -> None:
    examples = text_examples(Config(), None, NAMES, ())
    arrays = examples.at(1, **sizes)
    assert arrays["input_ids"].shape == tuple(sizes.values())
    assert 0 <= arrays["input_ids"].min() and arrays["input_ids"].max() < 50
    assert set(np.unique(arrays["token_type_ids"])) <= {0, 1}
    assert (arrays["attention_mask"].sum(1) >= 1).all(), "a row that is all padding has no answer"
    if sizes["batch_size"] > 1:
        assert not arrays["attention_mask"].all()


def test_the_same_seed_gives_the_same_arrays_and_another_seed_others() -> None:
    examples = text_examples(Config(), None, NAMES, ())
    first, again, other = examples.at(1), examples.at(1), examples.at(2)
    assert np.array_equal(first["input_ids"], again["input_ids"])
    assert not np.array_equal(first["input_ids"], other["input_ids"])


def test_rows_start_and_end_as_a_tokenizers_do() -> None:
    right = Vocabulary(50, first=1, last=2, pad=0, special=frozenset({0, 1, 2}))
    ids, mask = right.rows(4, 12, seed=3)
    for row, kept in zip(ids, mask.sum(1), strict=True):
        assert row[0] == 1 and row[kept - 1] == 2 and (row[kept:] == 0).all()
        assert not set(row[1 : kept - 1]) & {0, 1, 2}
    left = Vocabulary(50, first=1, last=2, pad=0, special=frozenset({0, 1, 2}), left=True)
    ids, mask = left.rows(4, 12, seed=3)
    assert (mask[:, -1] == 1).all() and (mask[1:, 0] == 0).all() and (ids[:, -1] == 2).all()


def test_special_ids_beyond_the_vocabulary_are_not_used() -> None:
    class Odd(Config):
        vocab_size = 4
        eos_token_id = 30000
        pad_token_id = 30001

    vocabulary = read_vocabulary(Odd(), None)
    assert (vocabulary.last, vocabulary.pad) == (None, 0)
    assert vocabulary.rows(3, 8, 0)[0].max() < 4


def test_num_choices_stands_between_batch_and_sequence() -> None:
    samples = (("a", ("b", "c")), ("d", ("e", "f")))
    examples = text_examples(Config(), None, NAMES, samples, choices=True)
    assert examples.axes["input_ids"] == {0: "batch_size", 1: "num_choices", 2: "sequence_length"}
    assert examples.at(1, num_choices=3)["input_ids"].shape[1] == 3


def test_images_have_the_axes_of_images() -> None:
    examples = image_examples("pixel_values", 3, (32, 48), "config")
    assert examples.traced["pixel_values"].shape == (2, 3, 32, 48)
    assert examples.at(1, height=64)["pixel_values"].shape == (2, 3, 64, 48)


def test_given_floats_stay_in_range_and_integers_in_order() -> None:
    floats = np.linspace(0.25, 0.75, 6, dtype=np.float32).reshape(2, 3)
    whole = np.array([[5, 6, 7], [8, 9, 9]])
    axes = {"x": {0: "batch_size", 1: "width"}, "n": {0: "batch_size", 1: "width"}}
    other = given_examples({"x": floats, "n": whole}, axes).at(1, batch_size=4, width=6)
    assert other["x"].shape == other["n"].shape == (4, 6)
    assert other["x"].dtype == np.float32 and 0.25 <= other["x"].min() and other["x"].max() <= 0.75
    assert set(np.unique(other["n"])) <= {5, 6, 7, 8, 9}


def test_a_scalar_and_an_empty_axis_can_be_resampled() -> None:
    other = given_examples({"s": np.float32(3.0).reshape(()), "e": np.zeros((0, 2), np.float32)}, {}).at(1)
    assert other["s"].shape == () and other["s"] == 3.0 and other["e"].shape == (0, 2)
