"""The last two axes of a tensor swapped in one node: PyTorch's attention is exported as nine that do so.

The exporter's attention takes the shape of the keys apart, reshapes them to three axes, transposes, and reshapes back,
so that it works for any number of axes. With a cache the keys are all of the past: they are copied twice at each step.
ONNX Runtime computes `MatMul(q, Transpose(k))` without any copy.

It is `aten_scaled_dot_product_attention` in function_libs/torch_lib/ops/nn.py of https://github.com/microsoft/onnxscript;
this can go when it writes a Transpose for keys whose number of axes is known (a test says so).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

SWAPPED = (0, 2, 1)


def turn_directly(model: onnx_ir.Model) -> int:
    """Replace `Reshape → Transpose → Reshape` that swap the last two axes by one Transpose; returns how many.

    Only where both new shapes are cut from the shape of the very tensor that is turned: three axes, the last two its
    own, then its own with these two exchanged.
    """
    turned = 0
    for graph in model.graphs():
        for last in [node for node in graph if node.op_type == "Reshape"]:
            source = _turned_by(last)
            if source is None or source.shape is None:
                continue
            _replace(graph, last, source, len(source.shape))
            turned += 1
    if turned:
        _remove_unused(model)
    return turned


def _turned_by(last: onnx_ir.Node) -> onnx_ir.Value | None:
    """The tensor that this Reshape gives with its last two axes swapped; `None` where it does something else."""
    transpose = _maker(last.inputs[0], "Transpose")
    first = _maker(transpose.inputs[0], "Reshape") if transpose is not None else None
    if transpose is None or first is None or tuple(transpose.attributes["perm"].as_ints()) != SWAPPED:
        return None
    source = first.inputs[0]
    if source is None or source.shape is None or len(source.shape) < 3:
        return None
    axes = len(source.shape)
    narrow, wide = _cut(first.inputs[1], source, axes), _cut(last.inputs[1], source, axes)
    whole = [*range(axes - 2), axes - 1, axes - 2]
    return source if narrow == [None, axes - 2, axes - 1] and wide == whole else None


def _cut(shape: onnx_ir.Value | None, source: onnx_ir.Value, axes: int) -> list[int | None] | None:
    """Which axes of `source` a shape is made of, None for -1; `None` where it is made of anything else."""
    if shape is None:
        return None
    constant = shape.const_value
    if constant is not None:
        return [None] if constant.numpy().tolist() == [-1] else None
    node = shape.producer()
    if node is None:
        return None
    if node.op_type == "Concat":
        parts = [_cut(part, source, axes) for part in node.inputs]
        return None if any(part is None for part in parts) else [axis for part in parts if part for axis in part]
    if node.op_type == "Shape" and node.inputs[0] is source:
        every: list[int | None] = [*range(axes)]
        start, end = (node.attributes[key].as_int() if key in node.attributes else None for key in ("start", "end"))
        return every[start:end]
    if node.op_type == "Slice":
        return _sliced(node, source, axes)
    return None


def _sliced(node: onnx_ir.Node, source: onnx_ir.Value, axes: int) -> list[int | None] | None:
    """The axes that a Slice of a shape keeps; only with constant ends, along axis 0, step 1."""
    whole = _cut(node.inputs[0], source, axes)
    told = [_constant(value) for value in node.inputs[1:]]
    starts, ends, *others = [*told, None, None][:4]
    if whole is None or not starts or not ends or others[0] not in (None, [0]) or told[3:] not in ([], [None], [[1]]):
        return None
    return whole[starts[0] : ends[0]]


def _constant(value: onnx_ir.Value | None) -> list[int] | None:
    """The numbers of a constant list; `None` for what is not given, or not constant."""
    held = value.const_value if value is not None else None
    return None if held is None else [int(number) for number in held.numpy().ravel()]


def _replace(graph: onnx_ir.Graph, last: onnx_ir.Node, source: onnx_ir.Value, axes: int) -> None:
    import onnx_ir

    old = last.outputs[0]
    perm = [*range(axes - 2), axes - 1, axes - 2]
    node = onnx_ir.node("Transpose", [source], attributes={"perm": perm}, name=last.name)
    node.metadata_props.update(last.metadata_props)
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = old.name, old.type, old.shape
    graph.insert_before(last, node)
    onnx_ir.convenience.replace_all_uses_with(old, node.outputs[0], replace_graph_outputs=True)
    graph.remove(last, safe=True)


def _maker(value: onnx_ir.Value | None, operator: str) -> onnx_ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator else None


def _remove_unused(model: onnx_ir.Model) -> None:
    import onnx_ir.passes.common

    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
