"""What is to be expected of samples not seen: near what becomes of them, and finer than a count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_magic.engine.variants.foreseeing import expected_rate, mean_drift, rate_of, reaches, worth
from onnx_magic.records.variants import Answers
from onnx_magic.runtime.agreeing import lead_changes

TASK = "text-classification"


def runs(count: int, noise: float, seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    wanted = random.standard_normal((count, 3)).astype(np.float32)
    found = wanted + noise * random.standard_normal(wanted.shape).astype(np.float32)
    return [({"logits": wanted}, {"logits": found}, {})]


def changed(tried: list[Any]) -> float:
    ((wanted, found, _),) = tried
    return float((wanted["logits"].argmax(1) != found["logits"].argmax(1)).mean())


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_a_few_hundred_foretell_what_becomes_of_many(noise: float) -> None:
    """Of 1,000 samples what is computed is off by two fifths at the most: the smallest leads are few."""
    truth = changed(runs(200_000, noise, seed=0))
    for seed in range(1, 6):
        told = expected_rate(runs(1000, noise, seed), TASK)
        assert told is not None and 1 - told == pytest.approx(truth, rel=0.4)


def test_leads_and_shifts() -> None:
    one, two = {"logits": np.array([[0.0, 2.0, 1.0]])}, {"logits": np.array([[9.0, 1.0, 1.5]])}
    lead, shift = lead_changes(TASK, one, two, {}) or (None, None)
    assert lead == [1.0] and shift == [-1.5]
    assert lead_changes("feature-extraction", one, two, {}) is None and expected_rate([(one, two, {})], None) is None


def test_drift_is_a_share_of_the_output() -> None:
    assert mean_drift([({"y": np.float32([3, 4])}, {"y": np.float32([3, 4.5])}, {})]) == pytest.approx(0.1)
    assert mean_drift([({"ids": np.array([1])}, {"ids": np.array([1])}, {})]) is None


def test_a_target_is_reached_by_the_count_and_by_what_is_expected() -> None:
    def label(same: int, expected: float) -> Answers:
        return Answers("label", same, 1000, 1.0, 1.0, expected=expected, drift=0.1)

    assert reaches(label(1000, 0.9998), 1.0) and not reaches(label(1000, 0.999), 1.0), "luck on these"
    assert reaches(label(999, 0.9992), 0.999) and not reaches(label(990, 0.9999), 0.999)
    assert not reaches(None, 0.5) and reaches(Answers("cosine", 9, 10, 0.98, 0.9), 0.98)
    assert rate_of((label(1000, 1), None, label(990, 1))) == 0.995
    assert worth(label(990, 0.99)) > worth(label(1000, 0.98)) > worth(None)
