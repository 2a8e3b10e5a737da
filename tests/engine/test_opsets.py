"""Which exporter writes which opset: measured again here, by reading back what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import onnx_magic
from onnx_magic.engine.opsets import OPSETS, choose_opset
from onnx_magic.errors import OpsetError


@pytest.mark.parametrize(
    ("asked", "exporter", "expected"),
    [
        (None, "auto", (20, "auto")),
        (None, "torchscript", (17, "torchscript")),
        (18, "auto", (18, "auto")),
        (12, "auto", (12, "torchscript")),
        (23, "auto", (23, "dynamo")),
    ],
)
def test_the_way_that_reaches_an_opset_is_taken(asked: int | None, exporter: str, expected: tuple[int, str]) -> None:
    assert choose_opset(asked, exporter) == expected


@pytest.mark.parametrize(
    ("asked", "exporter", "said", "fix"),
    [(6, "auto", "too old", "opset=9"), (40, "auto", "too new", "opset=23"), (12, "dynamo", "too old", "opset=17")],
)
def test_an_opset_that_none_reaches_is_refused(asked: int, exporter: str, said: str, fix: str) -> None:
    with pytest.raises(OpsetError, match=said) as caught:
        choose_opset(asked, exporter)
    assert caught.value.fix == fix


@pytest.mark.parametrize("opset", [9, 12, OPSETS["dynamo"].low, 18, OPSETS["dynamo"].high])
def test_the_opset_asked_for_is_the_one_written(opset: int, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
    exported = onnx_magic.export(model, inputs=torch.randn(2, 4), opset=opset, output=tmp_path / "out")
    assert exported.graph.opset == opset
    assert exported.validation.status == "verified"


def test_gelu_below_its_opset_is_written_all_the_same(tmp_path: Path) -> None:
    """Gelu is an operator since opset 20; an older target needs it in parts."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())
    exported = onnx_magic.export(model, inputs=torch.randn(2, 4), opset=18, output=tmp_path / "out")
    assert exported.graph.opset == 18 and "Gelu" not in exported.graph.operators
    assert exported.validation
