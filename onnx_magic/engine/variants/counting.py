"""Which nodes of a graph count in floats: float16 is exact up to 2,048, and a position beyond becomes its neighbour.

Angles of rotary embeddings, buckets of relative positions and slopes of ALiBi are made of positions: integers turned
into floats, multiplied by a few constants. Transformers' own models compute them in float32 whatever dtype they have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnx_magic.engine.variants.overflowing import LARGEST

if TYPE_CHECKING:
    import onnx_ir

ARITHMETIC = frozenset(
    "Abs Add Ceil Clip Concat Cos Div Exp Expand Floor Gather Identity Log MatMul Max Min Mod Mul Neg Pow Reciprocal"
    " Reshape Round Sin Slice Split Sqrt Squeeze Sub Sum Transpose Unsqueeze Where".split()
)
"""Operators whose result is a count when what they read is."""

READERS = frozenset("Cast Equal Greater GreaterOrEqual Less LessOrEqual".split())
"""Operators that turn counts back into integers, or compare them."""


def counting_nodes(model: onnx_ir.Model) -> list[onnx_ir.Node]:
    """The nodes whose floats come of integers and small constants alone, up to where they meet anything else.

    Subgraphs are left alone: a merged decoder's branches are looked at one by one.
    """
    counts: set[onnx_ir.Value] = set()
    found = []
    for node in model.graph:
        if node.domain not in ("", "ai.onnx"):
            continue
        given = [value for value in node.inputs if value is not None]
        if _starts(node) or (node.op_type in ARITHMETIC and _stays(given, counts)):
            counts |= set(node.outputs)
            found.append(node)
        elif node.op_type in READERS and any(value in counts for value in given):
            found.append(node)
    return found


def _starts(node: onnx_ir.Node) -> bool:
    """Whether a node makes floats of integers."""
    import onnx_ir

    float32 = onnx_ir.DataType.FLOAT
    if node.op_type == "Range":
        return node.outputs[0].dtype == float32
    if node.op_type != "Cast" or node.attributes.get_int("to", 0) != float32 or node.inputs[0] is None:
        return False
    dtype = node.inputs[0].dtype
    return dtype is not None and dtype.is_integer()


def _stays(given: list[onnx_ir.Value], counts: set[onnx_ir.Value]) -> bool:
    """Whether all floats that are read are counts or factors, and one at least is a count."""
    floats = [value for value in given if value in counts or not (value.dtype is not None and value.dtype.is_integer())]
    floats = [value for value in floats if value.dtype is None or value.dtype.is_floating_point()]
    return any(value in counts for value in floats) and all(value in counts or _is_factor(value) for value in floats)


def _is_factor(value: onnx_ir.Value) -> bool:
    """Whether it is a number or a row of them that float16 could hold: not a layer's weight, not a mask's "never"."""
    tensor = value.const_value
    maker = value.producer()
    if tensor is None and maker is not None and maker.op_type == "Constant" and "value" in maker.attributes:
        tensor = maker.attributes["value"].as_tensor()
    if tensor is None or tensor.size != max(tensor.shape.numpy(), default=1):
        return False
    return bool(np.all(np.abs(tensor.numpy()) <= LARGEST))
