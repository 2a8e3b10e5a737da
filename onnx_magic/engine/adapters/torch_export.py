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
from onnx_magic.engine.adapters.export_flag import asked_as_exported

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from onnx_magic.engine.flat import FlatModel


@dataclass(frozen=True, eq=False)
class Assumption:
    """What tracing took for granted of the sizes (`batch_size != 6`): at sizes that break it the graph may be wrong.

    Args:
        expression: The sympy expression that was true at the traced sizes.
        names: Axis name by symbol.
    """

    expression: Any
    names: Mapping[Any, str]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is true at these sizes, or says nothing about them (a window of no pixels)."""
        try:
            return bool(self.expression.subs({symbol: sizes[name] for symbol, name in self.names.items()}))
        except ZeroDivisionError:
            return True

    def turning_points(self, sizes: Mapping[str, int], most: int) -> Iterator[tuple[str, int]]:
        """Sizes of one axis at which it is false, the nearest first: at its own numbers, and beside the size itself.

        Code that names a size (`n < 3`) may name any; what follows from a division (a window that no longer fits) is
        of interest from half the size upwards only: nobody feeds a picture of nine pixels.
        """
        numbers = {int(n) for n in self.expression.atoms() if getattr(n, "is_Integer", False)}
        plain = self.expression.count_ops() == 1
        for name in dict.fromkeys(self.names.values()):
            least = 1 if plain else max(1, sizes[name] // 2)
            near = {n + step for n in (*numbers, sizes[name]) for step in (-1, 0, 1)}
            for size in sorted(near, key=lambda n: (abs(n - sizes[name]), -n)):
                if least <= size <= most and not self.holds({**sizes, name: size}):
                    yield name, size


LONGEST_ASSUMPTION = 40
"""In operations. Longer ones (products of padded window counts) take seconds to evaluate and name no size."""


@dataclass(frozen=True, eq=False)
class Captured:
    """A captured program, and what tracing decided about the axes.

    Args:
        program: The `torch.export.ExportedProgram`.
        fixed: Axes that were to be dynamic and got one size: `{(input, axis): size}`.
        limits: Range that tracing found for an axis name: `{name: (low, high)}`; `None` for no upper limit.
        assumptions: What tracing took for granted of the sizes.
    """

    program: Any
    fixed: Mapping[tuple[str, int], int]
    limits: Mapping[str, tuple[int, int | None]]
    assumptions: tuple[Assumption, ...] = ()


def capture(flat: FlatModel, examples: Mapping[str, torch.Tensor], axes: Mapping[str, Mapping[int, str]]) -> Captured:
    """Trace the model with the axes in `axes` left open.

    The dimensions are `Dim.AUTO`: what the model fixes is read back from the program, not from an error's text.
    """
    import torch

    with (
        torch.no_grad(),
        asked_as_exported(everyone=True),
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
    symbols = _symbols(program, names, axes)
    return Captured(program, *_read_axes(program, names, axes), tuple(_assumptions(program, symbols)))


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


def _inputs(program: Any, names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Name and traced value of each input."""
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    by_position = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    for node_name, name in zip(by_position, names.values(), strict=True):
        yield name, placeholders[node_name]


def _symbols(
    program: Any, names: Mapping[str, str], axes: Mapping[str, Mapping[int, str]]
) -> dict[Any, tuple[str, Any]]:
    """Symbols that stand for a whole axis: the axis' name, and the shape environment that knows more of them."""
    found: dict[Any, tuple[str, Any]] = {}
    for name, value in _inputs(program, names):
        for axis, dim in axes.get(name, {}).items():
            size = value.shape[axis]
            if not isinstance(size, int) and size.node.expr.is_Symbol:
                found[size.node.expr] = dim, size.node.shape_env
    return found


def _assumptions(program: Any, symbols: Mapping[Any, tuple[str, Any]]) -> Iterator[Assumption]:
    names = {symbol: name for symbol, (name, _) in symbols.items()}
    environments = {id(environment): environment for _, environment in symbols.values()}
    said = [
        one.expr
        for environment in environments.values()
        for deferred in environment.deferred_runtime_asserts.values()
        for one in deferred
    ]
    ranges = {symbol: program.range_constraints[symbol] for symbol in names if symbol in program.range_constraints}
    said += [symbol <= bounds.upper for symbol, bounds in ranges.items()]
    # From 2 on means no more than that tracing keeps 0 and 1 apart.
    said += [symbol >= bounds.lower for symbol, bounds in ranges.items() if bounds.lower > 2]
    for expression in dict.fromkeys(said):
        used = expression.free_symbols
        if used and used <= set(names) and expression.count_ops() <= LONGEST_ASSUMPTION:
            yield Assumption(expression, {symbol: names[symbol] for symbol in sorted(used, key=str)})


def _read_axes(
    program: Any, names: Mapping[str, str], axes: Mapping[str, Mapping[int, str]]
) -> tuple[dict[tuple[str, int], int], dict[str, tuple[int, int | None]]]:
    fixed: dict[tuple[str, int], int] = {}
    limits: dict[str, tuple[int, int | None]] = {}
    ranges = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
    for name, value in _inputs(program, names):
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
