"""The next token: Transformers' own processors are the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from onnx_magic.runtime.choosing import Chooser
from onnx_magic.runtime.generation_settings import GenerationSettings

PLAIN = GenerationSettings(max_new_tokens=4, eos=(2,), top_k=0)
IDS = np.array([[3, 4, 4], [5, 2, 7]])

PROCESSORS: dict[str, tuple[GenerationSettings, Any]] = {
    "penalty": (replace(PLAIN, repetition_penalty=1.7), RepetitionPenaltyLogitsProcessor(1.7)),
    "least": (replace(PLAIN, min_new_tokens=3), MinNewTokensLengthLogitsProcessor(3, 3, 2, device="cpu")),
    "suppressed": (replace(PLAIN, suppress=(1, 6)), SuppressTokensLogitsProcessor([1, 6])),
    "suppressed first": (
        replace(PLAIN, begin_suppress=(6,)),
        SuppressTokensAtBeginLogitsProcessor([6], 3),
    ),
    "forced last": (replace(PLAIN, max_new_tokens=1, forced_eos=(2,)), ForcedEOSTokenLogitsProcessor(4, 2)),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_logits_are_transformers(name: str) -> None:
    settings, reference = PROCESSORS[name]
    logits = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    expected = reference(torch.from_numpy(IDS), torch.from_numpy(logits.copy())).numpy()
    assert not np.array_equal(expected, logits)
    chooser = Chooser(settings, 3, [0, 0])
    chooser._process(logits, IDS)
    np.testing.assert_array_equal(logits, expected)


def test_the_first_token_of_a_decoder_is_forced() -> None:
    logits = np.zeros((1, 9), np.float32)
    expected = ForcedBOSTokenLogitsProcessor(4)(torch.tensor([[0]]), torch.zeros(1, 9)).argmax(-1)
    assert Chooser(replace(PLAIN, forced_bos=4), 1, [0])(logits, np.array([[0]])).tolist() == expected.tolist()


def test_padding_is_no_repetition() -> None:
    logits = np.ones((1, 9), np.float32)
    Chooser(replace(PLAIN, repetition_penalty=2.0), 3, [1])._process(logits, np.array([[3, 4, 4]]))
    assert logits[0, 3] == 1.0 and logits[0, 4] == 0.5


def test_probabilities_are_transformers() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 30)).astype(np.float32) * 3
    settings = replace(PLAIN, sample=True, temperature=0.6, top_k=12, top_p=0.8)
    tensor = torch.from_numpy(logits)
    for warper in (TemperatureLogitsWarper(0.6), TopKLogitsWarper(12), TopPLogitsWarper(0.8)):
        tensor = warper(None, tensor)
    expected = tensor.softmax(-1).numpy()
    actual = Chooser(settings, 1, [0, 0, 0])._probabilities(logits)
    actual = actual / actual.sum(-1, keepdims=True)
    assert (expected == 0).sum() > 40
    np.testing.assert_allclose(actual, expected, atol=1e-6)  # float32 sums of probabilities


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1]], np.float32)).repeat(4000, 0)
    settings = replace(PLAIN, sample=True, seed=5)
    drawn = [Chooser(settings, 1, [0] * 4000)(logits.copy(), np.zeros((4000, 1), int)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    shares = np.bincount(drawn[0], minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.03)  # four standard deviations of 4000 draws
