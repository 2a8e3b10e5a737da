"""What an edit of a cell does: groups, names, sizes, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onnx_magic.errors import InputsError
from onnx_magic.widgets.axes_draft import AxesDraft

Texts = Callable[[], list[list[str]]]


def test_nothing_edited_is_every_axis_that_can_move(draft: Any, texts: Texts, planner: Any) -> None:
    assert draft.dynamic is None and not draft.edited
    assert texts() == [["batch_size", "sequence_length"]] * 2 + [["3"], ["batch_size", "5"]]
    assert [row["role"] for row in draft.rows()] == ["in", "in", "in", "out"]
    assert planner.calls == []


def test_a_name_is_taken_by_what_moves_with_it_and_outputs_follow(draft: Any, texts: Texts, planner: Any) -> None:
    draft.edit("attention_mask", 0, " items ")
    assert texts() == [["items", "sequence_length"]] * 2 + [["3"], ["items", "5"]]
    assert planner.calls == [{"input_ids": {0: "items", 1: "sequence_length"}}] == [draft.dynamic]
    assert draft.plan.dynamic["input_ids"] == {0: "items", 1: "sequence_length"}


def test_who_decided_is_you_only_where_you_did(draft: Any) -> None:
    draft.edit("input_ids", 0, "items")
    assert [[cell["who"] for cell in row["cells"]] for row in draft.rows()] == [["you", "probe"]] * 2 + [[""], ["", ""]]
    assert draft.plan.decided_by("attention_mask[0]") == "user"
    assert draft.plan.decided_by("attention_mask[1]") == "probe"


def test_the_traced_size_makes_an_axis_static(draft: Any, texts: Texts, planner: Any) -> None:
    draft.edit("input_ids", 1, "19")
    assert texts()[:2] == [["batch_size", "19"]] * 2
    assert draft.dynamic == {"input_ids": {0: "batch_size"}}
    draft.edit("input_ids", 0, "2")
    assert draft.dynamic is False and planner.calls[-1] is False and draft.plan.dynamic == {}


def test_back_to_the_first_names_is_the_first_plan(draft: Any) -> None:
    draft.edit("input_ids", 0, "items")
    draft.edit("input_ids", 0, "batch_size")
    assert draft.dynamic is None and draft.edited
    assert draft.plan.decided_by("input_ids[0]") == "probe"


@pytest.mark.parametrize(
    ("axis", "text", "says"),
    [
        (0, "", "is empty"),
        (0, "   ", "is empty"),
        (0, "-2", "cannot be -2"),
        (0, "0", "a whole number from 1 on"),
        (0, "1.5", "a whole number from 1 on"),
        (0, "7", "the size of the example inputs, which is 2"),
        (1, "2", "the size of the example inputs, which is 19"),
        (0, "two words", "cannot be called 'two words'"),
        (0, "<img src=x onerror=alert(1)>", "cannot be called"),
        (0, "class", "cannot be called 'class'"),
        (0, "x y" * 4000, "cannot be called"),
    ],
)
def test_what_cannot_be_is_said_at_the_cell(draft: Any, planner: Any, axis: int, text: str, says: str) -> None:
    before = draft.plan
    draft.edit("input_ids", axis, text)
    cell = draft.rows()[0]["cells"][axis]
    assert says in cell["error"] and f"input_ids[{axis}]" in cell["error"] and len(cell["error"]) < 250
    assert cell["text"] == text.strip(), "what was typed stays, to be corrected"
    assert draft.plan is before and planner.calls == []
    assert [c["error"] for row in draft.rows() for c in row["cells"] if c["error"]] == [cell["error"]]


def test_an_axis_that_cannot_move_is_explained_by_planning(draft: Any, planner: Any) -> None:
    draft.edit("bias", 0, "width")
    assert draft.rows()[2]["cells"][0]["error"].startswith("bias[0] cannot be dynamic: the model does not run")
    assert len(planner.calls) == 1 and draft.plan.dynamic.keys() == {"input_ids", "attention_mask"}
    draft.edit("bias", 0, "3")
    assert not draft.wrong and draft.dynamic is None


def test_an_axis_that_planning_left_static_is_not_said_to_move(draft: Any, planner: Any) -> None:
    draft._replan = lambda wish: draft.base
    draft.edit("bias", 0, "width")
    assert "did not move" in draft.wrong["bias", 0][1]


def test_correcting_the_cell_or_one_that_moves_with_it_clears_the_error(draft: Any) -> None:
    draft.edit("input_ids", 0, "")
    draft.edit("attention_mask", 1, "tokens")
    assert list(draft.wrong) == [("input_ids", 0)], "another group: the error stays"
    draft.edit("attention_mask", 0, "items")
    assert not draft.wrong and draft.plan.dynamic["input_ids"] == {0: "items", 1: "tokens"}


def test_what_planning_raises_leaves_the_plan_as_it_was(draft: Any, planner: Any) -> None:
    planner.fail = InputsError("the model raises", fix="inputs=x")
    before = draft.plan
    draft.edit("input_ids", 0, "items")
    assert draft.wrong["input_ids", 0] == ("items", "the model raises")
    planner.fail = RuntimeError("not ours")
    with pytest.raises(RuntimeError):
        draft.edit("input_ids", 0, "items")
    assert draft.plan is before and draft.dynamic is None and not draft.wrong
    planner.fail = None
    draft.edit("input_ids", 0, "items")
    assert draft.dynamic == {"input_ids": {0: "items", 1: "sequence_length"}}


def test_a_plan_that_began_with_a_wish(planner: Any) -> None:
    draft = AxesDraft(planner(None), planner({"input_ids": {0: "n"}}), planner)
    assert draft.dynamic == {"input_ids": {0: "n"}}
    draft.edit("input_ids", 1, "tokens")
    assert draft.dynamic == {"input_ids": {0: "n", 1: "tokens"}}


@pytest.mark.parametrize("place", [("nothing", 0), ("input_ids", 2), ("input_ids", -1)])
def test_no_such_cell(draft: Any, place: tuple[str, int]) -> None:
    with pytest.raises(KeyError):
        draft.edit(*place, "x")
