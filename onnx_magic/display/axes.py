"""Tensors and their axes as a table: a number is static, a name is dynamic, and who decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_magic.display.blocks import Cell, Column, Table
from onnx_magic.display.wording import shape_text
from onnx_magic.records.plan import DecidedBy, Decision, TensorSpec

DECIDERS: Mapping[DecidedBy, str] = {
    "user": "you",
    "task": "task",
    "config": "config",
    "probe": "probe",
    "default": "default",
}
"""Who decided, as a person is told."""


def decider(decision: Decision) -> str:
    """Who decided; a manifest is not ours to trust, and may say anything."""
    return DECIDERS.get(decision.by, str(decision.by))


def axes_table(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    decisions: Sequence[Decision] = (),
    *,
    traced: Mapping[str, Sequence[int]] | None = None,
    title: str = "tensor",
    more: str = "",
) -> Table:
    """A row per tensor, a column per axis; with `traced` also the shape of each example input.

    `title` stands over the names: of several graphs, which one it is.
    """
    specs = (*inputs, *outputs)
    rank = max((len(spec.shape) for spec in specs), default=0)
    by = {str(decision.subject): decider(decision) for decision in decisions}
    columns = [Column(title), Column("role"), Column("dtype"), *(Column(f"axis {axis}") for axis in range(rank))]
    columns += [] if traced is None else [Column("traced at")]
    rows = []
    for index, spec in enumerate(specs):
        way = "in" if index < len(inputs) else "out"
        cells = [Cell(spec.name, mono=True, limit=48), Cell(way, "quiet"), Cell(spec.dtype, mono=True)]
        cells += [_axis(spec, axis, by) for axis in range(rank)]
        if traced is not None:
            cells.append(Cell(shape_text(traced[spec.name]) if spec.name in traced else "", "quiet", mono=True))
        rows.append(tuple(cells))
    return Table("tensors and their axes", tuple(columns), tuple(rows), more=more, rules=frozenset({len(inputs)}) - {0})


def _axis(spec: TensorSpec, axis: int, by: Mapping[str, str]) -> Cell:
    if axis >= len(spec.shape):
        return Cell("")
    dim = spec.shape[axis]
    who = by.get(f"{spec.name}[{axis}]", "")
    return Cell(str(dim), "name" if isinstance(dim, str) else "plain", mono=True, aside=who, limit=40)
