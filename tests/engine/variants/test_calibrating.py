"""The user's data in every form it comes in, and in those that cannot be used."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.engine.variants.calibrating import read_data, samples_in
from onnx_magic.errors import FeedError, UsageError


def shapes(feeds: Any) -> list[tuple[int, ...]]:
    return [feed["input_ids"].shape for feed in feeds]


def test_texts_are_fed_together(sample: Any, texts: list[str], tmp_path: Path) -> None:
    feeds = read_data(sample.opened, texts[:20], 100)
    assert [shape[0] for shape in shapes(feeds)] == [16, 4] and samples_in(feeds) == 20
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts[:20]) + "\n\n")
    for same in (iter(texts[:20]), tuple(texts[:20]), np.array(texts[:20]), file, {"text": texts[:20]}):
        again = read_data(sample.opened, same, 100)
        for one, other in zip(feeds, again, strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in one)


def test_rows_of_a_data_set(sample: Any, texts: list[str]) -> None:
    rows = [{"sentence": text, "label": 1, "idx": number} for number, text in enumerate(texts[:5])]
    assert shapes(read_data(sample.opened, rows, 100))[0][0] == 5
    tokens = [{"input_ids": [2, 5, 6, 3], "attention_mask": [1, 1, 1, 1], "labels": 0} for _ in range(3)]
    assert shapes(read_data(sample.opened, tokens, 100)) == [(1, 4)] * 3
    with pytest.raises(FeedError, match="label, score"):
        read_data(sample.opened, [{"label": 1, "score": 2}], 100)


def test_a_data_loader(sample: Any, texts: list[str], export_module: Any) -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    pairs: Any = list(zip(texts[:6], range(6), strict=True))
    assert samples_in(read_data(sample.opened, DataLoader(pairs, batch_size=3), 100)) == 6
    batches = [{"input_ids": torch.ones(2, 5, dtype=torch.long), "labels": torch.zeros(2)} for _ in range(2)]
    assert shapes(read_data(sample.opened, DataLoader(batches, batch_size=None), 100)) == [(2, 5), (2, 5)]
    plain = export_module(torch.nn.Linear(8, 4), torch.randn(2, 8))
    name = plain.inputs[0].name
    loader = DataLoader(TensorDataset(torch.randn(10, 8), torch.zeros(10)), batch_size=4)
    for data in (loader, torch.randn(10, 8), np.ones((10, 8), np.float32), {name: np.ones((10, 8), np.float32)}):
        feeds = read_data(plain.opened, data, 100)
        assert samples_in(feeds) == 10 and all(feed[name].shape[1:] == (8,) for feed in feeds)


def test_an_endless_iterator_is_left(sample: Any, texts: list[str]) -> None:
    assert samples_in(read_data(sample.opened, itertools.cycle(texts), 50)) == 50
    endless = ({"input_ids": np.ones((7, 4), np.int64)} for _ in itertools.count())
    assert samples_in(read_data(sample.opened, endless, 50)) == 50


@pytest.mark.parametrize("data", [[], iter(()), (), {}])
def test_nothing_in_it(sample: Any, data: Any) -> None:
    with pytest.raises((UsageError, FeedError)) as caught:
        read_data(sample.opened, data, 10)
    assert caught.value.fix


def test_what_does_not_fit_is_named_by_its_number(sample: Any, export_module: Any) -> None:
    import torch

    plain = export_module(torch.nn.Linear(8, 4), torch.randn(2, 8))
    with pytest.raises(FeedError, match="sample 1 of data does not fit.*8"):
        read_data(plain.opened, [np.ones((2, 8), np.float32), np.ones((2, 9), np.float32)], 10)
    with pytest.raises(UsageError, match="nothing to go through"):
        read_data(plain.opened, 3, 10)
    with pytest.raises(FeedError, match="sample 0 of data"):
        read_data(plain.opened, ["a text"], 10)
