from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from onnx_magic.engine.flat import flatten_outputs
from onnx_magic.engine.structures import CLONED_BYTES, detached, structure_of

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass(frozen=True)
class Boxes:
    corners: torch.Tensor
    label: str

    def __post_init__(self) -> None:
        assert self.corners.ndim == 2  # runs once, not when the structure is filled


X, Y = torch.ones(2, 3), torch.zeros(4)

VALUES = [
    X,
    (X, Y),
    [X, (Y, None)],
    {"a": X, "b": {"c": Y}},
    OrderedDict(z=X, a=Y),
    Pair(X, (Y, "text")),
    Boxes(X, "cat"),
    BaseModelOutput(last_hidden_state=X, hidden_states=(X, Y)),
    torch.max(X, dim=1),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_filled_structure_is_what_it_was_read_from(value: Any) -> None:
    structure, tensors = structure_of(value)
    filled = structure.filled(tensors)
    assert type(filled) is type(value)
    assert repr(filled) == repr(value)
    assert not structure.numbers and not structure.objects


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_tensors_are_named_as_the_export_names_them(value: Any) -> None:
    assert list(structure_of(value)[1]) == list(flatten_outputs(value))


def test_numbers_and_objects_are_told() -> None:
    structure, _ = structure_of((X, 3, {"cache": object()}))
    assert structure.numbers == ("output_1",)
    assert structure.objects == {"output_2.cache": "object"}
    assert not structure.root_is_object
    assert structure_of(object())[0].root_is_object


def test_detached_clones_what_is_small() -> None:
    small = torch.ones(2, requires_grad=True)
    large = torch.zeros(CLONED_BYTES // 4 + 1)
    kept = detached({"a": [small], "b": Pair(large, "x")})
    with torch.no_grad():
        small += 1
    assert kept["a"][0].tolist() == [1, 1] and not kept["a"][0].requires_grad
    assert kept["b"].left.data_ptr() == large.data_ptr() and kept["b"].right == "x"
