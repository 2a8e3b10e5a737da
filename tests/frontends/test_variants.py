"""`%%onnx_run ... variants=int8,q4 time=yes`: more columns, and times where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.errors import UsageError
from onnx_magic.exported import ExportedModel, named_variants
from onnx_magic.records.results import SideBySide, VariantAnswer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported(net: Net, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """With `int8`, its third output off by 1, `q4`, the same as the plain export, and `fp16`, which does not run."""
    folder = tmp_path_factory.mktemp("variants") / "net"
    made = onnx_magic.export(net, inputs=torch.randn(2, 3), output=folder, exporter="torchscript").require_verified()
    graph = onnx.load(made.model_path)
    bias = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [4])
    onnx.save(graph, made.model_path.with_name("model_q4.onnx"))
    values = onnx.numpy_helper.to_array(bias) + np.float32([0, 0, 1, 0])
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(graph, made.model_path.with_name("model_int8.onnx"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(7, np.float32), bias.name))
    onnx.save(graph, made.model_path.with_name("model_fp16.onnx"))
    return made


@pytest.fixture
def cell(raising_shell: Any, net: Net, exported: ExportedModel) -> Iterator[Any]:
    """`cell(body, options)` gives what `%%onnx_run exported options` gives."""
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(torch=torch, np=np, net=net, exported=exported, x=torch.ones(2, 3))

    def run(body: str, options: str = "") -> Any:
        raising_shell.run(f"%%onnx_run exported {options} as=result\n{body}")
        return raising_shell.user_ns["result"]

    yield run
    assert "forward" not in net.__dict__


BODIES = {
    "an input": ("np.ones((2, 3), np.float32)", ""),
    "a call": ("seen = torch.no_grad()\nwith seen:\n    y = net(x)\ny", ""),
    "once": ("net(x)", "once=yes"),
}


@pytest.mark.parametrize("form", BODIES)
def test_variants_stand_beside_the_plain_export(cell: Any, form: str) -> None:
    body, options = BODIES[form]
    side = cell(body, f"{options} variants=int8,q4")
    assert isinstance(side, SideBySide) and side and list(side.others) == ["int8", "q4"] and side.latency is None
    ((off,), (same,)) = (side.others[name].comparison[0].diffs for name in ("int8", "q4"))
    assert same.passed and not off.passed and off.max_abs == pytest.approx(1, abs=1e-5)
    # negative control: the column that is off, and no other, is marked and red in the heat map
    assert off.closeup is not None and off.closeup.levels == bytes([0, 0, 5, 0] * 2)
    assert same.closeup is not None and same.closeup.levels == bytes(8)
    shown = bundle(side)["text/plain"]
    assert "✗ int8" in shown and "✗ q4" not in shown and " ms" not in shown and " µs" not in shown


def test_each_variant_runs_the_cell_from_where_the_first_run_began(cell: Any, raising_shell: Any) -> None:
    raising_shell.run("count = 0\ntorch.manual_seed(3)")
    body = "count += 1\nwith torch.no_grad():\n    net(torch.rand(1, 3))\ncount"
    side = cell(body, "variants=int8,q4")
    assert side.expected == side.actual == 1 and [other.answer for other in side.others.values()] == [1, 1]
    assert raising_shell.user_ns["count"] == 1
    assert side and side.others["q4"].comparison[0].passed and side.others["q4"].notes == ()


@pytest.mark.parametrize("form", BODIES)
def test_a_variant_that_does_not_run_says_so_in_its_column(cell: Any, form: str) -> None:
    body, options = BODIES[form]
    side = cell(body, f"{options} variants=fp16,q4")
    assert side and side.others["fp16"].comparison[0].error and side.others["q4"].comparison[0].passed
    shown = bundle(side)["text/plain"]
    assert "✗ fp16: " in shown and "nothing" in shown


@pytest.mark.parametrize("form", BODIES)
def test_times_are_measured_where_they_are_asked_for(cell: Any, form: str) -> None:
    body, options = BODIES[form]
    side = cell(body, f"{options} variants=q4 time=yes")
    assert [timing.name for timing in side.latency.timings] == ["PyTorch", "ONNX Runtime", "q4"]
    assert {timing.threads for timing in side.latency.timings} == {torch.get_num_threads()}
    shown = bundle(side)["text/plain"]
    assert "CPUExecutionProvider" in shown and "inputs 2 × 3" in shown and "█" in shown


def test_top_k_reaches_what_is_shown(cell: Any) -> None:
    assert cell("np.ones((2, 3), np.float32)", "top_k=2").top_k == 2


def test_without_pytorch_there_is_nothing_to_compare_with(raising_shell: Any, exported: ExportedModel) -> None:
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(loaded=onnx_magic.load(exported.path), x=np.ones((2, 3), np.float32))
    for option in ("variants=q4", "time=yes"):
        with pytest.raises(UsageError, match="PyTorch's side is missing"):
            raising_shell.run(f"%%onnx_run loaded {option}\nx")


def test_a_variant_that_is_not_there(raising_shell: Any, exported: ExportedModel) -> None:
    with pytest.raises(UsageError, match="has no variant 'q5'") as caught:
        named_variants(exported, ("q4", "q5"))
    assert caught.value.fix == "variants=fp16"
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(exported=exported)
    with pytest.raises(UsageError) as told:
        raising_shell.run("%%onnx_run exported variants=q5\n1")
    assert told.value.fix == "%%onnx_run exported variants=fp16"
    with pytest.raises(UsageError, match="names nothing"):
        raising_shell.run("%%onnx_run exported variants=,\n1")


def test_variants_that_the_model_holds_itself_come_first(exported: ExportedModel, monkeypatch: Any) -> None:
    held = onnx_magic.load(exported.model_path, variant="int8")
    monkeypatch.setattr(ExportedModel, "variants", {"int8": held}, raising=False)
    found = named_variants(exported, ("int8", "q4"))
    assert found["int8"] is held and Path(found["q4"].model_path).name == "model_q4.onnx"


def test_a_variants_record_is_a_value() -> None:
    assert VariantAnswer("a").comparison == () and SideBySide("a", "a").others == {}
