"""PyTorch's answer beside ONNX Runtime's and those of variants: the answers in columns, then the tensors."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Item, Table, Verdict
from onnx_magic.display.closeups import FIGURES, closeup_blocks, first_looks, looks_of
from onnx_magic.display.comparison import comparisons_blocks, variants_table
from onnx_magic.display.latency import latency_blocks
from onnx_magic.display.marking import HANDFUL, NOWHERE, is_long, is_tokens, row_cells
from onnx_magic.display.values import as_array, fields_of, numeric
from onnx_magic.display.verdict import measured, outcome
from onnx_magic.display.wording import plural
from onnx_magic.records.results import Comparison, RunResult, SideBySide, VariantAnswer

TOP_K = 3
"""How many of the largest values of a long output are shown where nobody says."""

_KEEP = 20
_SPLIT = 64
"""So many samples of an array have a row each; the others share one."""


@dataclass(frozen=True)
class Row:
    """One answer of all sides.

    Args:
        name: The sample's number, the output's name; empty for a lone value.
        cells: PyTorch's value, then the others', what differs marked.
        alike: For each of them whether it says the same as PyTorch's.
    """

    name: str
    cells: tuple[Cell, ...]
    alike: tuple[bool, ...]


def side_by_side_blocks(pair: SideBySide) -> Blocks:
    """Whether they agree, the answers in columns with what differs marked, then the tensors' differences."""
    rows = answer_rows((pair.expected, pair.actual, *(other.answer for other in pair.others.values())), pair.top_k)
    blocks: list[Block] = [side_verdict(pair, rows)]
    blocks += [variant_item(name, other) for name, other in pair.others.items()]
    blocks += [Item("quiet", "note", note) for note in pair.notes]
    blocks += [Item("quiet", name, note) for name, other in pair.others.items() for note in other.notes]
    blocks.append(answers_table(rows, ("ONNX Runtime", *pair.others)))
    blocks += tensor_blocks(pair.comparison, pair.others)
    return [*blocks, *(latency_blocks(pair.latency) if pair.latency is not None else ())]


def side_verdict(pair: SideBySide, rows: Sequence[Row]) -> Verdict:
    """The first line: whether ONNX Runtime agrees with PyTorch."""
    differing, total = sum(not row.alike[1] for row in rows), len(rows)
    calls = plural(len(pair.comparison), "call")
    answers = f"{differing} of {plural(total, 'value')} differ{'s' if differing == 1 else ''}"
    wrong = [c for c in pair.comparison if not c.passed]
    if wrong:
        reason = outcome(wrong[0]).text.removeprefix("✗ ")
        sentence = f"ONNX Runtime differs from PyTorch in {len(wrong)} of {calls}"
        return Verdict("bad", "FAILED", f"{sentence}: {wrong[0].label}: {reason}{measured(wrong)}")
    if not pair.comparison:
        seen = "the values of the two runs are the same" if not differing else answers
        return Verdict("warn", "unchecked", f"no call of the model was compared; {seen}")
    if differing:
        sentence = f"the model's outputs agree in {calls}, but {answers}"
        return Verdict("warn", "look", f"{sentence}{measured(pair.comparison)}")
    return Verdict("good", "agrees", f"ONNX Runtime agrees with PyTorch in {calls}{measured(pair.comparison)}")


def variant_item(name: str, variant: VariantAnswer) -> Item:
    """A line about a variant: whether it is within the tolerance, and its answers the same."""
    tried = variant.comparison
    wrong = [c for c in tried if not c.passed]
    if not tried:
        return Item("warn", name, "no call of the model was compared")
    broken = next((c for c in tried if c.error is not None), None)
    if broken is not None:
        return Item("bad", name, f"{broken.label}: {broken.error}")
    # What it was verified with is not what the plain export is held to.
    allowed = f"the rule of its verdict ({tried[0].rule})" if tried[0].rule else "the tolerance"
    if not wrong:
        return Item("good", name, f"within {allowed} in {plural(len(tried), 'call')}{measured(tried)}")
    sentence = f"beyond {allowed} in {len(wrong)} of {plural(len(tried), 'call')}{measured(tried)}"
    meaning = all(c.agreement is None or c.agreement for c in tried)
    return Item("warn" if meaning else "bad", name, sentence)


def tensor_blocks(comparison: Sequence[Comparison], others: Mapping[str, VariantAnswer]) -> list[Block]:
    """A row per output and call, the variants' below; then the closeups."""
    blocks = comparisons_blocks(comparison)
    if any(c.diffs for other in others.values() for c in other.comparison):
        blocks.append(variants_table({name: other.comparison for name, other in others.items()}))
    looks = first_looks(looks_of(comparison), FIGURES)
    of_variants = [first_looks(looks_of(other.comparison, name), FIGURES // 2) for name, other in others.items()]
    return [*blocks, *closeup_blocks([*looks, *itertools.chain(*of_variants)][: 2 * FIGURES])]


def answer_rows(values: Sequence[Any], top_k: int | None = None) -> list[Row]:
    """A row per sample, output or field of the values, the first of them being what is expected.

    Args:
        values: RunResults, or any values of a cell.
        top_k: How many of the largest values are shown of a long array.
    """
    sides = [_entries(value) for value in values]
    rows = []
    for name in dict.fromkeys(name for side in sides for name in side):
        entries = [side.get(name, NOWHERE) for side in sides]
        cells, alike = row_cells(entries, TOP_K if top_k is None else top_k)
        told = f"{name} largest".strip() if any(map(is_long, entries)) else name
        rows.append(Row(told, tuple(cells), tuple(alike)))
    return rows


def answers_table(rows: Sequence[Row], backends: Sequence[str] = ("ONNX Runtime",)) -> Table:
    """The rows under a column per side, and whether they say the same.

    Args:
        rows: From `answer_rows`.
        backends: Who stands beside PyTorch.
    """
    sides = (Column(name, wraps=True) for name in ("PyTorch", *backends))
    if len(rows) > _KEEP:  # what differs is not folded away
        rows = sorted(rows, key=lambda row: all(row.alike))
    columns = (Column("answer"), *sides, Column("result"))
    cells = tuple((Cell(row.name, "quiet"), *row.cells, _result(row, backends)) for row in rows)
    return Table("PyTorch's answers beside ONNX Runtime's", columns, cells, keep=_KEEP)


def _result(row: Row, backends: Sequence[str]) -> Cell:
    differ = [name for name, like in zip(backends, row.alike[1:], strict=True) if not like]
    if not differ:
        return Cell("✓ same", "good")
    return Cell("✗ differs" if len(backends) == 1 else f"✗ {', '.join(differ)}", "bad")


def _entries(value: Any) -> dict[str, Any]:
    """A value as its named parts: samples by number, outputs by name; a lone value or a list of numbers has none."""
    if isinstance(value, RunResult):
        return _numbered(_samples(value.decoded)) if value.decoded is not None else _split(value.outputs)
    fields = fields_of(value)
    if fields is not None:
        return _split(fields)
    if isinstance(value, list | tuple) and not all(isinstance(entry, numbers.Real) for entry in value):
        return _numbered(value)
    return _split({"": value})


def _split(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts, with each long array in its samples: they are what a person compares."""
    found: dict[str, Any] = {}
    for name, value in parts.items():
        array = as_array(value)
        if array is None or array.ndim < 2 or not len(array) or array[0].size <= HANDFUL or not numeric(array):
            found[name] = value
            continue
        if array.dtype.kind in "iu" and not is_tokens(array[0]):
            found[name] = value
            continue
        found |= {f"{name}[{at}]": array[at] for at in range(min(len(array), _SPLIT))}
        if len(array) > _SPLIT:
            found[f"{name}[{_SPLIT}:]"] = array[_SPLIT:]
    return found


def _numbered(samples: Sequence[Any]) -> dict[str, Any]:
    return {str(index): sample for index, sample in enumerate(samples)}


def _samples(decoded: Any) -> Sequence[Any]:
    """The answer of each sample; a lone answer is one sample."""
    return decoded if isinstance(decoded, list | tuple) else [decoded]
