"""Weights that a graph holds twice, once transposed: an embedding that is the head's weight too, stored once.

Exporters fold the transpose of a linear layer's weight into a second copy. For a model whose head is tied to its
embedding that copy is the largest tensor of the file (T5-small: 66 of 242 MB). ONNX Runtime folds the `Transpose` that
stands here instead when it loads the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir

LEAST = 2**20
"""Bytes from which it is worth a node."""


def tie_transposed(model: onnx_ir.Model, *, least: int = LEAST) -> int:
    """Replace each weight of the main graph that is another one transposed by a `Transpose` of that one, in place.

    Args:
        least: Bytes from which a weight is looked at.

    Returns:
        How many bytes are stored no more.

    Example:
        >>> tie_transposed(model)  # doctest: +SKIP
        65798144
    """
    import onnx_ir

    graph = model.graph
    kept: dict[tuple[Any, ...], list[onnx_ir.Value]] = {}
    saved = 0
    # What an embedding reads comes first: its copy is the one that is replaced.
    for value in sorted(graph.initializers.values(), key=lambda v: not _is_gathered(v)):
        tensor = value.const_value
        if tensor is None or tensor.shape.rank() != 2 or tensor.nbytes < least:
            continue
        rows, columns = tensor.shape.numpy()
        for other in kept.get((tensor.dtype, columns, rows), ()):
            if np.array_equal(_bits(other.const_value).T, _bits(tensor)):
                node = onnx_ir.node("Transpose", [other], {"perm": [1, 0]}, name=f"transpose_{value.name}")
                turned = node.outputs[0]
                turned.name, turned.type, turned.shape = f"{other.name}_transposed", value.type, value.shape
                graph.insert_before(graph[0], node)
                value.replace_all_uses_with(turned)
                del graph.initializers[value.name or ""]
                saved += tensor.nbytes
                break
        else:
            kept.setdefault((tensor.dtype, rows, columns), []).append(value)
    return saved


def _is_gathered(value: onnx_ir.Value) -> bool:
    return any(node.op_type == "Gather" for node, _ in value.uses())


def _bits(tensor: Any) -> np.ndarray[Any, Any]:
    """The values as integers: NaN equals itself, and -0.0 is not 0.0."""
    array = np.asarray(tensor.numpy())
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
