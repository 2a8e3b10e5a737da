"""What every backend answered to one input, as blocks: answers in columns, times, and one output's differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_magic.display.answers import answers_of, samples_of
from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Item, Table, Verdict
from onnx_magic.display.comparison import diffs_table
from onnx_magic.display.values import brief, first_values, same
from onnx_magic.display.verdict import measured
from onnx_magic.display.wording import plural, shape_text
from onnx_magic.records.playing import Played, PlayedAnswer, Timing
from onnx_magic.records.results import Array

_KEEP = 20
_FIRST = 6


def played_blocks(played: Played) -> Blocks:
    """What a notebook keeps: whether they agree, all answers, what failed. No times: they differ on every run."""
    return [*_head(played), *_answers(played, None)]


def panel_blocks(
    played: Played, *, output: str | None = None, sample: int = 0, top_k: int | None = None
) -> dict[str, Blocks]:
    """What the live panel shows, by part: `answers`, `times`, `tensor`.

    Args:
        played: The answers.
        output: The output whose values and differences are shown; the first where it is `None`.
        sample: The sample whose answers are shown.
        top_k: How many of the largest values are shown where a task has no answer of its own.
    """
    chosen = output if output in played.outputs else next(iter(played.outputs), "")
    return {
        "answers": [*_head(played), *_answers(played, sample)],
        "times": [times_table(played.answers)],
        "tensor": tensor_blocks(played, chosen, sample, top_k),
    }


def times_table(answers: Sequence[PlayedAnswer]) -> Table:
    """A row per backend that answered: its time, where it ran, on how many threads."""
    answered = [answer for answer in answers if answer.result is not None and answer.timing is not None]
    rows = []
    for answer in answered:
        assert answer.result is not None and answer.timing is not None
        where = answer.result.provider.removesuffix("ExecutionProvider")
        threads = str(answer.timing.threads) if answer.timing.threads else "one per core"
        cells = (milliseconds(answer.timing.seconds), _how(answer.timing), where, threads)
        rows.append((Cell(answer.name), *(Cell(text, mono=True) for text in cells)))
    columns = ("backend", "median time", "of", "provider", "threads")
    return Table("times of the backends", tuple(map(Column, columns)), tuple(rows))


def milliseconds(seconds: float) -> str:
    """A time with three significant digits.

    Example:
        >>> milliseconds(0.00123456), milliseconds(1.5)
        ('1.23 ms', '1500 ms')
    """
    scaled = seconds * 1000
    return f"{scaled:.{max(0, 2 - len(str(int(scaled))) + 1)}f} ms"


def tensor_blocks(played: Played, output: str, sample: int, top_k: int | None = None) -> Blocks:
    """One output: its first values with every backend, and how far each is from the first one."""
    held = _held(played, output)
    if not held:
        return []
    blocks: list[Block] = [_values_table(played, held, output, sample)]
    decoded = any(answer.result is not None and answer.result.decoded is not None for answer in played.answers)
    if top_k is not None and not decoded:
        blocks.append(_largest_table(played, held, output, sample, top_k))
    compared = [
        (a.name, d) for a in played.answers if a.comparison is not None for d in a.comparison.diffs if d.name == output
    ]
    return [*blocks, diffs_table(compared)] if compared else blocks


def _how(timing: Timing) -> str:
    return plural(timing.runs, "run") + (", warm" if timing.warm else ", cold")


def _head(played: Played) -> list[Block]:
    """Whether the backends agree, who failed, what a reader must know."""
    blocks: list[Block] = []
    compared = [answer for answer in played.answers if answer.comparison is not None]
    first = next((answer.name for answer in played.answers if answer.result is not None), "")
    wrong = [answer for answer in compared if not answer.comparison]
    measures = measured([answer.comparison for answer in compared if answer.comparison is not None])
    if wrong:
        names = " and ".join(answer.name for answer in wrong)
        blocks.append(Verdict("bad", "differs", f"{names} from {first}{measures}"))
    elif compared:
        names = " and ".join(answer.name for answer in compared)
        verb = "agrees" if len(compared) == 1 else "agree"
        blocks.append(Verdict("good", verb, f"{names} with {first}{measures}"))
    blocks += [Item("bad", answer.name, answer.error, fix=answer.fix) for answer in played.answers if answer.error]
    return [*blocks, *(Item("quiet", "note", note) for note in played.notes)]


def _answers(played: Played, sample: int | None) -> list[Block]:
    """A column per backend, a row per answer; of one sample or of all. Where nothing is decoded, a row per output."""
    answered = [answer for answer in played.answers if answer.result is not None]
    if any(answer.result is not None and answer.result.decoded is None for answer in answered):
        rows = _output_rows(answered, played, sample) if answered else []
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
        values = [entries[rank] if rank < len(entries) else _NOTHING for entries in listed]
        head = [Cell(str(number) if not rank else "", "quiet")] if samples > 1 else []
        rows.append((*head, Cell(str(rank + 1), "quiet"), *_compared_cells(values)))
    return rows


def _output_rows(answered: Sequence[PlayedAnswer], played: Played, sample: int | None) -> list[tuple[Cell, ...]]:
    rows = []
    for name in played.outputs:
        values: list[Any] = []
        for answer in answered:
            array = _array(answer, name)
            whole = array is None or sample is None
            values.append(_NOTHING if array is None else array if whole else _at(array, sample or 0, played.samples))
        rows.append((Cell(name, mono=True), *_compared_cells(values)))
    return rows


def _columns(label: str, heads: Sequence[str], answered: Sequence[PlayedAnswer], rows: Sequence[Any]) -> Table:
    columns = (*map(Column, heads), *(Column(answer.name, wraps=True) for answer in answered))
    return Table(label, columns, tuple(rows), keep=_KEEP, more="panel.result")


class _Nothing:
    """A backend gave nothing here."""


_NOTHING = _Nothing()


def _compared_cells(values: Sequence[Any]) -> list[Cell]:
    """A cell per backend; one that says something else than the first is marked."""
    cells = []
    for value in values:
        text = "nothing" if value is _NOTHING else brief(value)
        alike = (value is _NOTHING) == (values[0] is _NOTHING) and (value is _NOTHING or same(values[0], value))
        cells.append(Cell(text, limit=100) if alike else Cell(f"✗ {text}", "bad", limit=100))
    return cells


def _ranked(answer: PlayedAnswer, number: int) -> list[Any]:
    """A backend's answers to one sample, the best first."""
    assert answer.result is not None
    samples = samples_of(answer.result.decoded)
    return list(answers_of(samples[number])) if number < len(samples) else []


def _array(answer: PlayedAnswer, output: str) -> Array | None:
    return answer.result.outputs.get(output) if answer.result is not None else None


def _held(played: Played, output: str) -> Mapping[str, Array]:
    """The backends that give an output, and their arrays."""
    found = {answer.name: _array(answer, output) for answer in played.answers}
    return {name: array for name, array in found.items() if array is not None}


def _at(array: Array, sample: int, samples: int) -> Array:
    """One sample of an array whose first axis counts samples; all of any other."""
    if array.ndim > 1 and array.shape[0] == samples and sample < samples:
        picked: Array = array[sample]
        return picked
    return array


def _values_table(played: Played, held: Mapping[str, Array], output: str, sample: int) -> Table:
    rows = []
    for name, array in held.items():
        values = first_values(_at(array, sample, played.samples), _FIRST)
        kind = f"{array.dtype}[{shape_text(array.shape)}]"
        rows.append((Cell(name), Cell(kind, mono=True), Cell(values, mono=True, limit=120)))
    label = f"{output} of sample {sample}" if played.samples > 1 else output
    columns = (Column("backend"), Column(label), Column("first values", wraps=True))
    return Table(f"first values of {output}", columns, tuple(rows))


def _largest_table(played: Played, held: Mapping[str, Array], output: str, sample: int, top_k: int) -> Table:
    """The largest values of the first backend, and what the others have in the same places."""
    parts = {name: _at(array, sample, played.samples) for name, array in held.items()}
    first = next(iter(parts.values()))
    count = min(top_k, first.size)
    flat = np.nan_to_num(first.reshape(-1).astype(np.float64), nan=-np.inf)
    places = np.argpartition(-flat, count - 1)[:count] if count else np.empty(0, np.int64)
    rows = []
    for place in sorted(places.tolist(), key=lambda at: -flat[at]):
        index = tuple(int(i) for i in np.unravel_index(place, first.shape))
        values = [part[index].item() if part.shape == first.shape else _NOTHING for part in parts.values()]
        rows.append((Cell(str(list(index)), mono=True), *_compared_cells(values)))
    columns = (Column("index"), *map(Column, parts))
    return Table(f"largest values of {output}", columns, tuple(rows), keep=_KEEP)
