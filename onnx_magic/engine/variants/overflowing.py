"""Which values of a graph do not fit into float16, and which layers they belong to: found before it is converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.variants.layers import module_of
from onnx_magic.errors import OnnxMagicError
from onnx_magic.runtime.sessions import Session, open_session

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Array]

LARGEST = float(np.finfo(np.float16).max)
MASKED = 1e30
"""What is beyond this is no value but a mask's "never": float16 has one too."""

TOGETHER = 64
"""Tensors that are read in one run: all of a large model's activations would not fit into memory."""


@dataclass(frozen=True)
class Overflow:
    """One node whose output, or something it reads, does not fit.

    Args:
        node: Its name.
        operator: Its operator.
        module: The PyTorch module it came from.
        largest: Largest absolute value that was seen of its outputs; of its inputs where it only reads them.
        source: Whether it is this node that gives the value, or holds it as a weight.
    """

    node: str
    operator: str
    module: str
    largest: float
    source: bool


def find_overflows(path: Path, feeds: Iterable[Feed]) -> list[Overflow]:
    """The nodes that give, hold or read float32 values beyond what float16 holds, on these feeds.

    Args:
        path: A float graph with named nodes, in a folder that may be written to.
        feeds: Inputs to look at.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    typed = {
        info.name: info
        for info in (*_inferred(model, path), *model.graph.value_info)
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    nodes = [node for node in model.graph.node if any(name in typed for name in node.output)]
    outputs = {spec.name for spec in model.graph.output}
    largest: dict[str, float] = {}
    kept = list(feeds)
    for start in range(0, len(nodes), TOGETHER):
        names = [name for node in nodes[start : start + TOGETHER] for name in node.output if name in typed]
        looked = onnx.ModelProto()
        looked.CopyFrom(model)
        looked.graph.output.extend(typed[name] for name in names if name not in outputs)
        target = path.with_name("looked-at.onnx")
        onnx.save(looked, target)
        session = Session(open_session(target, optimized=False))
        for feed in kept:
            for name, array in _values(session, feed).items():
                if name in names:
                    seen = np.abs(array[np.isfinite(array)])
                    seen = seen[seen < MASKED]
                    largest[name] = max(largest.get(name, 0.0), float(seen.max(initial=0.0)))
    weights = _large_weights(path)
    found = []
    for node in model.graph.node:
        own = max((largest.get(name, 0.0) for name in node.output), default=0.0)
        held = max((weights.get(name, 0.0) for name in node.input), default=0.0)
        read = max((largest.get(name, 0.0) for name in node.input), default=0.0)
        if max(own, held, read) > LARGEST:
            is_source = max(own, held) > LARGEST
            top = max(own, held) if is_source else read
            found.append(Overflow(node.name, node.op_type, module_of(node), top, is_source))
    return found


def _large_weights(path: Path) -> dict[str, float]:
    """The weights that float16 does not hold, and their largest values."""
    import onnx_ir

    found = {}
    for name, value in onnx_ir.load(path).graph.initializers.items():
        if value.const_value is not None and value.const_value.dtype == onnx_ir.DataType.FLOAT:
            sizes = np.abs(value.const_value.numpy())
            top = float(sizes[np.isfinite(sizes) & (sizes < MASKED)].max(initial=0.0))
            if top > LARGEST:
                found[name] = top
    return found


def _values(session: Session, feed: Feed) -> Mapping[str, Array]:
    try:
        return session.run({name: array for name, array in feed.items() if name in session.inputs})
    except OnnxMagicError:
        return {}  # a size that the graph does not take tells nothing here


def _inferred(model: onnx.ModelProto, path: Path) -> list[onnx.ValueInfoProto]:
    """Types of what lies between the nodes, by onnx's own inference; none where it does not know the operators."""
    import onnx
    from onnx import shape_inference

    target = path.with_name("inferred.onnx")
    try:
        shape_inference.infer_shapes_path(str(path), str(target))
    except (shape_inference.InferenceError, RuntimeError):
        return []
    return list(onnx.load(target, load_external_data=False).graph.value_info)
