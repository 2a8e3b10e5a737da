"""`%onnx_quantize`, `%onnx_optimize` and their commands, on a real export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.engine.variants import asking
from onnx_magic.errors import UsageError
from onnx_magic.frontends.cli import main


def test_the_magics_show_and_return(net: Path, raising_shell: Any) -> None:
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns["data"] = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    raising_shell.run("exported = %onnx_load net-onnx")
    small = raising_shell.run("small = %onnx_quantize exported mode=int8-static data=data exclude=2\nsmall")
    assert small.variant == "int8-static" and small.validation
    shown = [bundle["text/plain"] for bundle in raising_shell.shown]
    assert any("int8-static stays near the float graph" in text and "excluded" in text for text in shown)
    best = raising_shell.run("%onnx_optimize exported level=extended disable=Gelu")
    assert best.variant == "optimized"
    with pytest.raises(UsageError, match="data is empty"):
        raising_shell.run("%onnx_quantize exported data=[]")


def test_the_commands_tell_the_verdict(
    net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["quantize", "net-onnx", "--mode", "fp16"]) == 0
    assert "verified: fp16 stays near the float graph" in capsys.readouterr().out
    assert main(["optimize", "net-onnx", "--level", "basic"]) == 0
    assert main(["quantize", "net-onnx", "q5"]) == 1
    assert "fix: onnx-magic quantize net-onnx q4" in capsys.readouterr().err
    whole = asking.quantize_graph

    def broken(*args: Any) -> Any:
        import onnx_ir

        model = whole(*args)
        for value in model.graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype == onnx_ir.DataType.FLOAT:
                value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(7), name=value.name)
        return model

    monkeypatch.setattr(asking, "quantize_graph", broken)
    assert main(["quantize", "net-onnx", "int8"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("✗ FAILED") and "points elsewhere" in out
