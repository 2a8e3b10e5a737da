"""Weights that are stored once, and those that only look alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from onnx_magic.engine.tying import store_once
from onnx_magic.runtime.sessions import Session, open_session


def model_of(weights: dict[str, Any]) -> onnx_ir.Model:
    """x @ each weight, [40, 50] or [50, 40] transposed first."""
    x = onnx_ir.val("x", dtype=onnx_ir.DataType.FLOAT, shape=["n", 40])
    values, nodes = [], []
    for name, array in weights.items():
        value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(array, name=name))
        value.shape, value.type = onnx_ir.Shape(array.shape), onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        values.append(value)
        nodes.append(onnx_ir.node("Gemm", [x, value], attributes={"transB": int(array.shape[1] == 40)}))
        nodes[-1].outputs[0].name = f"y_{name}"
        nodes[-1].outputs[0].shape = onnx_ir.Shape(["n", 50])
        nodes[-1].outputs[0].type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    outputs = [node.outputs[0] for node in nodes]
    graph = onnx_ir.Graph([x], outputs, nodes=nodes, initializers=values, opset_imports={"": 20}, name="g")
    return onnx_ir.Model(graph, ir_version=10)


@pytest.fixture
def weight() -> Any:
    return np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)


@pytest.mark.parametrize("turned", [True, False])
def test_a_copy_is_stored_once_and_gives_the_same(weight: Any, turned: bool, tmp_path: Path) -> None:
    copy = weight.T.copy() if turned else weight.copy()
    feed = {"x": np.ones((3, 40), np.float32)}
    onnx_ir.save(model_of({"val_1": copy, "head.weight": weight}), tmp_path / "before.onnx")
    model = model_of({"val_1": copy, "head.weight": weight})
    assert store_once(model) == weight.nbytes
    assert list(model.graph.initializers) == ["head.weight"], "the name of the checkpoint stays"
    onnx_ir.save(model, tmp_path / "after.onnx")
    before, after = (Session(open_session(tmp_path / f"{name}.onnx")).run(feed) for name in ("before", "after"))
    np.testing.assert_array_equal(before["y_val_1"], after["y_val_1"])
    np.testing.assert_array_equal(before["y_head.weight"], after["y_head.weight"])
    assert (tmp_path / "after.onnx").stat().st_size < 0.6 * (tmp_path / "before.onnx").stat().st_size


def test_what_only_looks_alike_stays(weight: Any) -> None:
    other = weight.copy()
    other[7, 7] += 1e-3
    model = model_of({"a.weight": weight, "b.weight": other, "c.weight": other.T.copy() * 2})
    assert store_once(model) == 0
    assert len(model.graph.initializers) == 3


def test_what_is_small_stays() -> None:
    model = model_of({"a.weight": np.ones((1, 40), np.float32), "b.weight": np.ones((1, 40), np.float32)})
    assert store_once(model) == 0
