"""Two graphs in one file: both branches, weights once, small graphs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_magic.engine.generation.merging import merge_decoders, share_weights
from onnx_magic.errors import ExportError

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
CROSS = np.linspace(-1, 1, 4, dtype=np.float32).reshape(2, 2)


def graph(*, past: bool, weight: str = "w", constant: int = 1, extra: bool = False) -> onnx_ir.Model:
    """y = x @ W + k, with the mean of the past added; the first step also gives c = states @ C."""
    info = helper.make_tensor_value_info
    inputs = [info("x", TensorProto.FLOAT, ["batch_size", 3])]
    outputs = [info("y", TensorProto.FLOAT, ["batch_size", 4])]
    nodes = [
        helper.make_node("MatMul", ["x", weight], ["t"], name="n0"),
        helper.make_node("Add", ["t", "k"], ["u"], name="n1"),
    ]
    weights = {weight: WEIGHT, "k": np.float32(constant)}
    if past:
        inputs.append(info("p", TensorProto.FLOAT, ["batch_size", "length", 4]))
        nodes.append(helper.make_node("ReduceSum", ["p", "axis"], ["s"], name="n2", keepdims=0))
        nodes.append(helper.make_node("Add", ["u", "s"], ["y"], name="n3"))
        weights["axis"] = np.array([1])
    else:
        inputs.append(info("states", TensorProto.FLOAT, ["batch_size", 2]))
        outputs.append(info("c", TensorProto.FLOAT, ["batch_size", 2]))
        nodes.append(helper.make_node("Identity", ["u"], ["y"], name="n2"))
        nodes.append(helper.make_node("MatMul", ["states", "cross"], ["c"], name="n3"))
        weights["cross"] = CROSS
    if extra:
        outputs.append(info("z", TensorProto.FLOAT, ["batch_size", 4]))
        nodes.append(helper.make_node("Neg", ["y"], ["z"], name="n4"))
    made = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    )
    return onnx_ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def run(path: Path, feed: dict[str, Any]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def test_each_branch_is_its_graph(tmp_path: Path) -> None:
    merged = merge_decoders(graph(past=False), graph(past=True, constant=5), {"p": {1: "past"}})
    path = tmp_path / "merged.onnx"
    onnx_ir.save(merged, path)
    onnx.checker.check_model(str(path), full_check=True)
    assert [v.name for v in merged.graph.inputs] == ["x", "p", "states", "use_cache_branch"]
    assert [str(v.shape) for v in merged.graph.inputs][1] == "[batch_size,past,4]"
    x, states = np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)
    past = np.ones((2, 3, 4), np.float32)
    feed = {"x": x, "states": states, "p": past[:, :0], "use_cache_branch": np.array([False])}
    first = run(path, feed)
    np.testing.assert_allclose(first["y"], x @ WEIGHT + 1)
    np.testing.assert_allclose(first["c"], states @ CROSS)
    cached = run(path, {**feed, "p": past, "use_cache_branch": np.array([True])})
    np.testing.assert_allclose(cached["y"], x @ WEIGHT + 5 + 3)
    assert cached["c"].shape == (0, 2)
    # Negative control: with an empty past the other branch gives something else.
    assert not np.allclose(run(path, {**feed, "use_cache_branch": np.array([True])})["y"], first["y"])


def test_weights_stand_once_and_outside(tmp_path: Path) -> None:
    merged = merge_decoders(graph(past=False, weight="w"), graph(past=True, weight="other"), {})
    assert sorted(merged.graph.initializers) == ["cross", "w"]
    inner = [v for g in merged.graph.subgraphs() for v in g.initializers.values()]
    assert {v.const_value.size for v in inner} == {1}
    names = [v.name for g in merged.graphs() for n in g for v in n.outputs]
    assert len(names) == len(set(names))


def test_graphs_that_do_not_belong_together() -> None:
    with pytest.raises(ExportError, match="the first step lacks z"):
        merge_decoders(graph(past=False), graph(past=True, extra=True), {})
    other = graph(past=True)
    other.graph.inputs[0].dtype = onnx_ir.DataType.DOUBLE
    with pytest.raises(ExportError, match="cannot be merged"):
        merge_decoders(graph(past=False), other, {})


def test_a_pair_of_files_shares_its_weights(tmp_path: Path) -> None:
    first, cached = graph(past=False), graph(past=True)
    for model in (first, cached):
        for value in (*model.graph.initializers.values(),):
            if value.const_value is not None and value.const_value.size == WEIGHT.size:
                value.const_value = onnx_ir.Tensor(np.tile(WEIGHT, (1, 1)), name=value.name)
    path = tmp_path / "decoder_model.onnx"
    onnx_ir.save(first, path, external_data="decoder_model.onnx_data", size_threshold_bytes=16)
    assert share_weights(cached, path) == WEIGHT.nbytes
    second = tmp_path / "decoder_with_past_model.onnx"
    onnx_ir.save(cached, second)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "decoder_model.onnx",
        "decoder_model.onnx_data",
        "decoder_with_past_model.onnx",
    ]
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(run(second, {"x": x, "p": np.zeros((2, 0, 4), np.float32)})["y"], x @ WEIGHT + 1)
