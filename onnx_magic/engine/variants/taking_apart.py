"""Fused operators that the CPU runs slower than their parts, taken apart again; reshapes there and back made one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

MICROSOFT = "com.microsoft"
SLOW = "SkipLayerNormalization"


def take_apart(model: onnx_ir.Model) -> int:
    """Give the CPU `Sum` and `LayerNormalization` for every SkipLayerNormalization, in place.

    ONNX Runtime 1.31's CPU kernel of the fused operator takes 4 to 6 times as long as the two (384 wide, 32 rows or
    more); one `Sum` of three is a form that its session does not fuse again. tests/engine/variants/test_taking_apart.py
    fails once the kernel is fast.

    Returns:
        How many were taken apart.
    """
    import onnx_ir

    taken = 0
    for node in list(model.graph.all_nodes()):
        if (node.domain, node.op_type) != (MICROSOFT, SLOW) or any(value.uses() for value in node.outputs[1:3]):
            continue
        x, skip, scale, *rest = node.inputs
        shift, bias = (*rest, None, None)[:2]
        added = onnx_ir.node("Sum", [x, skip, *([bias] if bias is not None else [])])
        epsilon = node.attributes.get_float("epsilon", 1e-12)
        normed = onnx_ir.node("LayerNormalization", [added.outputs[0], scale, shift], {"axis": -1, "epsilon": epsilon})
        assert node.graph is not None
        node.graph.insert_before(node, [added, normed])
        for part in (added, normed):
            part.metadata_props.update(node.metadata_props)
        _take_over(node.outputs[0], normed.outputs[0])
        if len(node.outputs) > 3:
            _take_over(node.outputs[3], added.outputs[0])
        node.graph.remove(node, safe=True)
        taken += 1
    return taken


def join_reshapes(model: onnx_ir.Model) -> int:
    """Leave out a reshape whose result is only reshaped again, where both keep the first two axes; in place.

    Returns:
        How many were left out.
    """
    joined = 0
    for node in list(model.graph.all_nodes()):
        if not _keeps_rows(node):
            continue
        before = node.inputs[0]
        while (inner := _reshape_of(before)) is not None and _same_rows(inner.inputs[0], inner.outputs[0]):
            node.replace_input_with(0, before := inner.inputs[0])
            if not inner.outputs[0].uses() and not inner.outputs[0].is_graph_output() and inner.graph is not None:
                inner.graph.remove(inner, safe=True)
                joined += 1
    return joined


def _take_over(old: onnx_ir.Value, new: onnx_ir.Value) -> None:
    """All that read `old` read `new`; a graph output keeps its name."""
    new.shape, name = old.shape, old.name
    if old.dtype is not None:
        new.dtype = old.dtype
    if old.is_graph_output():
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = f"{name}_fused"
        new.name = name
    else:
        old.replace_all_uses_with(new)


def _keeps_rows(node: onnx_ir.Node) -> bool:
    """Whether it is a reshape to [0, 0, ...]: the first two sizes are those of its input."""
    if node.op_type != "Reshape" or node.domain not in ("", "ai.onnx") or node.attributes.get_int("allowzero", False):
        return False
    target = node.inputs[1].const_value if node.inputs[1] is not None else None
    return target is not None and target.numpy().tolist()[:2] == [0, 0]


def _reshape_of(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type == "Reshape" and made.domain in ("", "ai.onnx") else None


def _same_rows(one: onnx_ir.Value | None, other: onnx_ir.Value) -> bool:
    """Whether two values are known to have the same first two sizes."""
    if one is None or one.shape is None or other.shape is None or min(len(one.shape), len(other.shape)) < 3:
        return False
    return all(
        a == b and (isinstance(a, int) or a.value is not None)
        for a, b in zip(one.shape[:2], other.shape[:2], strict=True)
    )
