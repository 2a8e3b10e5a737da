"""A weight that two places share is stored once: the head of a language model is often its embedding, transposed.

Folding constants turns that transposition into a second copy of the largest weight there is. It is taken back:
ONNX Runtime folds it again when it loads the file, so that nothing is slower for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir

SMALLEST = 4096
"""In bytes. Below it a copy costs less than the node that saves it."""


def store_once(model: onnx_ir.Model) -> int:
    """Replace initializers that are the transpose, or the double, of another one; returns the bytes that are saved.

    Only initializers of the main graph are looked at: what a subgraph shares with it, it reads from there.
    """
    import onnx_ir

    graph = model.graph
    alike: dict[tuple[Any, ...], list[onnx_ir.Value]] = {}
    saved = 0
    # A transpose is made from the weight that keeps its name in the checkpoint, not from what folding called val_297.
    for value in sorted(graph.initializers.values(), key=_is_folded):
        tensor = value.const_value
        if tensor is None or tensor.nbytes < SMALLEST or len(tensor.shape) != 2 or value.is_graph_output():
            continue
        key = (tensor.dtype, *sorted(tensor.shape.numpy()))
        original = next((other for other in alike.get(key, ()) if _kind(other, value) is not None), None)
        if original is None:
            alike.setdefault(key, []).append(value)
            continue
        shared = original
        if _kind(original, value) == "transpose":
            node = onnx_ir.node("Transpose", [original], attributes={"perm": [1, 0]}, name=f"transpose_{value.name}")
            shared = node.outputs[0]
            shared.name, shared.shape, shared.type = f"{value.name}_transposed", value.shape, value.type
            graph.insert_before(graph[0], node)
        onnx_ir.convenience.replace_all_uses_with(value, shared)
        del graph.initializers[str(value.name)]
        saved += tensor.nbytes
    return saved


def _is_folded(value: onnx_ir.Value) -> bool:
    """Whether the exporter made the weight up: a parameter's name has the path of its module in it."""
    return "." not in (value.name or "")


def _kind(first: onnx_ir.Value, second: onnx_ir.Value) -> str | None:
    """Whether the second weight is the first one (`same`), or its `transpose`; `None`: neither."""
    one, two = (value.const_value for value in (first, second))
    assert one is not None and two is not None
    a, b = one.numpy(), two.numpy()
    if a.shape == b.shape and np.array_equal(a[0], b[0]) and np.array_equal(a, b):
        return "same"
    if a.shape == b.shape[::-1] and np.array_equal(a[0], b[:, 0]) and np.array_equal(a.T, b):
        return "transpose"
    return None
