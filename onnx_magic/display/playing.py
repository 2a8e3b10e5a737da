"""What every backend answered to one input, as blocks: answers in columns, times, and one output's differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_magic.display.answers import answers_of, samples_of
from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Item, Table, Verdict
from onnx_magic.display.closeups import Look, closeup_blocks
from onnx_magic.display.comparison import diffs_table
from onnx_magic.display.latency import latency_blocks
from onnx_magic.display.marking import NOWHERE, row_cells
from onnx_magic.display.play_texts import are_texts, rate_blocks, text_answers, tokens_agree
from onnx_magic.display.side_by_side import TOP_K
from onnx_magic.display.values import first_values
from onnx_magic.display.verdict import measured
from onnx_magic.display.wording import shape_text
from onnx_magic.records.playing import Played, PlayedAnswer, PlayView
from onnx_magic.records.results import Array

_KEEP = 20
_FIRST = 6


def played_blocks(played: Played) -> Blocks:
    """What a notebook keeps: whether they agree, all answers, what failed. No times: they differ on every run."""
    return [*_head(played), *_answers(played, None)]


def panel_blocks(played: Played, view: PlayView) -> dict[str, Blocks]:
    """What the live panel shows, by part: `answers`, `times`, `tensor`; of texts no tensor: answers show their tokens.

    Args:
        played: The answers.
        view: What is looked at: the sample whose answers are shown, the output that is shown closely.
    """
    texts = are_texts(played)
    times = [] if played.latency is None else rate_blocks(played.latency) if texts else latency_blocks(played.latency)
    return {
        "answers": [*_head(played), *_answers(played, view.sample, view.top_k)],
        "times": times,
        "tensor": [] if texts else tensor_blocks(played, view),
    }


def tensor_blocks(played: Played, view: PlayView) -> Blocks:
    """One output: how far each backend is from the first one, where, and a few values.

    Where one backend answered alone there are values and nothing to compare them with.
    """
    output = view.output if view.output in played.outputs else next(iter(played.outputs), "")
    compared = [(a, d) for a in played.answers if a.comparison is not None for d in a.comparison.diffs]
    rows = [(answer.name, diff) for answer, diff in compared if diff.name == output]
    if not rows:
        return _values(played, output, view)
    first = next((answer.name for answer in played.answers if answer.result is not None), "PyTorch")
    looks = [
        Look(answer.focus, backend=answer.name, reference=first)
        for answer in played.answers
        if answer.focus is not None
    ]
    return [diffs_table(rows, "backend"), *closeup_blocks(looks)]


def _head(played: Played) -> list[Block]:
    """Whether the backends agree, who failed, what a reader must know."""
    blocks: list[Block] = []
    compared = [answer for answer in played.answers if answer.comparison is not None]
    first = next((answer.name for answer in played.answers if answer.result is not None), "")
    wrong = [answer for answer in compared if not answer.comparison]
    measures = measured([answer.comparison for answer in compared if answer.comparison is not None])
    if are_texts(played):  # a difference of token numbers means nothing
        measures = "" if wrong else tokens_agree(compared)
    if wrong:
        names = " and ".join(answer.name for answer in wrong)
        blocks.append(Verdict("bad", "differs", f"{names} from {first}{measures}"))
    elif compared:
        names = " and ".join(answer.name for answer in compared)
        verb = "agrees" if len(compared) == 1 else "agree"
        blocks.append(Verdict("good", verb, f"{names} with {first}{measures}"))
    blocks += [Item("bad", answer.name, answer.error, fix=answer.fix) for answer in played.answers if answer.error]
    return [*blocks, *(Item("quiet", "note", note) for note in played.notes)]


def _answers(played: Played, sample: int | None, top_k: int | None = None) -> list[Block]:
    """A column per backend, a row per answer; of one sample or of all. Where nothing is decoded, a row per output."""
    answered = [answer for answer in played.answers if answer.result is not None]
    if are_texts(played):
        return [text_answers(played, sample)]
    if any(answer.result is not None and answer.result.decoded is None for answer in answered):
        rows = _output_rows(answered, played, sample, top_k)
        return [_columns("outputs of the backends", ["output"], answered, rows)]
    rows = []
    for number in range(played.samples) if sample is None else (sample,):
        rows += _sample_rows(answered, number, played.samples)
    heads = ["sample", "rank"] if played.samples > 1 else ["rank"]
    return [_columns("answers of the backends", heads, answered, rows)]


def _sample_rows(answered: Sequence[PlayedAnswer], number: int, samples: int) -> list[tuple[Cell, ...]]:
    """One sample's answers: a row per rank, each backend's in its column, what differs from the first's marked."""
    listed = [_ranked(answer, number) for answer in answered]
    rows = []
    for rank in range(max((len(entries) for entries in listed), default=0) or 1):
        values = [entries[rank] if rank < len(entries) else NOWHERE for entries in listed]
        head = [Cell(str(number) if not rank else "", "quiet")] if samples > 1 else []
        rows.append((*head, Cell(str(rank + 1), "quiet"), *row_cells(values, TOP_K)[0]))
    return rows


def _output_rows(
    answered: Sequence[PlayedAnswer], played: Played, sample: int | None, top_k: int | None
) -> list[tuple[Cell, ...]]:
    rows = []
    for name in played.outputs:
        values: list[Any] = []
        for answer in answered:
            array = answer.result.outputs.get(name) if answer.result is not None else None
            whole = array is None or sample is None
            values.append(NOWHERE if array is None else array if whole else _at(array, sample or 0, played.samples))
        rows.append((Cell(name, mono=True), *row_cells(values, top_k or TOP_K)[0]))
    return rows


def _columns(label: str, heads: Sequence[str], answered: Sequence[PlayedAnswer], rows: Sequence[Any]) -> Table:
    columns = (*map(Column, heads), *(Column(answer.name, wraps=True) for answer in answered))
    return Table(label, columns, tuple(rows), keep=_KEEP, more="panel.result")


def _ranked(answer: PlayedAnswer, number: int) -> list[Any]:
    """A backend's answers to one sample, the best first."""
    assert answer.result is not None
    samples = samples_of(answer.result.decoded)
    return list(answers_of(samples[number])) if number < len(samples) else []


def _at(array: Array, sample: int, samples: int) -> Array:
    """One sample of an array whose first axis counts samples; all of any other."""
    if array.ndim > 1 and array.shape[0] == samples and sample < samples:
        picked: Array = array[sample]
        return picked
    return array


def _values(played: Played, output: str, view: PlayView) -> Blocks:
    rows = []
    for answer in played.answers:
        array = answer.result.outputs.get(output) if answer.result is not None else None
        if array is not None:
            values = first_values(_at(array, view.sample, played.samples), _FIRST)
            cells = (array.dtype.name, shape_text(array.shape), values)
            rows.append((Cell(answer.name), *(Cell(text, mono=True, limit=120) for text in cells)))
    columns = (Column("backend"), Column("dtype"), Column("shape"), Column("first values", wraps=True))
    return [Table(f"values of {output}", columns, tuple(rows))] if rows else []
