"""Stages as blocks: names with ticks in a report, and the one table that shows times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_magic.display.blocks import Blocks, Cell, Column, Table, Tone
from onnx_magic.records.artifact import Stage

_STATES: Mapping[bool | None, tuple[Tone, str, str]] = {
    True: ("good", "✓", "✓"),
    False: ("bad", "✗", "✗ failed"),
    None: ("quiet", "○", "○ not reached"),
}
"""How a stage ended: its tone, its mark, and what its row says."""


def ticks(stages: Sequence[Stage]) -> tuple[Cell, ...]:
    """`✓ source`, `✓ plan`, `✗ capture`, `○ convert`: went well, failed, not reached. No times."""
    return tuple(Cell(f"{mark_of(stage.ok)} {stage.name}", "bad" if stage.ok is False else "quiet") for stage in stages)


def stages_blocks(stages: Sequence[Stage]) -> Blocks:
    """A row per stage, with its seconds."""
    return [
        Table(
            "stages and their seconds",
            (Column("stage"), Column("result"), Column("seconds", right=True), Column("what was done", wraps=True)),
            tuple(_row(stage) for stage in stages),
            keep=24,
        )
    ]


def mark_of(ok: bool | None) -> str:
    """A tick, a cross, or a ring for a stage that was not reached."""
    return _STATES[ok][1]


def _row(stage: Stage) -> tuple[Cell, ...]:
    tone, _, words = _STATES[stage.ok]
    seconds = "" if stage.ok is None else seconds_text(stage.seconds)
    return (Cell(stage.name), Cell(words, tone), Cell(seconds, mono=True), Cell(stage.detail, limit=100))


def seconds_text(seconds: float) -> str:
    """`0.42`, `3.1`, `128`: as precise as a reader needs."""
    return f"{seconds:.2f}" if seconds < 1 else f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"
