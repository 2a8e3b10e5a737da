"""A whole benchmark: what is asked for, who takes part, what is left to say."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.precision import widened
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.engine.reference import reference_model
from onnx_magic.engine.variants.benchmarking import measure
from onnx_magic.engine.variants.contending import (
    TORCH_KINDS,
    Settings,
    make_entries,
    make_loads,
    usual_threads,
)
from onnx_magic.engine.variants.torch_turns import Side
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.records.benchmarks import PYTORCH, Benchmark

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

COMPILED = "PyTorch compiled"
MOST_ROUNDS = 1000
PARTS = "an answer costs its encoder, a first token, and one more token each time: each part is timed alone"
WIDE_SIDE = f"{PYTORCH} was measured in float32, as the graphs are: the model itself is bfloat16"


@dataclass(frozen=True)
class ContestRequest:
    """What `benchmark` was asked: its options, see `verbs.benchmark`."""

    inputs: Any = None
    batches: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    against: Any = None
    compiled: bool = False
    rounds: int = 5
    threads: int | None = None
    inter_op: int = 1
    provider: str | None = None


def run_contest(
    opened: OpenedFolder, variants: Mapping[str, OpenedFolder], live: FlatModel | None, request: ContestRequest
) -> Benchmark:
    """Measure the plain export, its variants and PyTorch; see `verbs.benchmark` for what is raised."""
    _check("rounds", request.rounds, MOST_ROUNDS)
    _check("inter_op", request.inter_op, MOST_ROUNDS)
    threads = usual_threads() if request.threads is None else request.threads
    _check("threads", threads, MOST_ROUNDS)
    loads, feeds = make_loads(opened, request.inputs, request.batches, request.lengths)
    kinds = [name for name in TORCH_KINDS if name != COMPILED or request.compiled]
    with quiet(Log()), tempfile.TemporaryDirectory() as place:
        side, why = _torch_side(opened, live, request.against)
        settings = Settings(request.provider, threads, request.inter_op)
        with widened(side.model) if side is not None else contextlib.nullcontext(False) as was_narrow:
            entries = make_entries(opened, variants, side, loads, feeds, settings, Path(place), kinds)
            # A kernel that is killed leaves the folder: what it held, the weights too, is gone by then.
            measured = measure(opened.name, entries, loads, request.rounds, lambda: _empty(Path(place)))
    why = (*why, WIDE_SIDE) if was_narrow else why
    return replace(measured, notes=(*measured.notes, *why))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"{name}={value}: expected 1 to {most}", fix=f"{name}={min(max(value, 1), most)}")


def _torch_side(opened: OpenedFolder, live: FlatModel | None, against: Any) -> tuple[Side | None, tuple[str, ...]]:
    """The model to measure beside, or why there is none: ONNX Runtime is measured all the same."""
    parts = (PARTS,) if len(opened.graphs) > 1 else ()
    try:
        flat = reference_model(opened, live, against)
    except OnnxMagicError as error:
        if against is not None:
            raise
        return None, (*parts, f"{PYTORCH} was not measured: {error.what}")
    return Side(flat.model, opened.graphs, flat.binding), parts
