"""Adapter to `torch.export` and `torch.onnx.export(dynamo=True)`: capture a flat model, then convert it.

Two steps, so that what tracing fixed is seen before the conversion is paid for. Tested with torch 2.11 to 2.13.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.adapters import hf_exporters

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from onnx_magic.engine.flat import FlatModel


@dataclass(frozen=True, eq=False)
class Captured:
    """A captured program, and what tracing decided about the axes.

    Args:
        program: The `torch.export.ExportedProgram`.
        fixed: Axes that were to be dynamic and got one size: `{(input, axis): size}`.
        limits: Range that tracing found for an axis name: `{name: (low, high)}`; `None` for no upper limit.
    """

    program: Any
    fixed: Mapping[tuple[str, int], int]
    limits: Mapping[str, tuple[int, int | None]]


def capture(flat: FlatModel, examples: Mapping[str, torch.Tensor], axes: Mapping[str, Mapping[int, str]]) -> Captured:
    """Trace the model with the axes in `axes` left open.

    The dimensions are `Dim.AUTO`: what the model fixes is read back from the program, not from an error's text.
    """
    import torch

    with (
        torch.no_grad(),
        _no_garbage_collection(),
        hf_exporters.patched(),
        hf_exporters.clean_state(flat.model),
        _tracing_settings(),
        flat.as_forward() as parameters,
    ):
        names = dict(zip(parameters, flat.binding.names, strict=True))
        program = torch.export.export(
            flat.model,
            args=(),
            kwargs={p: examples[name].to(flat.device) for p, name in names.items()},
            dynamic_shapes={
                p: {axis: torch.export.Dim.AUTO for axis in axes.get(name, {})} for p, name in names.items()
            },
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        hf_exporters.fix_program(program)
    return Captured(program, *_read_axes(program, names, axes))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector: it walks all the nodes of a growing graph again and again (12 % of the time).

    Measured on MiniLM: 4.9 s to 4.3 s, 8 MB more at the peak.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _tracing_settings() -> Iterator[None]:
    """What `torch.onnx.export` sets while it captures: sizes 0 and 1 are not special, RNNs keep dynamic shapes."""
    import torch
    from torch.fx.experimental import _config

    with contextlib.ExitStack() as stack:
        stack.enter_context(_config.patch(backed_size_oblivious=True))  # type: ignore[attr-defined]  # set at import
        try:
            from torch.onnx._internal.exporter._capture_strategies import _patch_dynamic_shape_rnn_decompositions
        except ImportError:
            pass  # before torch 2.12 there is no such patch, and RNNs are exported with a fixed length
        else:
            stack.enter_context(_patch_dynamic_shape_rnn_decompositions({"x": {0: torch.export.Dim.AUTO}}))
        yield


def _read_axes(
    program: Any, names: Mapping[str, str], axes: Mapping[str, Mapping[int, str]]
) -> tuple[dict[tuple[str, int], int], dict[str, tuple[int, int | None]]]:
    fixed: dict[tuple[str, int], int] = {}
    limits: dict[str, tuple[int, int | None]] = {}
    ranges = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    by_position = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    for node_name, name in zip(by_position, names.values(), strict=True):
        value = placeholders[node_name]
        for axis, dim in axes.get(name, {}).items():
            size = value.shape[axis]
            if isinstance(size, int):
                fixed[name, axis] = size
            elif (bounds := ranges.get(str(size))) is not None:
                low, high = int(bounds.lower), int(bounds.upper) if bounds.upper < 2**31 else None
                old_low, old_high = limits.get(dim, (low, high))
                highs = [h for h in (high, old_high) if h is not None]
                limits[dim] = (max(low, old_low), min(highs) if highs else None)
    return fixed, limits


def convert(
    captured: Captured,
    input_names: Sequence[str],
    output_names: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    opset: int,
    fold: bool,
) -> onnx_ir.Model:
    """Turn a captured program into an ONNX graph with the names given.

    Args:
        opset: Asked for; read back what was written.
        fold: Fold constants and clean the graph.
    """
    import torch

    with torch.no_grad(), _no_garbage_collection(), hf_exporters.patched():
        program = torch.onnx.export(
            captured.program,
            args=(),
            input_names=list(input_names),
            output_names=list(output_names),
            opset_version=opset,
            dynamic_shapes=dict.fromkeys(input_names) | {n: dict(a) for n, a in axes.items() if a} if axes else None,
            custom_translation_table=hf_exporters.translations(),
            optimize=fold,
            verbose=False,
        )
    assert program is not None
    hf_exporters.fix_graph(program)
    return program.model
