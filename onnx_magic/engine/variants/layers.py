"""The layers of a graph that hold weights: which nodes can be quantised, where they come from, which are meant."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_magic.errors import UsageError
from onnx_magic.runtime.stripping import module_path

if TYPE_CHECKING:
    import onnx

_WEIGHT_AT = {"MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1, "Gather": 0}
"""Operator → which of its inputs is the weight."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_FLOATS = (1, 10)
"""float32 and float16 in `TensorProto.DataType`."""


@dataclass(frozen=True)
class Layer:
    """One node with a constant weight of two axes or more.

    Args:
        node: Its name.
        operator: Its operator.
        module: The PyTorch module it came from; empty where the graph does not tell.
        weight: Name of the weight.
        inputs: Names of its inputs.
        elements: Numbers in the weight.
        output: Name of its output.
    """

    node: str
    operator: str
    module: str
    weight: str
    inputs: tuple[str, ...]
    elements: int
    output: str = ""

    @property
    def name(self) -> str:
        """The module's path, else the node's name."""
        return self.module or self.node


def weight_layers(model: onnx.ModelProto, operators: Sequence[str]) -> list[Layer]:
    """The layers of these operators, in the graph's order. Subgraphs are left alone, as the quantizers leave them."""
    weights = {t.name: t for t in model.graph.initializer if t.data_type in _FLOATS and len(t.dims) >= 2}
    found = []
    for node in model.graph.node:
        place = _WEIGHT_AT.get(node.op_type)
        if node.op_type not in operators or place is None or node.domain not in ("", "ai.onnx"):
            continue
        weight = weights.get(node.input[place]) if len(node.input) > place else None
        if weight is not None:
            elements = 1
            for dim in weight.dims:
                elements *= dim
            inputs, output = tuple(node.input), node.output[0]
            found.append(Layer(node.name, node.op_type, module_of(node), weight.name, inputs, elements, output))
    return found


def module_of(node: onnx.NodeProto) -> str:
    """The PyTorch module that a node came from, as the exporter noted it; empty where it did not."""
    return next((module_path(entry.value) for entry in node.metadata_props if entry.key == _SCOPES), "")


def chosen(model: onnx.ModelProto, patterns: Iterable[str]) -> dict[str, str]:
    """The nodes that patterns mean: `{node name: pattern}`.

    A pattern is a node's name, an operator, or a module's path; a module means all below it; `*` stands for anything.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        found.update({node.name: pattern for node in model.graph.node if _is_meant(node, pattern)})
    return found


def require_meaning(paths: Sequence[Path], patterns: Iterable[str]) -> None:
    """Every pattern means something in one of the graphs.

    Raises:
        UsageError: a pattern that means nothing in any; names a module that is there.
    """
    import onnx

    if not (wanted := list(patterns)):
        return
    nodes = [node for path in paths for node in onnx.load(path, load_external_data=False).graph.node]
    for pattern in wanted:
        if not any(_is_meant(node, pattern) for node in nodes):
            modules = sorted({module_of(node) for node in nodes if module_of(node)})
            near = [name for name in modules if pattern.split(".")[-1] in name][:1] or modules[-1:]
            raise UsageError(
                f"no node, operator or module of the graph is called {pattern!r}",
                fix=f"exclude={near[0]}" if near else "exclude=MatMul",
            )


def _is_meant(node: onnx.NodeProto, pattern: str) -> bool:
    module = module_of(node)
    return (
        pattern in (node.name, node.op_type)
        or module == pattern
        or module.startswith(f"{pattern}.")
        or fnmatch.fnmatchcase(module, pattern)
        or fnmatch.fnmatchcase(node.name, pattern)
    )
