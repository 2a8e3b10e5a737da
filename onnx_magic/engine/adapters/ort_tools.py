"""ONNX Runtime's own tools: quantizers, float16 conversion, graph optimisation. The only file that touches them.

Every function takes files and leaves files or a ModelProto; nothing of it is imported before it is asked for. What the
tools print goes where `engine.quiet` sends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.events import Progress, emit

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Array]

FLOAT = 1
"""`TensorProto.FLOAT`: what the quantizers take a tensor for whose type onnx cannot infer (behind a fused operator)."""

PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")
"""Metadata by which the quantizers know that a graph was prepared for them; without it they ask for it."""


def quantize_dynamic(
    source: Path,
    target: Path,
    *,
    signed: bool,
    per_channel: bool,
    operators: Sequence[str],
    exclude: Sequence[str],
    external: bool,
) -> None:
    """Weights to 8 bits, activations when the graph runs.

    Args:
        source: A float graph.
        target: File to write.
        signed: int8; otherwise uint8.
        per_channel: A scale per output channel; otherwise one per weight.
        operators: Which operators' weights.
        exclude: Names of nodes to leave.
        external: Whether the result is too large for one file.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    quantize(
        source,
        target,
        # A Gemm becomes a MatMul (called `<name>_MatMul`) and an Add first.
        op_types_to_quantize=sorted({*operators, *(("MatMul",) if "Gemm" in operators else ())}),
        per_channel=per_channel,
        weight_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        nodes_to_exclude=[*exclude, *(f"{name}_MatMul" for name in exclude)],
        use_external_data_format=external,
        # Without it a MatMul of two activations (queries and keys) is quantised too: slower, and less exact.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": FLOAT},
    )


def quantize_static(
    source: Path,
    target: Path,
    feeds: Sequence[Feed],
    *,
    method: str,
    per_channel: bool,
    operators: Sequence[str],
    exclude: Sequence[str],
    external: bool,
    cache: Path,
) -> None:
    """Weights and activations to int8, with ranges from `feeds`, as QuantizeLinear / DequantizeLinear pairs.

    What a matrix product gives stays in float: ONNX Runtime has a kernel for that, and rounding it to 8 bits before
    bias and residual are added is what costs most (MiniLM: cosine 0.927 with it, 0.987 without, at the same speed).
    Without convolutions, which are fused with what follows them, every layer rounds its own input: a residual that is
    read beside it stays in float, and so does the input of a layer that is left in float.

    Args:
        method: `minmax`, `entropy` or `percentile`.
        cache: File that keeps the ranges: a second call with it does not read `feeds` again.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    quantize(
        source,
        target,
        _reader(feeds),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(operators),
        per_channel=per_channel,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(exclude),
        use_external_data_format=external,
        calibrate_method=methods[method],
        # One feed at a time: the histograms of all at once would need them to be of one shape, and in memory.
        extra_options={
            "MatMulConstBOnly": True,
            "CalibStridedMinMax": 1,
            "DefaultTensorType": FLOAT,
            "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            "DedicatedQDQPair": not {"Conv", "ConvTranspose"} & set(operators),
        },
        calibration_cache_path=cache,
    )


def _reader(feeds: Sequence[Feed]) -> Any:
    """What the calibrator asks for one feed after the other."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """Gives one feed after the other, then `None`; `set_range` says which."""

        def __init__(self) -> None:
            self.feeds = iter(feeds)

        def __len__(self) -> int:
            return len(feeds)

        def set_range(self, start_index: int, end_index: int) -> None:
            emit(Progress("calibrate", end_index, len(feeds)))
            self.feeds = iter(feeds[start_index:end_index])

        def get_next(self) -> Feed | None:
            return next(self.feeds, None)

    return Reader()


def layer_noise(
    source: Path, quantized: Path, feeds: Sequence[Feed], folder: Path, tables: Mapping[str, str]
) -> dict[str, float]:
    """What static quantisation adds to each tensor, by ONNX Runtime's debugger: noise energy over signal energy.

    Args:
        source: The float graph.
        quantized: The same with QuantizeLinear / DequantizeLinear pairs.
        feeds: A few inputs; all activations for them are held in memory at once.
        folder: Where working files may lie.
        tables: Output of an embedding → its table: a table's noise is that of the rows which the feeds look up.

    Returns:
        `{tensor: noise}` of every quantised weight and activation, by its name in the float graph.
    """
    from onnxruntime.quantization import qdq_loss_debug as debugger

    activations = []
    for number, graph in enumerate((quantized, source)):
        augmented = folder / f"augmented-{number}.onnx"
        debugger.modify_model_output_intermediate_tensors(graph, augmented, save_as_external_data=True)
        activations.append(debugger.collect_activations(str(augmented), _iterable(feeds)))
    matching = debugger.create_activation_matching(activations[0], activations[1])
    kept = {name: match for name, match in matching.items() if match.get("float") is not None}
    errors = debugger.compute_activation_error(kept)
    noise = {name: row["qdq_err"] for name, row in errors.items() if name not in tables}
    weights = debugger.compute_weight_error(debugger.create_weight_matching(str(source), str(quantized)))
    weights |= {tables[name]: row["xmodel_err"] for name, row in errors.items() if name in tables}
    # The debugger speaks in decibels of signal to noise.
    return {name: float(10 ** (-decibels / 10)) for name, decibels in {**noise, **weights}.items()}


def _iterable(feeds: Sequence[Feed]) -> Any:
    """The reader of calibration as the debugger wants it: to iterate over."""
    return iter([dict(feed) for feed in feeds])


def to_float16(source: Path, *, nodes: Sequence[str], inferred: bool = True) -> onnx.ModelProto:
    """Everything to float16 but the inputs, the outputs, what has no float16 kernel, and `nodes`.

    Args:
        nodes: Names of nodes that stay in float32.
        inferred: Whether shapes and types are inferred first; off for graphs whose operators onnx does not know.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model: onnx.ModelProto = convert_float_to_float16(
        str(source), keep_io_types=True, node_block_list=list(nodes), disable_shape_infer=not inferred
    )
    # A value that two nodes in float32 read is cast twice, under one name: no valid graph.
    # tests/engine/variants/test_counting.py fails once onnxruntime does not.
    made: set[str] = set()
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.output[0] in made:
            model.graph.node.remove(node)
        made.update(node.output)
    return model


def float16_blocked() -> frozenset[str]:
    """Operators that `to_float16` leaves in float32 by itself."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    return frozenset(DEFAULT_OP_BLOCK_LIST)


_NO_HALF = {"ScatterElements": ("add", "mul"), "ScatterND": ("add", "mul", "max", "min")}
"""Operators → the `reduction` that the CPU of ONNX Runtime 1.31 has no float16 kernel of (it loads, and stops as it
runs). `to_float16` does not know. tests/engine/variants/test_counting.py tells when this can go."""


def lacks_half(node: onnx.NodeProto) -> bool:
    """Whether a node has no float16 kernel, and `to_float16` would convert it all the same."""
    wanted = _NO_HALF.get(node.op_type, ())
    return any(entry.name == "reduction" and entry.s.decode() in wanted for entry in node.attribute)


def quantize_4bit(source: Path, *, block: int, exclude: Sequence[str], operators: Sequence[str]) -> onnx.ModelProto:
    """Weights to 4 bits in blocks with a scale each (`MatMulNBits`, `GatherBlockQuantized`); activations stay float.

    Args:
        block: Weights that share a scale.
        exclude: Names of nodes to leave.
        operators: `MatMul`, `Gather`. A Gemm is made a MatMul and an Add first.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
        QuantFormat,
    )
    from onnxruntime.quantization.onnx_model import ONNXModel

    config = DefaultWeightOnlyQuantConfig(
        block_size=block,
        is_symmetric=True,
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=tuple(operators),
    )
    plain = ONNXModel(onnx.load(source))
    plain.replace_gemm_with_matmul()
    left = [*exclude, *(f"{name}_MatMul" for name in exclude)]
    quantizer = MatMulNBitsQuantizer(plain.model, nodes_to_exclude=left, algo_config=config)
    quantizer.process()
    model: onnx.ModelProto = quantizer.model.model
    return model


def optimize_session(source: Path, target: Path, level: str, provider: str, *, disabled: Sequence[str] = ()) -> None:
    """The graph as ONNX Runtime has it in memory after its own graph optimisations.

    Args:
        target: File to write; its weights go to `<name>.weights` beside it, whatever their size.
        level: `basic`, `extended` or `all`.
        provider: Execution provider, in full.
        disabled: Names of single optimisations to leave out (`GeluFusionL2`).
    """
    import onnxruntime

    levels = {
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = levels[level]
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", f"{target.name}.weights"
    )
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    extra = {"disabled_optimizers": list(disabled)} if disabled else {}
    onnxruntime.InferenceSession(str(source), options, providers=[provider], enable_fallback=0, **extra)


def fuse_transformer(
    source: Path, family: str, *, heads: int, hidden: int, disabled: Sequence[str]
) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The fusions of `onnxruntime.transformers.optimizer`.

    Args:
        family: `bert`, `gpt2`, ...: a key of `fusion_families`.
        heads: Attention heads; 0 when unknown.
        hidden: Hidden size; 0 when unknown.
        disabled: Fusions to leave out, of `fusion_names`.

    Returns:
        The graph, and how often each operator was fused.
    """
    import onnx
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions(family)
    for name in disabled:
        setattr(options, _SWITCHES[name], False)
    # It fuses in place what it is given in memory; from a path it would save a copy beside it first.
    fused = optimizer.optimize_by_fusion(
        onnx.load(source), model_type=family, num_heads=heads, hidden_size=hidden, optimization_options=options
    )
    counts = {str(name): int(count) for name, count in fused.get_fused_operator_statistics().items() if count}
    return fused.model, counts


def fusion_families() -> tuple[str, ...]:
    """The model families whose fusions ONNX Runtime has."""
    from onnxruntime.transformers.optimizer import MODEL_TYPES

    return tuple(sorted(MODEL_TYPES))


_SWITCHES: Mapping[str, str] = {
    "EmbedLayerNormalization": "enable_embed_layer_norm",
    "Attention": "enable_attention",
    "MultiHeadAttention": "use_multi_head_attention",
    "Gelu": "enable_gelu",
    "BiasGelu": "enable_bias_gelu",
    "FastGelu": "enable_gelu_approximation",
    "GemmFastGelu": "enable_gemm_fast_gelu",
    "LayerNormalization": "enable_layer_norm",
    "SkipLayerNormalization": "enable_skip_layer_norm",
    "BiasSkipLayerNormalization": "enable_bias_skip_layer_norm",
    "RotaryEmbedding": "enable_rotary_embeddings",
    "ShapeInference": "enable_shape_inference",
}
"""A fusion by the operator it makes → its switch in ONNX Runtime's FusionOptions."""


def fusion_names() -> tuple[str, ...]:
    """The fusions that can be left out by name."""
    return tuple(_SWITCHES)
