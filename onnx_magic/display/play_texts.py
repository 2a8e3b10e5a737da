"""Generated texts of all backends as blocks: whole, in columns, the first word and token marked where they part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_magic.display.answers import answers_of, samples_of
from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Facts, Table
from onnx_magic.display.latency import duration
from onnx_magic.display.marking import NOWHERE, first_difference, row_cells
from onnx_magic.display.values import full_text
from onnx_magic.display.wording import plural, rate, visible
from onnx_magic.records.latency import Latency
from onnx_magic.records.playing import Played, PlayedAnswer
from onnx_magic.records.results import Array

_LONGEST = 4000
"""Characters of a text; of a longer one the middle is cut out."""

_TOKENS = 1
"""`row_cells` shows tokens around the first that differs; how many values of a long array does not matter."""


def are_texts(played: Played) -> bool:
    """Whether the backends generated texts."""
    return any(answer.result is not None and answer.result.tokens for answer in played.answers)


def text_answers(played: Played, sample: int | None) -> Table:
    """A column per backend: its text, then the tokens around the first one that is not the first backend's.

    Args:
        played: The answers.
        sample: The sample that is looked at; all where `None`.
    """
    answered = [answer for answer in played.answers if answer.result is not None]
    rows: list[tuple[Cell, ...]] = []
    several = played.samples > 1
    for number in range(played.samples) if sample is None else (sample,):
        texts = [_text(answer, number) for answer in answered]
        head = (Cell(str(number), "quiet"),) if several else ()
        rows.append((*head, *_cells(texts)))
        tokens = [_tokens(answer, played, number) for answer in answered]
        if any(one is not NOWHERE and not np.array_equal(tokens[0], one) for one in tokens[1:]):
            rows.append((*((Cell(""),) if several else ()), *row_cells(tokens, _TOKENS)[0]))
    heads = (Column("sample"),) if several else ()
    columns = (*heads, *(Column(answer.name, wraps=True) for answer in answered))
    return Table("texts of the backends", columns, tuple(rows), keep=20, more="panel.result")


def tokens_agree(answers: Sequence[PlayedAnswer]) -> str:
    """How many tokens are the same: ` · 40 tokens`."""
    counts = {answer.result.tokens for answer in answers if answer.result is not None}
    return f" · {plural(max(counts), 'token')}, all the same" if counts else ""


def rate_blocks(latency: Latency) -> Blocks:
    """A row per backend: tokens per second, how many times as many as the first one, tokens, seconds."""
    most = max((t.tokens_per_second for t in latency.timings if t.tokens), default=1.0)
    first = next((t.tokens_per_second for t in latency.timings if t.tokens), 1.0)
    rows = []
    for timing in latency.timings:
        speed = timing.tokens_per_second if timing.tokens else 0.0
        rows.append(
            (
                Cell(timing.name),
                Cell(timing.provider, mono=True),
                Cell(rate(speed), mono=True),
                Cell("", bar=speed / most),
                Cell(f"{speed / first:.3g}×", mono=True),
                Cell(str(timing.tokens), mono=True),
                Cell(duration(timing.median), mono=True),
            )
        )
    columns = (
        Column("backend"),
        Column("provider"),
        Column("tokens/s", right=True),
        Column(""),
        Column("speed", right=True),
        Column("tokens", right=True),
        Column("time", right=True),
    )
    blocks: list[Block] = [Table("tokens per second of each backend", columns, tuple(rows))]
    return [*blocks, Facts((Cell("one run each; the first of a backend takes longer", "quiet", limit=100),))]


def _text(answer: PlayedAnswer, number: int) -> str:
    """The text of one sample, or the tokens where there is no tokenizer."""
    assert answer.result is not None
    if answer.result.decoded is None:
        return ", ".join(map(str, answer.result.outputs["sequences"][number].tolist()))
    (fields,) = answers_of(samples_of(answer.result.decoded)[number])
    (value,) = fields.values()
    return visible(value if isinstance(value, str) else full_text(value), breaks=True)


def _cells(texts: Sequence[str]) -> list[Cell]:
    """The first text plain, the others marked where they part from it, and it where the first of them does."""
    first, *others = texts
    parting = next((text for text in others if text != first), None)
    mark = None if parting is None else first_difference(first, parting)
    cells = [Cell(first, limit=_LONGEST, mark=_seen(mark), lines=True)]
    for text in others:
        if text == first:
            cells.append(Cell(text, limit=_LONGEST, lines=True))
        else:
            parted = _seen(first_difference(text, first))
            cells.append(Cell(text, "bad", limit=_LONGEST, mark=parted, lines=True))
    return cells


def _seen(mark: tuple[int, int] | None) -> tuple[int, int] | None:
    """A mark that has something in it."""
    return mark if mark is not None and mark[1] > mark[0] else None


def _tokens(answer: PlayedAnswer, played: Played, number: int) -> Array:
    """The tokens of one sample behind its prompt."""
    assert answer.result is not None
    sequences = answer.result.outputs["sequences"]
    ids = played.feed.get("input_ids")
    begun = ids.shape[1] if ids is not None and np.array_equal(sequences[:, : ids.shape[1]], ids) else 0
    row: Array = sequences[number, begun:]
    return row
