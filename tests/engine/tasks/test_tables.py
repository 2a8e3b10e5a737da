"""The task tables: names, aliases, and the Transformers tables that they point into."""

from __future__ import annotations

import pytest
import transformers
from transformers.models.auto import modeling_auto

import onnx_magic
from onnx_magic.engine.tasks import TASKS, resolve_task, task_names, tasks_of_class
from onnx_magic.errors import UnknownTaskError
from onnx_magic.runtime.agreeing import _MEANINGS


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("sentiment-analysis", "text-classification"),
        ("ner", "token-classification"),
        ("Text_Classification", "text-classification"),
        ("default", "feature-extraction"),
    ],
)
def test_a_task_is_found_by_any_of_its_names(name: str, canonical: str) -> None:
    assert resolve_task(name).name == canonical


def test_no_name_means_two_tasks() -> None:
    assert len(task_names()) == len(set(task_names()))


@pytest.mark.parametrize(("name", "near"), [("sentiment-analisys", "sentiment-analysis"), ("nerr", "ner")])
def test_a_misspelt_task_is_guessed(name: str, near: str) -> None:
    with pytest.raises(UnknownTaskError, match=f"did you mean '{near}'") as caught:
        resolve_task(name)
    assert caught.value.fix == f"task={near}"


def test_a_task_like_nothing_lists_all() -> None:
    with pytest.raises(UnknownTaskError, match="feature-extraction, text-classification"):
        resolve_task("xyzzy")


@pytest.mark.parametrize("row", TASKS.values(), ids=lambda row: row.name)
def test_every_row_points_at_what_is_there(row: onnx_magic.TaskInfo) -> None:
    assert hasattr(transformers, row.auto_class)
    assert len(getattr(modeling_auto, row.mapping)) > 10
    assert (row.meaning is None) is (row.name not in _MEANINGS), "the runtime must know how to compare its answers"


def test_the_heads_own_task_comes_from_its_class() -> None:
    assert tasks_of_class("BertForQuestionAnswering") == ("question-answering",)
    assert tasks_of_class("ViTModel") == ("feature-extraction",)
    assert tasks_of_class("NoSuchClass") == ()


def test_people_read_the_same_table() -> None:
    assert [info.name for info in onnx_magic.tasks()] == list(TASKS)
