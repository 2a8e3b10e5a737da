"""Two decoder graphs as one file: `use_cache_branch` chooses between the first step and a step with a cache.

An encoder-decoder's first step makes keys and values of the encoder's states; the later ones read them from the cache.
`merge_decoders` puts both graphs into the branches of one `If`, their weights beside it, each once:
`decoder_model_merged.onnx` as transformers.js and optimum-onnx know it. `share_weights` is for those who want the pair
of files: the second names its weights in the first one's data file.

An embedding that the encoder shares with the decoder stands in both files: transformers.js mounts for each graph the
data file of its own name alone, so that one file for both could be loaded by optimum-onnx, and not by it. It costs the
embedding's size: 66 MB of T5-small's 308.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnx_magic.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir

USE_CACHE = "use_cache_branch"
"""The input that chooses: false at the first step, true with a cache."""

FIRST, CACHED = "first", "cached"
"""What the names inside the two branches begin with."""

Content: TypeAlias = tuple[str, tuple[int, ...], bytes]


def merge_decoders(first: onnx_ir.Model, cached: onnx_ir.Model, axes: Mapping[str, Mapping[int, str]]) -> onnx_ir.Model:
    """One graph with both in the branches of an `If`; the two models are taken apart for it.

    Inputs are the cached graph's, those of the first that it lacks, and `use_cache_branch`, bool[1]. Outputs are the
    first graph's. Those that the cached graph lacks (the encoder's keys and values, which do not change) come out empty
    with a cache, of shape (0, heads, 0, size): the caller keeps those of the first step, as both clients do. To pass
    them through would copy all of them at each step.

    Args:
        first: The decoder without a past.
        cached: The decoder with one.
        axes: Names of axes to give the merged inputs and outputs, where they are not the cached graph's:
            `{tensor: {axis: name}}`.

    Raises:
        ExportError: the graphs do not belong together: unlike inputs, or an output that only one can give.
    """
    import onnx_ir

    _check_pair(first.graph, cached.graph)
    shared = _Weights()
    inputs = _outer_inputs(first.graph, cached.graph)
    outputs = [_like(value, _described(value, cached.graph)) for value in first.graph.outputs]
    for part in (first.graph, cached.graph):
        shared.take_from(part)
    _fill_outputs(cached.graph, [value.name or "" for value in outputs], first.graph)
    branches = [_branch(cached.graph, inputs, CACHED), _branch(first.graph, inputs, FIRST)]
    choose = onnx_ir.Value(name=USE_CACHE, type=onnx_ir.TensorType(onnx_ir.DataType.BOOL), shape=onnx_ir.Shape([1]))
    graphs = {"then_branch": branches[0], "else_branch": branches[1]}
    attributes = {name: onnx_ir.AttrGraph(name, branch) for name, branch in graphs.items()}
    node = onnx_ir.Node("", "If", [choose], attributes, outputs=outputs, name="use_cache")
    opsets = {**first.opset_imports, **cached.opset_imports}
    taken = [*inputs.values(), choose]
    for value in (*taken, *outputs):
        _name_axes(value, axes.get(value.name or "", {}))
    graph = onnx_ir.Graph(
        taken, outputs, nodes=[*shared.nodes, node], initializers=shared.values, opset_imports=opsets, name="merged"
    )
    return onnx_ir.Model(
        graph,
        ir_version=max(first.ir_version, cached.ir_version),
        producer_name=first.producer_name,
        producer_version=first.producer_version,
        functions=[*{**first.functions, **cached.functions}.values()],
    )


def take_branch(model: onnx_ir.Model, branch: str) -> onnx_ir.Model | None:
    """One branch of a merged decoder as a graph of its own: what `merge_decoders` was given. `model` is used up.

    Args:
        model: The merged decoder.
        branch: `FIRST` or `CACHED`.

    Returns:
        The graph; `None` where the model is no merged decoder.
    """
    import onnx_ir

    outer = model.graph
    choose = next((n for n in outer if n.op_type == "If" and n.inputs[0] and n.inputs[0].name == USE_CACHE), None)
    if choose is None:
        return None
    sides = ("then_branch", "else_branch")
    inner, other = (choose.attributes[n].as_graph() for n in (sides if branch == CACHED else reversed(sides)))
    for node in other.all_nodes():  # or what it alone reads would count as used
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)
    names = [value.name for value in choose.outputs]
    # With a cache the encoder's keys and values come out empty: no outputs of the graph that was merged.
    wanted = [
        (value, name)
        for value, name in zip(inner.outputs, names, strict=True)
        if (maker := value.producer()) is not None and maker.op_type != "Constant"
    ]
    outer.outputs.clear()
    outer.remove(choose, safe=True)
    inner.outputs.clear()
    nodes = list(inner)
    inner.remove(nodes)
    for value in tuple(inner.initializers.values()):
        inner.initializers.pop(value.name or "")
        outer.register_initializer(value)
    outer.extend(nodes)
    for value, name in wanted:
        value.name = name
    outer.outputs.extend(value for value, _ in wanted)
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
    for value in (*outer.inputs,):  # those with a cache stay as they are: they give the merged inputs their order
        if value.name == USE_CACHE or (branch == FIRST and not value.uses()):
            outer.inputs.remove(value)
    return model


def share_weights(model: onnx_ir.Model, other: Path) -> int:
    """Let `model` name its weights in the data file of the graph at `other`, which it will be saved beside.

    Weights that the other graph does not have, and tensors too small to be in its data file, stay as they are.

    Returns:
        How many bytes are shared.
    """
    import onnx_ir

    there = onnx_ir.load(other).graph.initializers.values()
    stored = {
        _content(v.const_value): v.const_value for v in there if isinstance(v.const_value, onnx_ir.ExternalTensor)
    }
    saved = 0
    for value in model.graph.initializers.values():
        tensor = stored.get(_content(value.const_value)) if value.const_value is not None else None
        if tensor is not None:
            value.const_value = onnx_ir.ExternalTensor(
                tensor.location, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=value.name or "",
                base_dir=tensor.base_dir,
            )  # fmt: skip
            saved += tensor.nbytes
    return saved


def _check_pair(first: onnx_ir.Graph, cached: onnx_ir.Graph) -> None:
    known = {value.name: value for value in cached.inputs}
    for value in first.inputs:
        other = known.get(value.name)
        if other is not None and (other.dtype != value.dtype or len(other.shape or ()) != len(value.shape or ())):
            raise ExportError(f"the two decoder graphs cannot be merged: {value} in one is {other} in the other")
    extra = {value.name for value in cached.outputs} - {value.name for value in first.outputs}
    if extra:
        raise ExportError(
            f"the two decoder graphs cannot be merged: the first step lacks {', '.join(sorted(map(str, extra)))}"
        )


def _outer_inputs(first: onnx_ir.Graph, cached: onnx_ir.Graph) -> dict[str, onnx_ir.Value]:
    inputs = {value.name or "": _like(value, value) for value in (*cached.inputs, *first.inputs)}
    order = [value.name or "" for value in cached.inputs]
    return {name: inputs[name] for name in (*order, *(n for n in inputs if n not in order))}


def _described(value: onnx_ir.Value, graph: onnx_ir.Graph) -> onnx_ir.Value:
    """The output of the same name in `graph`, whose axes also speak of the past; else the value itself."""
    return next((other for other in graph.outputs if other.name == value.name), value)


def _like(value: onnx_ir.Value, described: onnx_ir.Value) -> onnx_ir.Value:
    import onnx_ir

    shape = onnx_ir.Shape(list(described.shape)) if described.shape is not None else None
    return onnx_ir.Value(name=value.name, type=value.type, shape=shape)


def _name_axes(value: onnx_ir.Value, axes: Mapping[int, str]) -> None:
    import onnx_ir

    if axes and value.shape is not None:
        value.shape = onnx_ir.Shape([axes.get(axis, dim) for axis, dim in enumerate(value.shape)])


def _fill_outputs(graph: onnx_ir.Graph, names: list[str], other: onnx_ir.Graph) -> None:
    """Give a graph empty outputs for those names that it lacks, in the order of `names`."""
    import numpy as np
    import onnx_ir

    there = {value.name: value for value in graph.outputs}
    wanted = {value.name: value for value in other.outputs}
    ordered = []
    for name in names:
        if name in there:
            ordered.append(there[name])
            continue
        like = wanted[name]
        assert like.shape is not None and like.dtype is not None
        empty = np.zeros([dim if isinstance(dim, int) else 0 for dim in like.shape], like.dtype.numpy())
        node = onnx_ir.node("Constant", [], {"value": onnx_ir.Tensor(empty, dtype=like.dtype)}, name=f"empty_{name}")
        value = node.outputs[0]
        value.name, value.type = name, like.type
        value.shape = onnx_ir.Shape(list(empty.shape))
        graph.append(node)
        ordered.append(value)
    graph.outputs.clear()
    graph.outputs.extend(ordered)


def _branch(graph: onnx_ir.Graph, inputs: Mapping[str, onnx_ir.Value], prefix: str) -> onnx_ir.Graph:
    """The graph as a branch: the outer inputs in place of its own, its own names under a prefix."""
    for value in graph.inputs[:]:
        value.replace_all_uses_with(inputs[value.name or ""])
    graph.inputs.clear()
    weights = list(graph.initializers.values())
    made = [value for node in graph.all_nodes() for value in node.outputs if value.name]
    names = _Prefixed(prefix, (value.name for value in (*weights, *made)))
    for value in weights:
        graph.initializers.pop(value.name or "")
        value.name = names.of(value.name)
        graph.register_initializer(value)
    for value in made:
        value.name = names.of(value.name)
    names = _Prefixed(prefix, (node.name for node in graph.all_nodes()))
    for node in graph.all_nodes():
        node.name = names.of(node.name)
    graph.name = prefix
    return graph


class _Prefixed:
    """Names under a prefix. Those of a graph that came out of such a branch keep theirs; newer ones make way."""

    def __init__(self, prefix: str, names: Iterable[str | None]) -> None:
        self.prefix = prefix
        self._taken = {name for name in names if name and name.startswith(f"{prefix}/")}

    def of(self, name: str | None) -> str:
        if name and name.startswith(f"{self.prefix}/"):
            return name
        free, number = f"{self.prefix}/{name}", 1
        while free in self._taken:
            number += 1
            free = f"{self.prefix}/{name}_{number}"
        self._taken.add(free)
        return free


class _Weights:
    """The weights of several graphs, each content once, in the order they were met."""

    def __init__(self) -> None:
        self._by_content: dict[Content, onnx_ir.Value] = {}
        self._names: set[str] = set()
        self._turned: dict[tuple[Any, ...], onnx_ir.Node] = {}

    @property
    def values(self) -> list[onnx_ir.Value]:
        """The shared initializers."""
        return list(self._by_content.values())

    @property
    def nodes(self) -> list[onnx_ir.Node]:
        """What is made of them before either branch: the transpose of an embedding that is the head's weight too."""
        return list(self._turned.values())

    def take_from(self, graph: onnx_ir.Graph) -> None:
        """Move the weights out of a graph; what is a size or an index, not a weight, stays in it."""
        for value in tuple(_weights_of(graph)):
            assert value.const_value is not None and value.name is not None
            content = _content(value.const_value)
            kept = self._by_content.get(content)
            del graph.initializers[value.name]
            if kept is None:
                value.name = self._free(value.name)
                value.const_value.name = value.name
                self._by_content[content] = value
            else:
                value.replace_all_uses_with(kept)
        self._take_transposes(graph)

    def _take_transposes(self, graph: onnx_ir.Graph) -> None:
        """ONNX Runtime folds a transpose of a weight where both stand in one graph, and else makes it at each step."""
        weights = set(self._by_content.values())
        for node in [node for node in graph if node.op_type == "Transpose" and node.inputs[0] in weights]:
            weight = node.inputs[0]
            assert weight is not None
            key = (weight, tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else ())
            kept = self._turned.get(key)
            if kept is not None:
                node.outputs[0].replace_all_uses_with(kept.outputs[0])
                graph.remove(node, safe=True)
                continue
            graph.remove(node)
            node.outputs[0].name = self._free(f"{weight.name}_transposed")
            self._turned[key] = node

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free


def _weights_of(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Value]:
    """Initializers but scalars and lists of integers: shapes and axes, which ONNX Runtime folds where they stand."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.shape.rank() == 0 or (tensor.shape.rank() == 1 and tensor.dtype.is_integer()):
            continue
        yield value


def _content(tensor: Any) -> Content:
    """What makes two tensors equal: dtype, shape, bytes."""
    return (str(tensor.dtype), tuple(int(n) for n in tensor.shape), hashlib.sha256(tensor.tobytes()).digest())
