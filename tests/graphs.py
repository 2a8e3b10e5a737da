"""Small .onnx files made in code, for what is drawn and what is read of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HOSTILE = (
    '<img src=x onerror="parent.postMessage(1);window.hacked=1">',
    "</script><script>window.hacked=1</script>",
    "\"quotes' & <b>",
    "n" * 10_000,
    "节点名称",
)
TRACE = 'File "/home/me/secret/net.py", line 3, in forward\n  x\nFile "/home/me/secret/net.py", line 9, in attend\n  y'


def chain(path: Path, names: tuple[str, ...] = ("node_a", "node_b", "node_c"), weight: int = 4) -> Path:
    """A chain of Add nodes of these names, all with one weight; tensors carry the names too."""
    nodes, before = [], "x"
    for index, name in enumerate(names):
        after = f"{name}:{index}"
        node = helper.make_node("Add", [before, "weight"], [after], name=name, doc_string="/home/me/secret")
        scopes = str(["", "encoder", "encoder.layer", name])
        for key, value in (("name_scopes", scopes), ("stack_trace", TRACE), ("fx_node", "x" * 500)):
            node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
        nodes.append(node)
        before = after
    values = numpy_helper.from_array(np.full(weight, 0.5, "float32"), "weight")
    return save(path, nodes, before, [values], weight)


def save(path: Path, nodes: list[onnx.NodeProto], last: str, weights: list[onnx.TensorProto], size: int = 4) -> Path:
    """A model of these nodes from `x` to `last`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", size])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch_size", size])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def branching(path: Path) -> Path:
    """A graph whose If holds a large constant in each branch."""

    def branch(name: str) -> onnx.GraphProto:
        large = numpy_helper.from_array(np.ones(1000, "float32"), f"{name}_large")
        node = helper.make_node("Constant", [], [name], name=f"{name}_constant", value=large)
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1000])
        return helper.make_graph([node], name, [], [info])

    condition = numpy_helper.from_array(np.array(True), "condition")
    node = helper.make_node("If", ["condition"], ["y"], "branch", then_branch=branch("t"), else_branch=branch("e"))
    return save(path, [node], "y", [condition], 1000)


def functional(path: Path) -> Path:
    """A graph of two nodes, both calls of an ONNX function of two nodes."""
    opset = [helper.make_opsetid("", 20)]
    body = [
        helper.make_node("Add", ["a", "a"], ["twice"], name="inner_add"),
        helper.make_node("Relu", ["twice"], ["b"], name="inner_relu"),
    ]
    function = helper.make_function("my.domain", "TwiceRelu", ["a"], ["b"], body, opset)
    nodes = [
        helper.make_node("TwiceRelu", ["x"], ["h"], name="call_1", domain="my.domain"),
        helper.make_node("TwiceRelu", ["h"], ["y"], name="call_2", domain="my.domain"),
    ]
    model = onnx.load(save(path, nodes, "y", []))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    path.write_bytes(model.SerializeToString())
    return path
