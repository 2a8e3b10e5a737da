"""Where two values part."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnx_magic.display.blocks import Cell, Column, Table
from onnx_magic.display.html import html
from onnx_magic.display.marking import LIMIT, NOWHERE, first_difference, is_tokens, row_cells
from onnx_magic.display.text import text


def marked(text: str, other: str) -> str:
    start, stop = first_difference(text, other)
    return f"{text[:start]}[{text[start:stop]}]{text[stop:]}"


@pytest.mark.parametrize(
    ("one", "other", "first", "second"),
    [
        ("the cat sat", "the cow sat", "the [cat] sat", "the [cow] sat"),
        ("the cat", "the cat sat", "the cat[]", "the cat [sat]"),
        ("short", "shorts", "[short]", "[shorts]"),
        ("", "word", "[]", "[word]"),
        ("北京是中国", "北京是法国", "北京是[中]国", "北京是[法]国"),
        ("a, b", "a; b", "a[,] b", "a[;] b"),
        ("x -0.5", "x -0.7", "x [-0.5]", "x [-0.7]"),
    ],
)
def test_the_first_word_that_differs(one: str, other: str, first: str, second: str) -> None:
    assert marked(one, other) == first and marked(other, one) == second


def test_a_long_text_is_shown_around_the_place() -> None:
    text = " ".join(f"word{n}" for n in range(2000))
    (expected, actual), alike = row_cells([text, text.replace("word1500", "here")], 3)
    assert alike == [True, False]
    for cell, word in ((expected, "word1500"), (actual, "here")):
        assert cell.mark is not None and cell.text[slice(*cell.mark)] == word
        assert len(cell.text) <= LIMIT + 40 and cell.text[0] == cell.text[-1] == "…"
    assert (expected.tone, actual.tone) == ("plain", "bad")


def test_hidden_characters_are_seen_before_they_are_marked() -> None:
    cells, _ = row_cells(["a\u202eb", "a\u202ec"], 3)
    assert "\u202e" not in cells[0].text and "\\u202e" in cells[0].text


def drawn(cell: Cell) -> tuple[str, str]:
    """A cell as text/plain and as HTML."""
    table = [Table("answers", (Column("answer", wraps=True),), ((cell,),))]
    return text(table), html(table)


def test_line_breaks_are_breaks_where_a_person_reads_and_one_line_in_plain_text() -> None:
    first, second = row_cells(["Once upon\na time\x1b", "Once upon\na day"], 3)[0]
    plain, page = drawn(first)
    assert "Once upon\\na »time«\\x1b" in plain
    assert "Once upon<br>a »<strong>time</strong>«\\x1b" in page
    assert "Once upon<br>a »<strong>day</strong>«" in drawn(second)[1]
    same, _ = row_cells(["a\nb", "a\nb"], 3)[0]
    assert "a<br>b" in drawn(same)[1] and "a\\nb" in drawn(same)[0]
    assert "<br>" not in drawn(Cell("a name\nof a tensor"))[1], "names stay on one line"
    assert "a&lt;b&gt;<br>c" in drawn(Cell("a<b>\nc", lines=True))[1]


def test_a_line_break_that_differs_is_seen() -> None:
    (one, _), _ = row_cells(["so\nit was", "so it was"], 3)
    assert one.mark is not None and one.text[slice(*one.mark)] == "\n"
    assert "so»<strong>↵<br></strong>«it was" in drawn(one)[1]


def test_a_side_that_has_nothing() -> None:
    cells, alike = row_cells([NOWHERE, "text"], 3)
    assert [cell.text for cell in cells] == ["nothing", "text"] and alike == [True, False]
    assert row_cells([NOWHERE, NOWHERE], 3)[1] == [True, True]
    (_, gone), alike = row_cells(["text", NOWHERE], 3)
    assert gone.text == "nothing" and alike == [True, False]


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2]), np.array([3], np.uint8)])
def test_tokens(value: Any) -> None:
    assert is_tokens(value)


@pytest.mark.parametrize("value", [[], [True], [1.0], "12", np.zeros(2), np.zeros((1, 2), int), None, 3])
def test_no_tokens(value: Any) -> None:
    assert not is_tokens(value)


def test_a_sequence_that_ends_early() -> None:
    (longer, shorter), _ = row_cells([[1, 2, 3, 4], [1, 2, 3]], 3)
    assert longer.text == "token 3: 1, 2, 3, 4" and shorter.text == "token 3: 1, 2, 3, ∅"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_the_largest_values_of_every_float(dtype: Any) -> None:
    values = np.arange(32).astype(dtype)
    values[3] = np.nan
    other = values.copy()
    other[31] = 64
    (one, two), alike = row_cells([values, other], 2)
    assert one.text == "31.00 at [31], 30.00 at [30] (1 not finite)"
    assert two.text.startswith("64.00 at [31]") and alike == [True, False]
    assert row_cells([values, values.copy()], 2)[1] == [True, True]
    assert row_cells([np.full(20, np.nan), np.full(20, np.nan)], 2)[0][0].text == "nothing finite (20 not finite)"
