"""The older exporter: what it prints past Python stays out of the cell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import onnx_magic
from onnx_magic.errors import ExportError


class Window(torch.nn.Module):
    """An operator that the older exporter does not know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x).abs()


def test_a_graph_that_fails_is_not_printed(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not torch._C._jit_is_onnx_log_enabled()
    with pytest.raises(ExportError):
        onnx_magic.export(Window(), inputs=torch.randn(2, 4), exporter="torchscript")
    assert capfd.readouterr() == ("", "")
    assert not torch._C._jit_is_onnx_log_enabled()


class Looped(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = self.conv(x)
        return x + y


@pytest.mark.parametrize("way", ["trace", "script"])
def test_torchscript_models_are_taken_as_they_are(workdir: Path, way: str) -> None:
    """Python cannot tell what a traced model's forward takes; its TorchScript can."""
    given = (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))
    model = torch.jit.trace(Looped().eval(), given) if way == "trace" else torch.jit.script(Looped().eval())
    exported = onnx_magic.export(model, inputs=given, output="out")
    assert exported.validation and [spec.name for spec in exported.inputs] == ["x", "y"]
    assert [(f.code, f.level) for f in exported.report.findings] == [("fallback", "note")], "nothing else was tried"
    with exported.swapped_into(model):
        model(*given)


class Frozen(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor([i for i in x * x[0].item()])


def test_what_torchscript_froze_is_not_to_be_tried_with_torchscript(workdir: Path) -> None:
    exported = onnx_magic.export(Frozen(), inputs=torch.rand(5), output="out")
    assert exported.validation.status == "failed"
    fixes = {finding.fix for finding in exported.validation.failures}
    assert any(fix.startswith("keep it a tensor in forward") for fix in fixes)
    assert not any("torchscript" in fix for fix in fixes)


class Decomposed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[0]


def test_an_operator_that_onnx_lacks_is_named(workdir: Path) -> None:
    with pytest.raises(ExportError) as caught:
        onnx_magic.export(Decomposed(), inputs=torch.rand(4, 4), output="out")
    assert "aten._linalg_svd" in caught.value.what and "\x1b" not in caught.value.what
    assert "Next steps" not in caught.value.what and "other operators" in caught.value.fix
