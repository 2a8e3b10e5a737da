"""Closeups as blocks: a heat map of each output's difference, where it is worst, and a few values of both sides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx_magic.display.blocks import Block, Cell, Column, Facts, Figure, Figures, Table
from onnx_magic.display.values import brief
from onnx_magic.display.wording import shape_text, shown
from onnx_magic.records.closeups import Closeup, Spot
from onnx_magic.records.results import Comparison, OutputDiff

FIGURES = 4
"""So many outputs are shown closely: those that failed first; the table above has all of them."""

LEGEND = (
    "heat maps: the last axis from left to right, the others from top to bottom; blue is within the tolerance, red "
    "beyond it, each shade a factor of ten; what has no colour is padding"
)


@dataclass(frozen=True)
class Look:
    """An output that is looked at closely.

    Args:
        diff: The output.
        call: Which call it is of (`call 2`); empty where there was one only.
        backend: Who is held against the reference.
        reference: Who that is.
    """

    diff: OutputDiff
    call: str = ""
    backend: str = "ONNX Runtime"
    reference: str = "PyTorch"


def closeup_blocks(looks: Iterable[Look]) -> list[Block]:
    """A figure per output that has a closeup; nothing where none has."""
    figures = tuple(_figure(look, look.diff.closeup) for look in looks if look.diff.closeup is not None)
    return [Figures(figures, LEGEND)] if figures else []


def first_looks(looks: Sequence[Look], keep: int = FIGURES) -> list[Look]:
    """The first few, those that failed before the others."""
    return sorted(looks, key=lambda look: look.diff.passed)[:keep]


def looks_of(comparisons: Sequence[Comparison], backend: str = "ONNX Runtime") -> list[Look]:
    """Each output of several comparisons once: where it failed first, else where it was tried first."""
    found: dict[str, Look] = {}
    for comparison in comparisons:
        for diff in comparison.diffs:
            if diff.closeup is not None and (diff.name not in found or found[diff.name].diff.passed > diff.passed):
                found[diff.name] = Look(diff, comparison.label if len(comparisons) > 1 else "", backend)
    return list(found.values())


def _figure(look: Look, closeup: Closeup) -> Figure:
    said, diff = _said(closeup), look.diff
    backend = look.backend if look.backend != "ONNX Runtime" else ""
    parts = [Cell(part) for part in (backend, look.call) if part]
    title = (Cell(diff.name, mono=True), Cell(shape_text(diff.expected_shape), mono=True), *parts, said)
    alt = f"heat map of the difference of {shown(diff.name)}: {said.text}"
    return Figure(Facts(title), _values(look, closeup), closeup, alt)


def _said(closeup: Closeup) -> Cell:
    """How much is beyond the tolerance, and where it is worst."""
    worst = f", worst at {_at(closeup.worst)}" if closeup.worst is not None else ""
    if closeup.beyond:
        of = f"{closeup.beyond:,} of {closeup.counted:,} {'value' if closeup.counted == 1 else 'values'}"
        return Cell(f"✗ {of} beyond the tolerance{worst}", "bad", limit=120)
    if worst:
        return Cell(f"within the tolerance{worst}", limit=120)
    return Cell("below a hundredth of the tolerance everywhere", "quiet", limit=120)


def _values(look: Look, closeup: Closeup) -> Table:
    """Two rows: the reference's values and the other side's, at the first few positions and where it is worst."""
    worst = closeup.worst
    spots = [*closeup.first, *([worst] if worst is not None and worst not in closeup.first else [])]
    titles = [f"worst {_at(spot)}" if spot == worst else _at(spot) for spot in spots]
    expected = [Cell(_value(spot.expected, spot.within), mono=True) for spot in spots]
    actual = [
        Cell(_value(spot.actual, True), mono=True)
        if spot.within
        else Cell(f"{_value(spot.actual)} ✗", "bad", mono=True)
        for spot in spots
    ]
    return Table(
        f"values of {shown(look.diff.name)}",
        (Column("value at"), *map(Column, titles)),
        ((Cell(look.reference, "quiet"), *expected), (Cell(look.backend, "quiet"), *actual)),
    )


def _value(value: object, within: bool = False) -> str:
    """A value, with digits enough to see the difference where there is one."""
    if within or not isinstance(value, float) or not math.isfinite(value):
        return brief(value)
    return f"{value:.5g}"


def _at(spot: Spot) -> str:
    return f"[{', '.join(map(str, spot.index))}]" if spot.index else "scalar"
