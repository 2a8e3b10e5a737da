"""From a float graph to a smaller one: prepares the graph, runs a mode's steps, and says what stayed in float."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine import packing
from onnx_magic.engine.adapters import ort_tools
from onnx_magic.engine.probing import one_line
from onnx_magic.engine.variants.counting import counting_nodes
from onnx_magic.engine.variants.layers import Layer, chosen, module_of, weight_layers
from onnx_magic.engine.variants.modes import CONVOLUTIONS, EMBEDDING, MATRIX, Mode
from onnx_magic.errors import ExportError, OnnxMagicError, UsageError
from onnx_magic.records.variants import KeptLayer

if TYPE_CHECKING:
    import onnx
    import onnx_ir

Array: TypeAlias = np.ndarray[Any, Any]

WITH_CONVOLUTIONS = ("Add", "Mul", "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "MaxPool", "AveragePool",
                     "GlobalAveragePool", "Concat")  # fmt: skip
"""What stands between convolutions: quantised statically too, else every convolution goes to float and back."""


PER_CHANNEL_FROM = 13
"""The opset from which DequantizeLinear has an axis."""


@dataclass(frozen=True)
class Wish:
    """What `quantize` was asked, beside the mode.

    Args:
        per_channel: A scale per output channel; `None`: yes.
        exclude: Patterns of nodes, operators and modules to leave in float.
        embeddings: Whether embeddings are quantised; `None`: the mode decides.
        calibration: `minmax`, `entropy` or `percentile`.
        block: Weights that share a scale, with 4 bits.
    """

    per_channel: bool | None = None
    exclude: tuple[str, ...] = ()
    embeddings: bool | None = None
    calibration: str = "minmax"
    block: int = 32


@dataclass(eq=False)
class Source:
    """A graph that is ready for the quantizers.

    Args:
        path: The prepared file, in a working folder.
        layers: What can be quantised by the mode.
        kept: Nodes to leave, and why: `{node name: KeptLayer}`.
        external: Whether its weights lie in another file.
        operators: Operators that the mode takes, of those that are there.
        contrib: Whether it holds operators that onnx has no schema of.
        blocked: Operators of it that have no float16 kernel.
        wide: Names of further nodes that stay in float32 where the rest is float16.
        counting: How many of them count positions.
        nothing: Why the mode finds nothing to do in it; `None` where it does.
        opset: Its opset.
    """

    path: Path
    role: str
    layers: list[Layer]
    kept: dict[str, KeptLayer] = field(default_factory=dict)
    external: bool = False
    operators: tuple[str, ...] = ()
    contrib: bool = False
    blocked: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    counting: int = 0
    nothing: UsageError | None = None
    opset: int = PER_CHANNEL_FROM

    def leave(self, layers: Sequence[Layer], reason: str, noise: Mapping[str, float] | None = None) -> None:
        """Leave layers in float."""
        for layer in layers:
            if layer.node not in self.kept:
                self.kept[layer.node] = KeptLayer(
                    layer.node, layer.operator, layer.module, reason, (noise or {}).get(layer.node), self.role
                )

    def per_channel(self, wish: Wish) -> bool:
        """Whether a static graph has a scale per channel: before opset 13 DequantizeLinear takes one only."""
        return wish.per_channel is not False and self.opset >= PER_CHANNEL_FROM

    @property
    def excluded(self) -> list[str]:
        """Names of the nodes to leave."""
        return list(self.kept)


def copy_graph(path: Path, folder: Path) -> tuple[Path, bool]:
    """Copy a graph into a working folder: named nodes, no stale shapes of weights, its weights beside it.

    Returns:
        The copy, and whether its weights lie in another file.
    """
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(path, load_external_data=False)
    # In a file of its own name as a rule; the second of a split pair of decoders has its weights in the first one's.
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    locations = {entry.value for entry in entries if entry.key == "location"}
    own = path.with_name(f"{path.name}_data")
    for name in locations | ({own.name} if own.is_file() else set()):
        # A copy: onnx reads no weights through a link, of either kind (`onnx.checker._open_external_data`).
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, folder / name)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    # The dynamic quantizer turns a Gemm's weight over in place, infers shapes anew, and trips over the old ones.
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    model.metadata_props.add(key=ort_tools.PREPARED[0], value=ort_tools.PREPARED[1])
    target = folder / "float.onnx"
    onnx.save(model, target)
    return target, bool(locations) or own.is_file()


def prepare_source(path: Path, work: Path, role: str, mode: Mode, wish: Wish) -> Source:
    """Copy a graph into a working folder, and decide what of it the mode takes."""
    import onnx

    target, external = copy_graph(path, work / role)
    model = onnx.load(target, load_external_data=False)
    if mode.methods[0] != "float16" and _turn_weights(model, target.parent):
        onnx.save(model, target)
    operators = _operators(model, mode, wish)
    source = Source(target, role, weight_layers(model, operators), external=external, operators=operators)
    source.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), PER_CHANNEL_FROM)
    source.contrib = any(node.domain not in ("", "ai.onnx") for node in model.graph.node)
    if "float16" in mode.methods:
        _leave_wide(source, model)
    _leave_what_was_asked(source, model, mode, wish)
    if mode.methods[0] != "float16":
        source.nothing = _nothing(source, model, mode)
    return source


def _leave_wide(source: Source, model: onnx.ModelProto) -> None:
    """Note what stays in float32 whatever is asked: what has no float16 kernel, and what counts positions."""
    import onnx_ir

    unable = [node for node in model.graph.node if ort_tools.lacks_half(node)]
    blocked = {node.op_type for node in model.graph.node} & ort_tools.float16_blocked()
    source.blocked = tuple(sorted(blocked | {node.op_type for node in unable}))
    counting = [node.name or "" for node in counting_nodes(onnx_ir.load(source.path))]
    source.wide, source.counting = (*counting, *(node.name for node in unable)), len(counting)


def _turn_weights(model: onnx.ModelProto, folder: Path) -> bool:
    """Turn over the weights that the graph turns over as it runs (a tied head's): only constant ones are quantised.

    Returns:
        Whether there was one.
    """
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    turned = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Transpose" and node.input[0] in weights
    }
    found = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in turned:
            name = turned[node.input[1]]
            if name not in found:
                array = numpy_helper.to_array(weights[name], str(folder)).T
                found[name] = numpy_helper.from_array(np.ascontiguousarray(array), f"{name}_turned")
            node.input[1] = found[name].name
    model.graph.initializer.extend(found.values())
    read = {name for node in model.graph.node for name in node.input} | {spec.name for spec in model.graph.output}
    idle = [
        n for n in model.graph.node if n.op_type == "Transpose" and n.output[0] in turned and n.output[0] not in read
    ]
    for node in idle:
        model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    for name in found:
        if name not in read:
            model.graph.initializer.remove(weights[name])
    return bool(found)


def _operators(model: onnx.ModelProto, mode: Mode, wish: Wish) -> tuple[str, ...]:
    there = {node.op_type for node in model.graph.node}
    found = [name for name in mode.operators if name in there and not (name in EMBEDDING and wish.embeddings is False)]
    if wish.embeddings and "Gather" in there and "Gather" not in found:
        found.append("Gather")
    if "static" in mode.methods:
        counts = [sum(node.op_type in kinds for node in model.graph.node) for kinds in (CONVOLUTIONS, MATRIX)]
        if counts[0] > counts[1]:
            found += [name for name in WITH_CONVOLUTIONS if name in there]
    return tuple(found)


def _leave_what_was_asked(source: Source, model: onnx.ModelProto, mode: Mode, wish: Wish) -> None:
    if wish.exclude:
        meant = chosen(model, wish.exclude)
        nodes = {node.name: node for node in model.graph.node}
        for name in meant:
            if mode.methods[0] == "float16" or nodes[name].op_type in source.operators:
                node = nodes[name]
                source.kept[name] = KeptLayer(name, node.op_type, module_of(node), "excluded", graph=source.role)
    unable = weight_layers(model, mode.no_kernel)
    source.leave(unable, "no kernel")


def _nothing(source: Source, model: onnx.ModelProto, mode: Mode) -> UsageError | None:
    if any(layer.node not in source.kept for layer in source.layers):
        return None
    if source.layers:
        return UsageError(
            f"nothing is left to quantise: exclude leaves all {len(source.layers)} layers in float", fix="exclude less"
        )
    wanted = ", ".join(mode.operators)
    there = weight_layers(model, (*MATRIX, *CONVOLUTIONS, *EMBEDDING))
    kinds = sorted({layer.operator for layer in there})
    has = f"its weights are in {', '.join(kinds)}" if kinds else "it has no such weights at all"
    better = "uint8" if "Conv" in kinds else "int8" if kinds else "fp16"
    return UsageError(
        f"mode {mode.name} finds nothing to quantise: it takes the constant weights of {wanted}, and {has}",
        fix=f"mode={better}",
    )


def done_to(source: Source, mode: Mode, wish: Wish) -> list[str]:
    """What a mode did to a graph, a sentence each."""
    if source.nothing is not None:
        return ["left as it is: nothing of it is quantised"]
    done = []
    counts = Counter(layer.operator for layer in source.layers if layer.node not in source.kept)
    if counts:
        told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        scale = f"in blocks of {wish.block}" if "4bit" in mode.methods else "with one scale each"
        each = source.per_channel(wish) if mode.needs_data else wish.per_channel is not False
        if "4bit" not in mode.methods and each:
            scale = "with a scale per channel"
        done.append(f"weights of {told} quantised {scale}")
    if "float16" in mode.methods:
        blocked = f"; so do {', '.join(source.blocked)}, which have no float16 kernel" if source.blocked else ""
        if source.counting:
            blocked += f"; and {source.counting} nodes that count positions, exact in float16 only up to 2,048"
        done.append(f"the rest turned into float16; inputs and outputs stay float32{blocked}")
    return done


def quantize_graph(
    source: Source, mode: Mode, wish: Wish, target: Path, feeds: Sequence[Mapping[str, Array]] = ()
) -> onnx_ir.Model:
    """Run a mode's steps on a prepared graph.

    Args:
        target: A file to work with, in the working folder; its name also names the calibration's cache.
        feeds: The user's data, for a static mode.

    Returns:
        The graph, its weights in memory or in files of the working folder.
    """
    import onnx_ir

    if source.nothing is not None:
        return onnx_ir.load(source.path)
    path, model = source.path, None
    for method in mode.methods:
        if model is not None:  # what the step before gave
            path = target.with_name(f"{target.stem}-{method}.onnx")
            packing.save_graph(model, path, limit=packing.SINGLE_FILE_LIMIT)
        try:
            model = _STEPS[method](path, source, mode, wish, target, feeds)
        except OnnxMagicError:
            raise
        except Exception as error:  # the tools raise anything at all
            raise ExportError(
                f"ONNX Runtime's tools could not make {mode.name} of {source.role}: {one_line(error)}",
                fix="exclude=<a module>  # or another mode",
                stage="quantize",
            ) from error
    assert model is not None, mode
    if mode.methods[0] != "float16":
        _note_left_over(source, model, mode)
    return model


def _note_left_over(source: Source, model: onnx_ir.Model, mode: Mode) -> None:
    """Note the layers that the quantizer left without a word: their weights are what they were.

    Raises:
        ExportError: it left all of them.
    """
    import onnx_ir

    floats = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16)
    whole = {
        n for n, v in model.graph.initializers.items() if v.const_value is not None and v.const_value.dtype in floats
    }
    taken = [layer for layer in source.layers if layer.node not in source.kept]
    # A Gemm's weight may have been turned over; one that a layer left in float shares is there for that one.
    shared = {layer.weight for layer in source.layers if layer.node in source.kept}
    left = [
        layer for layer in taken if {layer.weight, f"{layer.weight}_Transposed"} & whole and layer.weight not in shared
    ]
    source.leave(left, "not taken")
    if taken and len(left) == len(taken):
        raise ExportError(
            f"ONNX Runtime's quantizer left all {len(taken)} layers of {source.role} as they were ({mode.name})",
            fix="mode=fp16  # or another mode",
            stage="quantize",
        )


Step: TypeAlias = Callable[[Path, Source, Mode, Wish, Path, Sequence[Mapping[str, Array]]], "onnx_ir.Model"]


def _dynamic(path: Path, source: Source, mode: Mode, wish: Wish, target: Path, _feeds: Any) -> onnx_ir.Model:
    import onnx_ir

    ort_tools.quantize_dynamic(
        path, target, signed=mode.signed, per_channel=wish.per_channel is not False, operators=source.operators,
        exclude=source.excluded, external=source.external,
    )  # fmt: skip
    return onnx_ir.load(target)


def _static(path: Path, source: Source, mode: Mode, wish: Wish, target: Path, feeds: Any) -> onnx_ir.Model:
    import onnx_ir

    ort_tools.quantize_static(
        path, target, feeds, method=wish.calibration, per_channel=source.per_channel(wish),
        operators=source.operators, exclude=source.excluded, external=source.external,
        cache=source.path.with_name("ranges.json"),
    )  # fmt: skip
    return onnx_ir.load(target)


def _four_bits(path: Path, source: Source, _mode: Mode, wish: Wish, _target: Path, _feeds: Any) -> onnx_ir.Model:
    import onnx_ir

    operators = ("MatMul", "Gather") if "Gather" in source.operators else ("MatMul",)
    proto = ort_tools.quantize_4bit(path, block=wish.block, exclude=source.excluded, operators=operators)
    return onnx_ir.from_proto(proto)


def _float16(path: Path, source: Source, mode: Mode, _wish: Wish, _target: Path, _feeds: Any) -> onnx_ir.Model:
    import onnx_ir

    # onnx infers nothing beyond an operator that it does not know.
    known = not source.contrib and mode.methods[0] == "float16"
    model = onnx_ir.from_proto(ort_tools.to_float16(path, nodes=[*source.excluded, *source.wide], inferred=known))
    _join_casts(model)
    model.graph.sort()  # the converter puts the casts of the inputs last
    return model


def _join_casts(model: onnx_ir.Model) -> None:
    """Go straight from one node in float32 to the next: the converter goes by float16, where the value overflows."""
    import onnx_ir

    half, single = onnx_ir.DataType.FLOAT16, onnx_ir.DataType.FLOAT
    for node in model.graph.all_nodes():
        before = node.inputs[0].producer() if node.op_type == "Cast" and node.inputs[0] is not None else None
        if before is None or before.op_type != "Cast" or node.attributes.get_int("to", 0) != single:
            continue
        wide = before.inputs[0]
        is_wide = wide is not None and wide.dtype in (single, None) and before.attributes.get_int("to", 0) == half
        if is_wide and wide is not None and (maker := wide.producer()) is not None and _gives(maker, single):
            node.replace_input_with(0, wide)
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)


def _gives(maker: onnx_ir.Node, dtype: onnx_ir.DataType) -> bool:
    """Whether a node gives this dtype, of which the values alone may not tell."""
    return maker.op_type != "Cast" or maker.attributes.get_int("to", 0) == dtype


_STEPS: Mapping[str, Step] = {"dynamic": _dynamic, "static": _static, "4bit": _four_bits, "float16": _float16}
