"""What an export made, as blocks: the verdict first, then the axes, the shapes tried, and where it lies."""

from __future__ import annotations

from onnx_magic.display.axes import axes_table
from onnx_magic.display.blocks import Beside, Block, Blocks, Cell, Column, Facts, Table
from onnx_magic.display.made import answer_items, made_facts, made_sentence, made_tables, step_items
from onnx_magic.display.stages import ticks
from onnx_magic.display.verdict import validation_tables, verdict_blocks
from onnx_magic.display.wording import path_text, plural, size
from onnx_magic.records.artifact import ExportReport, GraphFile

_TIMES = "(times: exported.stages)"


def report_blocks(report: ExportReport) -> Blocks:
    """Verdict, findings, axes, shapes tried, facts. Nothing in it varies between runs."""
    made = report.made
    begins = made_sentence(made) if made else ""
    verdict, *findings = verdict_blocks(report.validation, report.findings, begins)
    answers, steps = (answer_items(made), step_items(made)) if made else ([], [])
    blocks: list[Block] = [verdict, *answers, *findings, *steps]
    several = len(report.graphs) > 1
    tables = [
        axes_table(g.inputs, g.outputs, report.decisions, title=name if several else "tensor", more="exported.graphs")
        for name, g in report.graphs.items()
    ]
    tables += made_tables(made) if made else []
    tables += validation_tables(report.validation, made.against if made else "PyTorch")
    blocks += [Beside(tuple(tables))] if tables else []
    if report.edit and report.graphs:
        blocks.append(Facts((Cell("edit the axes"), Cell(report.edit, mono=True)), gap=": "))
    blocks.append(Facts(tuple(_made_of(report))))
    blocks += [made_facts(made)] if made else []
    blocks += [_graph_facts(name, graph, several=several) for name, graph in report.graphs.items()]
    if not report.graphs:
        blocks.append(Facts((Cell(path_text(report.folder), mono=True, limit=200),)))
    if report.stages:
        blocks.append(Facts((*ticks(report.stages), Cell(_TIMES, "quiet")), gap="  "))
    return blocks


def graph_blocks(graph: GraphFile) -> Blocks:
    """One .onnx file: where it lies, its tensors, its operators."""
    operators = sorted(graph.operators.items(), key=lambda item: (-item[1], item[0]))
    counted = Table(
        "operators of the graph",
        (Column("operator"), Column("nodes", right=True)),
        tuple((Cell(name, mono=True), Cell(str(count), mono=True)) for name, count in operators),
        keep=8,
        more="graph.operators",
    )
    tables = (axes_table(graph.inputs, graph.outputs, more="graph.inputs, graph.outputs"),)
    return [_graph_facts("", graph, several=False), Beside((*tables, counted) if operators else tables)]


def _made_of(report: ExportReport) -> list[Cell]:
    parts = [Cell(report.name)]
    parts += [Cell(f"variant {report.variant}")] if report.variant else []
    parts += [Cell(report.task or "plain module"), Cell(report.architecture)]
    return parts + ([Cell(f"exporter {report.exporter}")] if report.exporter else [])


def _graph_facts(name: str, graph: GraphFile, *, several: bool) -> Facts:
    parts = [Cell(path_text(graph.path), mono=True, limit=200), Cell(size(graph.size)), Cell(f"opset {graph.opset}")]
    parts += [Cell(plural(graph.nodes, "node"))] if graph.operators else []
    return Facts(tuple([Cell(name), *parts] if several else parts))
