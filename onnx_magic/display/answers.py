"""Answers as blocks: a RunResult's samples, and PyTorch's values beside ONNX Runtime's."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Facts, Item, Table, Verdict
from onnx_magic.display.comparison import comparisons_blocks
from onnx_magic.display.values import as_array, brief, fields_of, first_values, same
from onnx_magic.display.verdict import measured, outcome
from onnx_magic.display.wording import plural
from onnx_magic.records.results import RunResult, SideBySide

_BACKENDS = {"onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}
_COLUMNS = 6
_KEEP = 20


def result_blocks(result: RunResult) -> Blocks:
    """A row per answer, or a row per output where there is none to decode; then what was done to the feed."""
    blocks: list[Block] = []
    if result.decoded is None:
        blocks.append(_outputs_table(result.outputs))
    else:
        blocks.append(_answers_table(samples_of(result.decoded)))
    blocks += [Item("quiet", "note", note) for note in result.notes]
    backend = Cell(f"{_BACKENDS.get(result.backend, result.backend)} ({result.provider})", "quiet")
    shapes = [Cell(_spec(name, array), "quiet", mono=True) for name, array in list(result.outputs.items())[:_COLUMNS]]
    left = len(result.outputs) - _COLUMNS
    shapes += [Cell(f"{plural(left, 'output')} more", "quiet")] if left > 0 else []
    return [*blocks, Facts((backend, *shapes) if result.decoded is not None else (backend,))]


def side_by_side_blocks(pair: SideBySide) -> Blocks:
    """Whether they agree, the two answers in columns with what differs marked, then the tensors' differences."""
    rows = _paired(pair.expected, pair.actual)
    differing = sum(not alike for *_, alike in rows)
    blocks: list[Block] = [_pair_verdict(pair, differing, len(rows))]
    blocks += [Item("quiet", "note", note) for note in pair.notes]
    blocks.append(_pair_table(rows))
    return [*blocks, *comparisons_blocks(pair.comparison)]


def _pair_verdict(pair: SideBySide, differing: int, total: int) -> Verdict:
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


def _paired(expected: Any, actual: Any) -> list[tuple[str, str, str, bool]]:
    """Rows of (name, PyTorch's value, ONNX Runtime's value, whether they are the same)."""
    left, right = _entries(expected), _entries(actual)
    rows = []
    for name in dict.fromkeys((*left, *right)):
        texts = [brief(side[name]) if name in side else "nothing" for side in (left, right)]
        alike = name in left and name in right and same(left[name], right[name])
        rows.append((name, texts[0], texts[1], alike))
    return rows


def _pair_table(rows: Sequence[tuple[str, str, str, bool]]) -> Table:
    cells = tuple(
        (
            Cell(name, "quiet"),
            Cell(expected, limit=100),
            Cell(actual, "plain" if alike else "bad", limit=100),
            Cell("✓ same", "good") if alike else Cell("✗ differs", "bad"),
        )
        for name, expected, actual, alike in rows
    )
    columns = (Column("answer"), Column("PyTorch"), Column("ONNX Runtime"), Column("result"))
    return Table("PyTorch's answers beside ONNX Runtime's", columns, cells, keep=_KEEP)


def _entries(value: Any) -> dict[str, Any]:
    """A value as its named parts: samples by number, outputs by name; a lone value or a list of numbers has none."""
    if isinstance(value, RunResult):
        return _numbered(samples_of(value.decoded)) if value.decoded is not None else dict(value.outputs)
    fields = fields_of(value)
    if fields is not None:
        return dict(fields)
    if isinstance(value, list | tuple) and not all(isinstance(entry, numbers.Real) for entry in value):
        return _numbered(value)
    return {"": value}


def _numbered(samples: Sequence[Any]) -> dict[str, Any]:
    return {str(index): sample for index, sample in enumerate(samples)}


def samples_of(decoded: Any) -> Sequence[Any]:
    """The answer of each sample; a lone answer is one sample."""
    return decoded if isinstance(decoded, list | tuple) else [decoded]


def _answers_table(samples: Sequence[Any]) -> Table:
    """A row per answer; a sample may have several (entities, tokens for the mask) or none."""
    answers = [(index, answer) for index, sample in enumerate(samples) for answer in answers_of(sample) or [{}]]
    names = list(dict.fromkeys(name for _, answer in answers for name in answer))[:_COLUMNS] or ["answer"]
    firsts = [at for at, (index, _) in enumerate(answers) if at == 0 or index != answers[at - 1][0]]
    rows = []
    for at, (index, answer) in enumerate(answers):
        cells = [Cell(brief(answer[name]) if name in answer else "", limit=100) for name in names]
        cells[0] = cells[0] if answer else Cell("none", "quiet")
        rows.append((Cell(str(index) if at in firsts else "", "quiet"), *cells))
    grouped = len(firsts) < len(answers)
    return Table(
        "answers",
        (Column("sample"), *map(Column, names)),
        tuple(rows),
        keep=_KEEP,
        more="result.decoded",
        rules=frozenset(firsts) - {0} if grouped else frozenset(),
    )


def answers_of(sample: Any) -> Sequence[Mapping[str, Any]]:
    """The answers in one sample's: several (entities, the best labels), none, or the only one; each with its fields."""
    if isinstance(sample, list | tuple) and all(fields_of(answer) is not None for answer in sample):
        return [fields for answer in sample if (fields := fields_of(answer)) is not None]
    fields = fields_of(sample)
    return [fields] if fields is not None else [{"answer": sample}]


def _outputs_table(outputs: Mapping[str, Any]) -> Table:
    rows = []
    for name, value in outputs.items():
        array = as_array(value)
        shape, dtype, values = ("", "", brief(value)) if array is None else _array_cells(array)
        rows.append((Cell(name, mono=True), Cell(dtype, mono=True), Cell(shape, mono=True), Cell(values, mono=True)))
    columns = (Column("output"), Column("dtype"), Column("shape"), Column("first values"))
    return Table("outputs", columns, tuple(rows), more="result.outputs")


def _array_cells(array: Any) -> tuple[str, str, str]:
    return " × ".join(map(str, array.shape)) or "scalar", str(array.dtype), first_values(array)


def _spec(name: str, array: Any) -> str:
    return f"{name}: {array.dtype}[{', '.join(map(str, array.shape))}]"
