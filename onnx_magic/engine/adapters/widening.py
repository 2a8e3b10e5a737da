"""Arithmetic in bfloat16 that ONNX Runtime's CPU has no kernel for: done in float32, and rounded back.

Every value is the same: bfloat16 arithmetic is float32 arithmetic that is rounded. Falcon with ALiBi multiplies so in a
float32 model. It can go when ONNX Runtime has these kernels: https://github.com/microsoft/onnxruntime/issues/13001
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

WIDENED = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Pow", "Exp"})


def widen(model: onnx_ir.Model) -> int:
    """Wrap arithmetic on bfloat16 in casts, in place; returns how many nodes were.

    A model whose weights are bfloat16 is left as it is: all of it would have to be wrapped.
    """
    import onnx_ir

    narrow = onnx_ir.DataType.BFLOAT16
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
    if 2 * sum(w.nbytes for w in weights if w.dtype == narrow) > sum(w.nbytes for w in weights):
        return 0
    count = 0
    for node in [node for node in model.graph.all_nodes() if node.op_type in WIDENED and node.graph is not None]:
        if not any(value is not None and value.dtype == narrow for value in node.inputs):
            continue
        count += 1
        wide = {
            id(value): _cast(node, value, onnx_ir.DataType.FLOAT, before=True)
            for value in dict.fromkeys(node.inputs)
            if value is not None and value.dtype == narrow
        }
        for place, value in enumerate(node.inputs):
            if id(value) in wide:
                node.replace_input_with(place, wide[id(value)])
        output = node.outputs[0]
        if output.dtype == narrow:
            output.dtype = onnx_ir.DataType.FLOAT
            uses = [use for use in output.uses()]
            rounded = _cast(node, output, narrow, before=False)
            for user, place in uses:
                user.replace_input_with(place, rounded)
    return count


def _cast(node: onnx_ir.Node, value: onnx_ir.Value, dtype: onnx_ir.DataType, *, before: bool) -> onnx_ir.Value:
    import onnx_ir

    cast = onnx_ir.node("Cast", [value], attributes={"to": int(dtype)})
    cast.metadata_props.update(node.metadata_props)
    result = cast.outputs[0]
    result.name = f"{value.name}_{'wide' if before else 'rounded'}_{node.name}"
    result.dtype, result.shape = dtype, value.shape
    graph = node.graph
    assert graph is not None
    (graph.insert_before if before else graph.insert_after)(node, cast)
    return result
