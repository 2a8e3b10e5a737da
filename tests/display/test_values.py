"""Any Python value in a few words, and whether two say the same."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from onnx_magic.display.values import brief, same
from onnx_magic.records.results import RunResult


class Colour(enum.Enum):
    RED = 1


class Opaque:
    pass


@dataclasses.dataclass
class Point:
    x: float
    y: float


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "None"),
        (True, "True"),
        (7, "7"),
        (np.int64(7), "7"),
        (0.123456, "0.123"),
        (np.float32(0.123456), "0.123"),
        (1 + 2j, "1.000 + 2.000j"),
        ("text", "text"),
        (PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "Colour.RED"),
        (Point(1.0, 2.5), "x: 1.000, y: 2.500"),
        ({"label": "POSITIVE", "score": 0.99812}, "POSITIVE 0.998"),
        ({"score": 0.5, "answer": "Ada"}, "Ada 0.500"),
        ({"a": 1, "b": [1, 2]}, "a: 1, b: [1, 2]"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, …]"),
        ({"b", "a", "c"}, "{a, b, c}"),
        (np.zeros((2, 3), "float32"), "float32[2, 3] 0.000, 0.000, 0.000, 0.000, …"),
        (np.array(["x", "y"], dtype=object), "object[2] x, y"),
        (np.zeros((0, 2)), "float64[0, 2]"),
        (Opaque(), "<Opaque>"),
        (Opaque, "Opaque"),
        ([[[[[1]]]]], "[[[…]]]"),
    ],
)
def test_brief(value: Any, expected: str) -> None:
    assert brief(value) == expected


def test_brief_never_holds_an_address_and_never_runs_on() -> None:
    assert "0x" not in brief([Opaque(), lambda: 0, test_brief, {"k": Opaque()}, object()])
    assert len(brief("x" * 100_000)) == 200
    looped: list[Any] = []
    looped.append(looped)
    assert brief(looped) == "[[[…]]]"


def test_torch_tensors_are_told_by_their_detach() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1.5, -2.25]], requires_grad=True)
    assert brief(tensor) == "float32[1, 2] 1.500, -2.250"
    assert brief(tensor.bfloat16()) == "bfloat16[1, 2] 1.500, -2.250"
    assert brief(torch.tensor(3)) == "int64[] 3"
    assert same(tensor, np.array([[1.5, -2.25]], "float32")) and not same(tensor, tensor + 1)
    assert same(tensor.bfloat16(), tensor)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.99871, 0.99879),
        (1000.0, 1000.5),
        (float("nan"), float("nan")),
        (1, 1.0),
        (np.array([1.0, np.nan]), np.array([1.0004, np.nan])),
        ({"label": "A", "score": 0.5}, {"label": "A", "score": 0.5001}),
        ([1.0, "a"], (1.0001, "a")),
        (OrderedDict(a=1), {"a": 1}),
        (Point(1.0, 2.0), Point(1.0, 2.0001)),
        (Opaque(), Opaque()),
    ],
)
def test_same(one: Any, other: Any) -> None:
    assert same(one, other) and same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.99, 0.98),
        ("a", "b"),
        (1, None),
        (float("nan"), 1.0),
        (np.zeros(2), np.zeros(3)),
        (np.zeros(2), np.full(2, 0.01)),
        (np.array([1, 2]), np.array([1, 3])),
        ({"label": "A"}, {"label": "B"}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1, 2], [1, 2, 3]),
        (Point(1.0, 2.0), Point(1.0, 3.0)),
        ("x" * 300, "x" * 299 + "y"),
    ],
)
def test_not_the_same(one: Any, other: Any) -> None:
    assert not same(one, other) and not same(other, one)


def test_run_results_are_compared_by_their_outputs() -> None:
    one = RunResult({"logits": np.zeros(3)}, seconds=1.0)
    assert same(one, RunResult({"logits": np.full(3, 1e-6)}, seconds=2.0))
    assert not same(one, RunResult({"logits": np.ones(3)}))
