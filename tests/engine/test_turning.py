"""The keys of an attention turned in one node, and what only looks like it left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch

from onnx_magic.engine.turning import turn_directly
from onnx_magic.runtime.sessions import Session, open_session


def constant(name: str, *numbers: int) -> onnx_ir.Value:
    return onnx_ir.Value(name=name, const_value=onnx_ir.tensor(np.array(numbers, np.int64), name=name))


def model_of(order: tuple[str, str, str], *, of: str = "x", perm: tuple[int, ...] = (0, 2, 1)) -> onnx_ir.Model:
    """x [2, 3, n, 5], its last axes taken apart from the shape of `of`, and put back in an order."""
    values = {
        name: onnx_ir.val(name, dtype=onnx_ir.DataType.FLOAT, shape=[2, 3, "n", 5 if name == "x" else "m"])
        for name in ("x", "other")
    }
    ends = {"first": (-(2**63), -2), "rows": (-2, -1), "columns": (-1, 2**63 - 1)}
    minus = constant("minus", -1)
    bounds = {name: (constant(f"{name}_from", a), constant(f"{name}_to", b)) for name, (a, b) in ends.items()}
    shape = onnx_ir.node("Shape", [values[of]])
    cuts = {name: onnx_ir.node("Slice", [shape.outputs[0], *pair]) for name, pair in bounds.items()}
    parts = {name: node.outputs[0] for name, node in cuts.items()}
    narrow = onnx_ir.node("Concat", [minus, parts["rows"], parts["columns"]], attributes={"axis": 0})
    wide = onnx_ir.node("Concat", [parts[name] for name in order], attributes={"axis": 0})
    flat = onnx_ir.node("Reshape", [values["x"], narrow.outputs[0]])
    turned = onnx_ir.node("Transpose", flat.outputs, attributes={"perm": perm})
    back = onnx_ir.node("Reshape", [turned.outputs[0], wide.outputs[0]])
    y = back.outputs[0]
    y.name, y.type, y.shape = "y", onnx_ir.TensorType(onnx_ir.DataType.FLOAT), onnx_ir.Shape([2, 3, 5, "n"])
    nodes = [shape, *cuts.values(), narrow, wide, flat, turned, back]
    held = [minus, *(value for pair in bounds.values() for value in pair)]
    graph = onnx_ir.Graph(list(values.values()), [y], nodes=nodes, initializers=held, opset_imports={"": 20}, name="g")
    return onnx_ir.Model(graph, ir_version=10)


def answer(model: onnx_ir.Model, path: Path) -> Any:
    onnx_ir.save(model, path)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    return Session(open_session(path)).run({"x": x, "other": np.zeros((2, 3, 4, 7), np.float32)})["y"]


def test_nine_nodes_become_one_that_gives_the_same(tmp_path: Path) -> None:
    expected = answer(model_of(("first", "columns", "rows")), tmp_path / "before.onnx")
    model = model_of(("first", "columns", "rows"))
    assert turn_directly(model) == 1
    assert [node.op_type for node in model.graph] == ["Transpose"]
    np.testing.assert_array_equal(answer(model, tmp_path / "after.onnx"), expected)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param({"order": ("first", "rows", "columns")}, id="the axes keep their order: values are shuffled"),
        pytest.param({"order": ("columns", "first", "rows")}, id="another axis moves too"),
        pytest.param({"order": ("first", "columns", "rows"), "of": "other"}, id="cut from another tensor's shape"),
        pytest.param({"order": ("first", "columns", "rows"), "perm": (1, 0, 2)}, id="other axes are exchanged"),
    ],
)
def test_what_only_looks_like_it_stays(kept: dict[str, Any]) -> None:
    model = model_of(**kept)
    before = len(list(model.graph))
    assert turn_directly(model) == 0
    assert len(list(model.graph)) == before


def test_the_exporter_still_writes_nine_nodes() -> None:
    """When this fails, the exporter transposes directly: engine/turning.py can go."""

    class Attention(torch.nn.Module):
        def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(query, key, key)

    given = (torch.rand(2, 3, 4, 8), torch.rand(2, 3, 6, 8))
    axes = ({2: torch.export.Dim.DYNAMIC}, {2: torch.export.Dim.DYNAMIC})
    program = torch.onnx.export(Attention().eval(), given, dynamo=True, dynamic_shapes=axes, verbose=False)
    assert program is not None
    assert turn_directly(program.model) == 1
