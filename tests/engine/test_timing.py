"""Times of all sides on one feed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import onnx_magic
from onnx_magic.engine import timing
from onnx_magic.engine.timing import Stopwatch
from onnx_magic.errors import FeedError
from onnx_magic.exported import ExportedModel

FEED = {"x": np.ones((4, 3), np.float32)}


class Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seconds = 0.0
        self.calls: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(torch.get_num_threads())
        time.sleep(self.seconds)
        return self.layer(x)


@pytest.fixture
def exported(workdir: Path) -> ExportedModel:
    made: ExportedModel = onnx_magic.export(Slow().eval(), inputs=torch.randn(2, 3), exporter="torchscript")
    return made


def test_every_side_is_timed_in_turns_after_a_run_that_does_not_count(exported: ExportedModel) -> None:
    assert exported.live is not None and exported.source is not None
    model: Any = exported.source.model
    model.seconds, before = 0.02, len(model.calls)
    latency = Stopwatch(exported, exported.live, {"int8": exported}, threads=2).measure(FEED, runs=4)
    assert [row.name for row in latency.timings] == ["PyTorch", "ONNX Runtime", "int8"]
    assert [row.provider for row in latency.timings] == ["cpu", *["CPUExecutionProvider"] * 2]
    assert [row.threads for row in latency.timings] == [2, 2, 2] and latency.shapes == {"x": (4, 3)}
    for row in latency.timings:
        assert row.runs == 4 and 0 < row.fastest <= row.median <= row.slowest
    assert latency.timings[0].median >= 0.02 > latency.timings[1].median  # negative control: the slow side is seen
    assert model.calls[before:] == [2] * 5 and torch.get_num_threads() == 1


def test_long_runs_are_fewer(exported: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    (row,) = Stopwatch(exported).measure(FEED, runs=50).timings
    assert row.name == "ONNX Runtime" and row.runs == timing.LEAST_RUNS


def test_a_feed_that_the_graph_does_not_take(exported: ExportedModel) -> None:
    with pytest.raises(FeedError):
        Stopwatch(exported).measure({"y": FEED["x"]})
    assert torch.get_num_threads() == 1
