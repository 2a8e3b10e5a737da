from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import onnx_magic
from onnx_magic.engine.replaying import (
    both_answers,
    called_inside,
    called_model,
    compare_calls,
    replayed,
    watched_class,
)
from onnx_magic.engine.swapping import StandIn, SwappedCall
from onnx_magic.engine.watching import watch_modules
from onnx_magic.errors import UsageError, VerificationError
from onnx_magic.exported import ExportedModel
from onnx_magic.records.results import RunResult


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def exported(net: Net, workdir: Path) -> ExportedModel:
    made: ExportedModel = onnx_magic.export(net, inputs=torch.randn(2, 3), exporter="torchscript")
    return made.require_verified()


def watched(*models: Any) -> Any:
    with watch_modules("Net") as watch:
        for model in models:
            model(torch.ones(2, 3))
            model(torch.ones(4, 3) / 2)
    return watch


def test_the_model_is_known_by_its_weights(exported: ExportedModel, net: Net) -> None:
    other = Net().eval()
    assert called_model(exported, watched(other, net)) is net
    assert called_model(exported, watched()) is None
    with pytest.raises(UsageError, match="other weights"):
        called_model(exported, watched(other))
    twin = copy.deepcopy(net)
    with pytest.raises(UsageError, match="2 models"):
        called_model(exported, watched(net, twin))
    assert called_model(exported, watched(net, twin), twin) is twin
    assert called_model(exported, watched(), twin) is None
    assert watched_class(exported) == watched_class(exported, twin) == "Net"


def test_inner_modules_have_their_path(exported: ExportedModel, net: Net) -> None:
    with watch_modules("Net") as watch:
        net.layer(torch.ones(1, 3))
    assert called_inside(exported, watch) == "layer"
    assert called_inside(exported, watched(net)) is None
    assert called_inside(onnx_magic.load(exported.path), watch) is None  # no live model to look into


def test_calls_are_compared_on_their_own_inputs(exported: ExportedModel, net: Net) -> None:
    calls = watched(net).calls
    stand_in = StandIn(exported, net)
    comparisons, notes = compare_calls(stand_in, calls)
    assert [bool(c) for c in comparisons] == [True, True] and notes == ()
    feed = {"x": np.ones((2, 3), np.float32)}
    wrong = SwappedCall(feed, {"output": np.zeros((2, 2), np.float32)}, 0.0)
    assert not compare_calls(stand_in, calls, [wrong])[0][0]  # the same inputs: what was answered counts
    drifted = SwappedCall({"x": feed["x"] * 2}, wrong.outputs, 0.0)
    comparisons, notes = compare_calls(stand_in, calls, [drifted])
    assert all(comparisons) and "(call 1)" in notes[0]


def test_replayed_calls(exported: ExportedModel, net: Net) -> None:
    side = replayed(exported, net, watched(net).calls)
    assert side and len(side.comparison) == 2
    assert np.allclose(side.expected["output"], net(torch.ones(4, 3) / 2).detach().numpy())


def test_both_answers_and_the_live_model(exported: ExportedModel, net: Net) -> None:
    x = torch.randn(3, 3)
    assert both_answers(exported, x)
    loaded = onnx_magic.load(exported.path)
    alone = both_answers(loaded, x)
    assert isinstance(alone, RunResult) and "PyTorch's side is missing" in alone.notes[-1]
    assert both_answers(loaded, x, model=net)
    with torch.no_grad():
        net.layer.bias += 1
    with pytest.raises(VerificationError, match="has changed"):
        both_answers(exported, x)
