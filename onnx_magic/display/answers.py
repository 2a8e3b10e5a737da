"""A RunResult as blocks: the answer of each sample, or the outputs where there is none to decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Facts, Item, Table
from onnx_magic.display.values import as_array, brief, fields_of, first_values
from onnx_magic.display.wording import plural
from onnx_magic.records.results import RunResult

_BACKENDS = {"onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}
_COLUMNS = 6
_KEEP = 20
_LINE, _TEXT = 60, 4000
"""Characters of a text that is set on one line, and of one that is shown at all."""


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
        cells = [_answer_cell(answer[name]) if name in answer else Cell("") for name in names]
        cells[0] = cells[0] if answer else Cell("none", "quiet")
        rows.append((Cell(str(index) if at in firsts else "", "quiet"), *cells))
    grouped = len(firsts) < len(answers)
    return Table(
        "answers",
        (Column("sample"), *(Column(name, wraps=_is_long(name, answers)) for name in names)),
        tuple(rows),
        keep=_KEEP,
        more="result.decoded",
        rules=frozenset(firsts) - {0} if grouped else frozenset(),
    )


def _answer_cell(value: Any) -> Cell:
    """A text that was written is the answer itself: it is shown whole."""
    return Cell(value, limit=_TEXT, lines=True) if isinstance(value, str) else Cell(brief(value), limit=100)


def _is_long(name: str, answers: Sequence[tuple[int, Mapping[str, Any]]]) -> bool:
    return any(isinstance(text := answer.get(name), str) and len(text) > _LINE for _, answer in answers)


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
