"""bfloat16 arithmetic in a float32 model: ONNX Runtime's CPU refuses it, and takes it once it is widened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from onnx_magic.engine.adapters.widening import widen
from onnx_magic.errors import GraphFileError
from onnx_magic.runtime.sessions import Session, open_session

BF16 = onnx_ir.DataType.BFLOAT16


def model_of(weight: Any = None) -> onnx_ir.Model:
    """float32 → bfloat16, times itself, → float32, as Falcon's ALiBi is computed."""
    x = onnx_ir.val("x", dtype=onnx_ir.DataType.FLOAT, shape=["n"])
    y = onnx_ir.val("y", dtype=onnx_ir.DataType.FLOAT, shape=["n"])
    narrow = onnx_ir.node("Cast", [x], attributes={"to": int(BF16)})
    product = onnx_ir.node("Mul", [narrow.outputs[0], narrow.outputs[0]], name="product")
    wide = onnx_ir.node("Cast", product.outputs, attributes={"to": 1}, outputs=[y])
    for node, name in ((narrow, "narrow"), (product, "squared")):
        node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = name, BF16, x.shape
    initializers = []
    if weight is not None:
        value = onnx_ir.val("w", dtype=BF16, shape=list(weight.shape))
        value.const_value = onnx_ir.tensor(weight, name="w")
        initializers.append(value)
    graph = onnx_ir.Graph(
        [x], [y], nodes=[narrow, product, wide], initializers=initializers, opset_imports={"": 20}, name="g"
    )
    return onnx_ir.Model(graph, ir_version=10)


def test_onnx_runtime_still_lacks_the_kernel(tmp_path: Path) -> None:
    onnx_ir.save(model_of(), tmp_path / "model.onnx")
    with pytest.raises(GraphFileError, match="Could not find an implementation for Mul"):
        open_session(tmp_path / "model.onnx")


def test_widened_it_gives_what_bfloat16_gives(tmp_path: Path) -> None:
    import torch

    model = model_of()
    assert widen(model) == 1
    onnx_ir.save(model, tmp_path / "model.onnx")
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    expected = torch.from_numpy(x).bfloat16().square().float().numpy()
    np.testing.assert_array_equal(Session(open_session(tmp_path / "model.onnx")).run({"x": x})["y"], expected)


def test_a_model_of_bfloat16_weights_is_left_alone() -> None:
    import ml_dtypes

    assert widen(model_of(np.ones((64, 64), ml_dtypes.bfloat16))) == 0


def test_nothing_to_widen() -> None:
    model = model_of()
    widen(model)
    assert widen(model) == 0
