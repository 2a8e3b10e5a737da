"""A Comparison as blocks: whether ONNX Runtime agrees with PyTorch, and how far each output is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Item, Table, Verdict
from onnx_magic.display.closeups import Look, closeup_blocks, first_looks, looks_of
from onnx_magic.display.verdict import inputs_text, measured, outcome
from onnx_magic.display.wording import DASH, at_least, at_most, shape_text, tolerance
from onnx_magic.records.results import Comparison, OutputDiff


def comparison_blocks(comparison: Comparison) -> Blocks:
    """The verdict on one set of inputs, then a row per output."""
    tried = f"{comparison.label} ({inputs_text(comparison.shapes)})" if comparison.shapes else comparison.label
    if comparison.passed:
        verdict = Verdict("good", "agrees", f"{tried}{measured([comparison])}")
    else:
        wrong = outcome(comparison).text.removeprefix("✗ ")
        verdict = Verdict("bad", "FAILED", f"{tried}: {wrong}{measured([comparison])}")
    blocks: list[Block] = [verdict]
    if comparison.rule:
        blocks.append(Item("quiet", "rule", f"judged as the variant's own verdict was: {comparison.rule}"))
    if comparison.diffs:
        blocks.append(diffs_table([("", diff) for diff in comparison.diffs]))
    return [*blocks, *closeup_blocks(first_looks(looks_of([comparison])))]


def diff_blocks(diff: OutputDiff) -> Blocks:
    """One output: its row."""
    return [diffs_table([("", diff)]), *closeup_blocks([Look(diff)])]


def comparisons_blocks(comparisons: Sequence[Comparison]) -> list[Block]:
    """Several comparisons in one table: a row per output of each, and a line for each that did not run."""
    blocks: list[Block] = [Item("bad", c.label, c.error) for c in comparisons if c.error is not None]
    rows = [(c.label, diff) for c in comparisons for diff in c.diffs]
    return [*blocks, diffs_table(rows)] if rows else blocks


def variants_table(variants: Mapping[str, Sequence[Comparison]]) -> Table:
    """A row per variant, call and output: how far each is from PyTorch."""
    rows = [
        (f"{name}, {c.label}" if len(tried) > 1 else name, diff)
        for name, tried in variants.items()
        for c in tried
        for diff in c.diffs
    ]
    return diffs_table(rows)


def diffs_table(rows: Sequence[tuple[str, OutputDiff]], title: str = "tried") -> Table:
    """A row per output, behind the label of its comparison where that is said, under `title`."""
    labelled = any(label for label, _ in rows)
    titles = ("output", "dtype", "shape", "max |Δ|", "max rel Δ", "cosine", "atol", "rtol", "result")
    columns = [Column(title) for title in ((title, *titles) if labelled else titles)]
    cells = [_diff_row(diff, [Cell(label)] if labelled else []) for label, diff in rows]
    starts = frozenset(i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0])
    return Table(
        "differences of the outputs: ONNX Runtime against PyTorch",
        tuple(columns),
        tuple(cells),
        header_column=1 if labelled else 0,
        rules=starts if len(rows) > len({label for label, _ in rows}) else frozenset(),
        more=".to_frame()",
    )


def _diff_row(diff: OutputDiff, before: list[Cell]) -> tuple[Cell, ...]:
    return (
        *before,
        Cell(diff.name, mono=True),
        _pair(diff.expected_dtype, diff.actual_dtype),
        _pair(shape_text(diff.expected_shape), shape_text(diff.actual_shape)),
        Cell(at_most(diff.max_abs), mono=True),
        Cell(at_most(diff.max_rel), mono=True),
        Cell(at_least(diff.cosine), mono=True),
        Cell(tolerance(diff.atol), "quiet", mono=True),
        Cell(tolerance(diff.rtol), "quiet", mono=True),
        _result(diff),
    )


def _pair(expected: str, actual: str) -> Cell:
    if expected == actual:
        return Cell(expected, mono=True)
    return Cell(f"{expected}, got {actual or DASH}", "bad", mono=True)


def _result(diff: OutputDiff) -> Cell:
    if diff.passed:
        return Cell("✓", "good")
    if diff.expected_shape != diff.actual_shape:
        return Cell("✗ shape differs", "bad")
    if diff.expected_dtype != diff.actual_dtype:
        return Cell("✗ dtype differs", "bad")
    return Cell("✗ values differ" if diff.finite else "✗ not finite", "bad")
