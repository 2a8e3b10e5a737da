"""Answers of one backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_magic.display.bundles import bundle
from onnx_magic.records.results import RunResult


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
