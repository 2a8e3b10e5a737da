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
