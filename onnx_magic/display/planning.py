"""What is decided before tracing, as blocks: the axes, who decided, the tasks there are."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_magic.display.axes import axes_table, decider
from onnx_magic.display.blocks import Beside, Blocks, Cell, Column, Facts, Table
from onnx_magic.display.values import brief
from onnx_magic.records.plan import Decision, ExportPlan, TaskInfo, TensorSpec


def plan_blocks(plan: ExportPlan) -> Blocks:
    """What would be exported: axes with who decided each, then the other decisions."""
    facts = [Cell(plan.name), Cell(plan.task or "plain module"), Cell(plan.architecture), Cell(f"opset {plan.opset}")]
    facts += [Cell(f"exporter {plan.exporter}")] + [Cell(f"quirk {quirk}") for quirk in plan.quirks]
    shapes = {name: array.shape for name, array in plan.examples.items()}
    axes = axes_table(plan.inputs, plan.outputs, plan.decisions, traced=shapes, more="plan.inputs, plan.outputs")
    other = tuple(d for d in plan.decisions if not _is_axis(d, plan))
    return [Facts(tuple(facts)), Beside((axes, _decisions_table(other)) if other else (axes,))]


def spec_blocks(spec: TensorSpec) -> Blocks:
    """One tensor: its row."""
    return [axes_table(*(((spec,), ()) if spec.role == "input" else ((), (spec,))))]


def tasks_blocks(tasks: Sequence[TaskInfo]) -> Blocks:
    """A row per task."""
    columns = (
        Column("task"),
        Column("also called", wraps=True),
        Column("model class"),
        Column("a sample", wraps=True),
        Column("the answer", wraps=True),
    )
    rows = tuple(
        (
            Cell(task.name, mono=True),
            Cell(", ".join(task.aliases), mono=True, limit=80),
            Cell(task.auto_class, mono=True),
            Cell(task.inputs),
            Cell(task.answer),
        )
        for task in tasks
    )
    return [Table("tasks that can be exported", columns, rows, keep=64)]


def _is_axis(decision: Decision, plan: ExportPlan) -> bool:
    """Whether the axes table shows this decision already."""
    return any(
        decision.subject == f"{spec.name}[{axis}]"
        for spec in (*plan.inputs, *plan.outputs)
        for axis in range(len(spec.shape))
    )


def _decisions_table(decisions: Sequence[Decision]) -> Table:
    columns = (Column("decided"), Column("value"), Column("by"), Column("because", wraps=True))
    rows = tuple(
        (Cell(d.subject), Cell(brief(d.value), mono=True), Cell(decider(d), "quiet"), Cell(d.reason, limit=100))
        for d in decisions
    )
    return Table("what was decided, and by whom", columns, rows, keep=24, more="plan.decisions")
