"""A record's mime bundle: the same blocks as text and as HTML. The one table of what can be shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from onnx_magic.display.answers import result_blocks
from onnx_magic.display.benchmark import benchmark_blocks
from onnx_magic.display.blocks import Blocks
from onnx_magic.display.comparison import comparison_blocks, diff_blocks
from onnx_magic.display.exported import graph_blocks, report_blocks
from onnx_magic.display.failures import error_blocks, finding_blocks
from onnx_magic.display.graph.fallback import view_blocks
from onnx_magic.display.graph.pages import view_html
from onnx_magic.display.html import html
from onnx_magic.display.latency import latency_blocks
from onnx_magic.display.planning import plan_blocks, spec_blocks, tasks_blocks
from onnx_magic.display.playing import played_blocks
from onnx_magic.display.side_by_side import side_by_side_blocks
from onnx_magic.display.stages import stages_blocks
from onnx_magic.display.text import text
from onnx_magic.display.variants import variants_blocks
from onnx_magic.display.verdict import validation_blocks
from onnx_magic.errors import OnnxMagicError
from onnx_magic.records.artifact import ExportReport, GraphFile, Stage
from onnx_magic.records.benchmarks import Benchmark
from onnx_magic.records.findings import Finding
from onnx_magic.records.latency import Latency
from onnx_magic.records.plan import ExportPlan, TaskInfo, TensorSpec
from onnx_magic.records.playing import Played
from onnx_magic.records.results import Comparison, OutputDiff, RunResult, SideBySide, Validation
from onnx_magic.records.variants_table import VariantsTable
from onnx_magic.records.views import GraphView

Bundle: TypeAlias = dict[str, str]

_BLOCKS: Mapping[type, Callable[[Any], Blocks]] = {
    ExportReport: report_blocks,
    Validation: validation_blocks,
    Comparison: comparison_blocks,
    OutputDiff: diff_blocks,
    ExportPlan: plan_blocks,
    RunResult: result_blocks,
    SideBySide: side_by_side_blocks,
    Played: played_blocks,
    Latency: latency_blocks,
    Benchmark: benchmark_blocks,
    VariantsTable: variants_blocks,
    GraphFile: graph_blocks,
    GraphView: view_blocks,
    TensorSpec: spec_blocks,
    Finding: finding_blocks,
    OnnxMagicError: error_blocks,
}
_ROWS: Mapping[type, Callable[[Any], Blocks]] = {Stage: stages_blocks, TaskInfo: tasks_blocks}
"""Records that are shown as the rows of a table: alone, or in a tuple or list of their own kind."""

FORMATTED: tuple[type, ...] = (*_BLOCKS, *_ROWS)
"""The types that `bundle` takes; besides, tuples and lists of the last two, and whatever has such a `report`."""


def bundle(record: object) -> Bundle:
    """`{"text/plain", "text/html"}` of a record, an exported model (its `report`), a tuple of stages or tasks.

    Raises:
        TypeError: no such thing.

    Example:
        >>> print(bundle(TensorSpec("x", "int64", ("batch_size", 3)))["text/plain"])
        tensor  role  dtype  axis 0      axis 1
        ──────  ────  ─────  ──────────  ──────
        x       in    int64  batch_size  3
    """
    blocks = blocks_of(record)
    picture = view_html(record) if isinstance(record, GraphView) else html(blocks)
    return {"text/plain": text(blocks), "text/html": picture}


def shows(value: object) -> bool:
    """Whether `bundle` takes this value."""
    return _renderer(value) is not None


def blocks_of(record: object) -> Blocks:
    """What a record is shown as.

    Raises:
        TypeError: no rendering for its type.
    """
    renderer = _renderer(record)
    if renderer is None:
        raise TypeError(f"{type(record).__name__} is no record that can be shown")
    return renderer(record)


def _renderer(value: object) -> Callable[[Any], Blocks] | None:
    for kind in type(value).__mro__:
        if kind in _BLOCKS:
            return _BLOCKS[kind]
        if kind in _ROWS:
            rows = _ROWS[kind]
            return lambda record: rows((record,))
    if isinstance(value, tuple | list) and value:
        kinds = {type(entry) for entry in value}
        return _ROWS.get(kinds.pop()) if len(kinds) == 1 else None
    if isinstance(getattr(value, "report", None), ExportReport):
        return lambda record: report_blocks(record.report)
    return None
