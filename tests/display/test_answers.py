"""Answers, and two of them side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_magic.display.bundles import bundle
from onnx_magic.records.results import RunResult, SideBySide


def text_of(record: object) -> str:
    return bundle(record)["text/plain"]


def test_seconds_are_not_shown(build: Callable[[str], Any]) -> None:
    result = build("answered")
    assert bundle(result) == bundle(dataclasses.replace(result, seconds=987.654))


def test_a_sample_with_several_answers_and_one_with_none(build: Callable[[str], object]) -> None:
    rows = text_of(build("entities")).splitlines()
    assert [row.split()[0] for row in rows if row[:1].isdigit()] == ["0", "1", "2"]
    assert "1       none" in rows


@pytest.mark.parametrize("decoded", [[], "one answer", 0.25, {"answer": "x"}, [["a", "b"], ["c"]], [None]])
def test_any_decoded_answer_is_shown(decoded: Any) -> None:
    assert "sample" in text_of(RunResult({"logits": np.zeros(2)}, decoded))


def test_what_differs_says_so_in_words(build: Callable[[str], object]) -> None:
    differing = bundle(build("differing"))
    assert differing["text/plain"].count("✗ differs") == 1
    assert "✗ differs" in differing["text/html"]
    assert "differs" not in text_of(build("agreeing"))


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("agreeing", "✓ agrees: ONNX Runtime agrees with PyTorch in 1 call · max |Δ| ≤ 1e-6 · label 2/2"),
        ("differing", "✗ FAILED: ONNX Runtime differs from PyTorch in 2 of 3 calls: call 2: logits differs"),
        ("no_call", "! unchecked: no call of the model was compared; the values of the two runs are the same"),
    ],
)
def test_first_line(build: Callable[[str], object], name: str, beginning: str) -> None:
    assert text_of(build(name)).startswith(beginning)


def test_answers_that_differ_under_tensors_that_agree_are_not_green(build: Callable[[str], Any]) -> None:
    pair = dataclasses.replace(build("agreeing"), actual="something else")
    assert text_of(pair).startswith("! look: the model's outputs agree in 1 call, but 3 of 3 values differ")
    assert "nothing" in text_of(pair)


def test_no_call_and_other_values() -> None:
    assert "1 of 1 value differs" in text_of(SideBySide("a", "b"))


def test_a_list_of_numbers_is_one_value_and_a_long_list_is_folded() -> None:
    numbers = [0.5] * 768
    assert text_of(SideBySide(numbers, numbers)).count("\n") < 8
    texts = [f"sample {n}" for n in range(5000)]
    shown = bundle(SideBySide(texts, texts))
    assert "… and 4980 more rows" in shown["text/plain"] and "4780 more rows" in shown["text/html"]
    assert len(shown["text/html"]) < 250_000


def test_values_of_a_cell_of_every_kind() -> None:
    torch = pytest.importorskip("torch")
    modeling_outputs = pytest.importorskip("transformers.modeling_outputs")
    output = modeling_outputs.SequenceClassifierOutput(logits=torch.tensor([[0.5, -0.5]]))
    other = modeling_outputs.SequenceClassifierOutput(logits=torch.tensor([[0.5, -0.7]]))
    row = next(line for line in text_of(SideBySide(output, other)).splitlines() if line.startswith("logits"))
    assert "0.500, »-0.500«" in row and "float32[1, 2] 0.500, »-0.700«" in row and row.endswith("✗ differs")
