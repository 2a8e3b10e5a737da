"""Which ways are tried, in which order, and what is said of the one that is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onnx_magic


class IntOfSize(torch.nn.Module):
    """What people write: a size through `int()`, which tracing fixes without a word."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, size=(int(x.shape[2] * 2), int(x.shape[3] * 2))).mean(1)


def test_int_of_a_size_is_traced_as_a_symbol(workdir: Path) -> None:
    exported = onnx_magic.export(IntOfSize(), inputs=torch.rand(2, 3, 8, 10))
    assert exported.validation and exported.report.exporter == "dynamo"
    assert set(exported.inputs[0].dynamic_axes.values()) >= {"batch_size", "height", "width"}
    x = torch.rand(1, 3, 5, 7)
    np.testing.assert_allclose(exported.run(x).outputs["output"], IntOfSize()(x).numpy(), atol=1e-6)


def test_int_is_int_again_afterwards(workdir: Path) -> None:
    import sys

    onnx_magic.export(IntOfSize(), inputs=torch.rand(2, 3, 8, 10))
    assert "int" not in sys.modules[IntOfSize.__module__].__dict__


class Encoder(torch.nn.Module):
    """nn.TransformerEncoder with a padding mask: its fast path cannot be exported, and zeroes what is padded."""

    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2)

    def forward(self, x: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
        return self.encoder(x, src_key_padding_mask=padded)


def test_a_transformer_encoder_with_padding_is_verified(workdir: Path) -> None:
    torch.manual_seed(0)
    padded = torch.zeros(2, 6, dtype=torch.bool)
    padded[1, 4:] = True
    exported = onnx_magic.export(Encoder(), inputs=(torch.randn(2, 6, 16), padded))
    assert exported.validation and {spec.name for spec in exported.inputs} == {"x", "padded"}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_recurrent_layer_keeps_its_length_open(kind: str, workdir: Path) -> None:
    torch.manual_seed(0)
    layer = getattr(torch.nn, kind)(5, 7, batch_first=True)
    exported = onnx_magic.export(layer, inputs=torch.randn(2, 6, 5))
    assert exported.validation
    if not exported.inputs[0].dynamic_axes.get(1):
        assert any(f.code in ("axis-pinned", "fallback") for f in exported.report.findings)


def test_half_precision_and_float64_have_tolerances_of_their_own(workdir: Path) -> None:
    torch.manual_seed(0)
    for dtype in (torch.float16, torch.float64):
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).to(dtype)
        exported = onnx_magic.export(model, inputs=torch.randn(2, 4, dtype=dtype), output=f"{dtype}".partition(".")[2])
        assert exported.validation, exported.validation.findings
        assert exported.inputs[0].dtype == str(dtype).removeprefix("torch.")


def test_nested_inputs_and_outputs_keep_their_names(workdir: Path) -> None:
    class Nested(torch.nn.Module):
        def forward(self, x: torch.Tensor, states: list[torch.Tensor], scale: float = 1.0) -> dict[str, Any]:
            return {"sum": (x + states[0]) * scale, "both": (states[0] * 2, states[1] * 3)}

    rows = torch.rand(2, 3)
    exported = onnx_magic.export(Nested(), inputs=(rows, [rows + 1, rows + 2], 3.0))
    assert exported.validation
    assert [spec.name for spec in exported.inputs] == ["x", "states.0", "states.1"]
    assert [spec.name for spec in exported.outputs] == ["sum", "both.0", "both.1"]


def test_an_output_that_is_an_input_keeps_both_names(workdir: Path) -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x * 2

    exported = onnx_magic.export(Same(), inputs=torch.rand(2, 3))
    assert exported.validation
    assert [spec.name for spec in exported.inputs] == ["x"]
    assert [spec.name for spec in exported.outputs] == ["output_0", "output_1"]
