"""A VariantsTable as blocks: one sentence of advice, a row per variant, and what was done to each, folded away."""

from __future__ import annotations

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Facts, Fold, Table, Tone, Verdict
from onnx_magic.display.latency import duration
from onnx_magic.display.wording import DASH, at_least, at_most
from onnx_magic.display.wording import size as size_text
from onnx_magic.records.variants import GraphChange, VariantRecord
from onnx_magic.records.variants_table import VariantRow, VariantsTable

BEST = "★"
_STATUS: dict[str, tuple[str, Tone]] = {
    "verified": ("✓ verified", "good"),
    "failed": ("✗ FAILED", "bad"),
    "unchecked": ("! unchecked", "warn"),
}


def variants_blocks(table: VariantsTable) -> Blocks:
    """Advice, the table, and per variant its operators and the layers that stayed in float."""
    blocks: list[Block] = [Verdict("name", table.name, table.advice), _table(table)]
    said = (
        f"{BEST} smallest{' and fastest' if table.fastest else ''} of those that passed; changed: answers that differ"
    )
    if table.load:
        said += f"; times at {table.load}, speed-up over {table.baseline}"
    blocks.append(Facts((Cell(said, "quiet", limit=200),)))
    blocks += [Fold(f"{row.name}: {row.made.title}", _details(row.made)) for row in table.rows if row.made is not None]
    return blocks


def _table(table: VariantsTable) -> Table:
    timed = any(row.median is not None for row in table.rows)
    titles = [Column("variant"), Column("size", right=True)]
    if timed:
        titles += [Column(t, right=True) for t in ("median", "speed-up", "load", "memory")]
    titles += [Column("max |Δ|", right=True), Column("cosine", right=True), Column("changed", right=True)]
    return Table(
        "variants",
        (*titles, Column("verdict")),
        tuple(_row(table, row, timed) for row in table.rows),
        keep=24,
    )


def _row(table: VariantsTable, row: VariantRow, timed: bool) -> tuple[Cell, ...]:
    share = f"{row.size / table.rows[0].size:.0%}" if row is not table.rows[0] else ""
    small = BEST if row.name == table.smallest.name and len(table.rows) > 1 else ""
    cells = [Cell(row.name), Cell(f"{size_text(row.size)}{small}", mono=True, aside=share)]
    if timed:
        fast = BEST if table.fastest is not None and row.name == table.fastest.name else ""
        cells += [
            Cell(duration(row.median) + fast if row.median is not None else DASH, mono=True),
            Cell(f"{row.speed_up:.2f}×" if row.speed_up is not None else DASH, mono=True),
            Cell(duration(row.load_seconds) if row.load_seconds is not None else DASH, mono=True),
            Cell(size_text(row.memory) if row.memory else DASH, mono=True),
        ]
    word, tone = _STATUS[row.status]
    return (
        *cells,
        Cell(at_most(row.max_drift), mono=True),
        Cell(at_least(row.cosine), mono=True),
        _changed(row),
        Cell(word, tone, aside="other weights by now" if row.made is not None and row.made.stale else ""),
    )


def _changed(row: VariantRow) -> Cell:
    if row.changed is None:
        return Cell(DASH, "quiet")
    own = row.answers is not None and row.answers.kind != "cosine"
    total = row.answers.total if row.answers is not None and own else row.agreed[1]
    return Cell(f"{row.changed}/{total}", "plain" if row.changed == 0 else "warn", mono=True)


def _details(made: VariantRecord) -> tuple[Block, ...]:
    blocks: list[Block] = [Facts((Cell(step, limit=240),)) for step in made.steps]
    blocks += [_change(made, role, change) for role, change in made.changes.items()]
    return (*blocks, _kept(made)) if made.kept else tuple(blocks)


def _change(made: VariantRecord, role: str, change: GraphChange) -> Block:
    if not change.rows:
        return Facts((Cell(f"{role}: nothing changed", "quiet"),))
    title = "operator" if len(made.changes) == 1 else f"operator of {role}"
    columns = (Column(title), Column("before", right=True), Column("after", right=True))
    rows = [(Cell(op, mono=True), Cell(str(was), mono=True), Cell(str(now), mono=True)) for op, was, now in change.rows]
    return Table(f"operators of {made.name}", columns, tuple(rows), keep=12)


def _kept(made: VariantRecord) -> Table:
    rows = [
        (
            Cell(layer.name, mono=True),
            Cell(layer.operator, mono=True),
            Cell(layer.reason),
            Cell(f"{layer.noise:.1%}" if layer.noise is not None else DASH, mono=True),
        )
        for layer in made.kept
    ]
    columns = (Column("left in float"), Column("operator"), Column("why"), Column("error", right=True))
    return Table(f"layers of {made.name} left in float", columns, tuple(rows), keep=12)
