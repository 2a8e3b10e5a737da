"""What was done to make a variant, as blocks: what it is, what it kept in float, its operators before and after."""

from __future__ import annotations

from onnx_magic.display.blocks import Block, Cell, Column, Facts, Item, Table, Tone
from onnx_magic.display.wording import size
from onnx_magic.records.variants import GraphChange, KeptLayer, VariantRecord

_REASONS = {
    "worst": "hurt most",
    "excluded": "excluded",
    "overflow": "too large for float16",
    "no kernel": "no int8 kernel",
    "not taken": "not taken by the quantizer",
}
"""Why a layer stayed as it was, as it is shown."""

_COMMON = 0.05
"""A share of answers that changed, above which it is marked."""


def answer_items(record: VariantRecord) -> list[Block]:
    """What its answers are worth, which stands next to the verdict: those on the user's data, and greedy tokens."""
    items: list[Block] = []
    if record.answers is not None:
        few = record.answers.rate >= 1 - _COMMON
        tone: Tone = "good" if few else "warn"
        items.append(Item(tone, "answers", f"on {record.answers.total} of your samples, {record.answers}"))
    if record.tokens is not None:
        tone = "good" if record.tokens.same == record.tokens.total else "warn"
        items.append(Item(tone, "tokens", str(record.tokens)))
    return items


def step_items(record: VariantRecord) -> list[Block]:
    """What was done, a sentence each."""
    return [Item("quiet", "done", sentence) for sentence in record.steps]


def made_facts(record: VariantRecord) -> Facts:
    """What it is, and how much smaller."""
    parts = [Cell(record.title), Cell(f"made from {record.parent or 'the export'}")]
    for role, change in record.changes.items():
        share = _share(change)
        parts.append(Cell(f"{role}: {share}" if len(record.changes) > 1 else share))
    return Facts(tuple(part for part in parts if part.text))


def made_tables(record: VariantRecord) -> list[Table]:
    """The layers that stayed in float, and the operators whose number changed."""
    tables = []
    if record.kept:
        tables.append(
            Table(
                "layers left as they were",
                (Column("left as it was"), Column("operator"), Column("why"), Column("noise", right=True)),
                tuple(_kept_row(layer) for layer in record.kept),
                keep=8,
                more="exported.made.kept",
            )
        )
    several = len(record.changes) > 1
    rows = [
        (
            Cell(f"{role}: {name}" if several else name, mono=True),
            Cell(str(before), mono=True),
            Cell(str(after), mono=True),
        )
        for role, change in record.changes.items()
        for name, before, after in change.rows
    ]
    if rows:
        columns = (Column("operator"), Column("before", right=True), Column("after", right=True))
        more = f'exported.made.changes["{next(iter(record.changes))}"].rows'
        tables.append(Table("operators before and after", columns, tuple(rows), keep=8, more=more))
    return tables


def made_sentence(record: VariantRecord) -> str:
    """How the verdict's sentence begins: what it is near to."""
    if not record.tolerance:
        return f"{record.name} agrees with {record.against}"
    return f"{record.name} stays near {record.against}"


def _kept_row(layer: KeptLayer) -> tuple[Cell, ...]:
    noise = "" if layer.noise is None else f"{layer.noise:.1e}"
    why = _REASONS.get(layer.reason, layer.reason)
    return Cell(layer.name, "name", mono=True), Cell(layer.operator, mono=True), Cell(why), Cell(noise, mono=True)


def _share(change: GraphChange) -> str:
    """`28% of 5.77 MB`; empty where the size before is not known."""
    if not change.size_before:
        return ""
    return f"{change.size_after / change.size_before:.0%} of {size(change.size_before)}"
