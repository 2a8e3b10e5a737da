"""From a source and the user's wishes to a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import onnx_magic
from onnx_magic.errors import InputsError, OpsetError, UsageError

IMAGE = torch.rand(2, 3, 10, 10)


def conv() -> torch.nn.Module:
    return torch.nn.Conv2d(3, 4, 3)


def test_a_transformers_model_needs_no_inputs(tiny_bert: Callable[..., Any]) -> None:
    plan = onnx_magic.plan(tiny_bert("SequenceClassification"))
    both = {0: "batch_size", 1: "sequence_length"}
    assert plan.dynamic == {"input_ids": both, "attention_mask": both, "token_type_ids": both}
    assert [str(spec) for spec in plan.outputs] == ["logits: float32[batch_size, 2]"]
    assert plan.task == "text-classification" and plan.opset == 20
    assert plan.decided_by("input_ids[0]") == "probe" and plan.decided_by("task") == "config"


@pytest.mark.parametrize(
    ("head", "inputs", "outputs"),
    [
        ("", "input_ids attention_mask token_type_ids", "last_hidden_state pooler_output"),
        ("QuestionAnswering", "input_ids attention_mask token_type_ids", "start_logits end_logits"),
        ("MultipleChoice", "input_ids attention_mask token_type_ids", "logits"),
    ],
)
def test_tensors_are_called_as_the_model_calls_them(
    tiny_bert: Callable[..., Any], head: str, inputs: str, outputs: str
) -> None:
    plan = onnx_magic.plan(tiny_bert(head))
    assert [spec.name for spec in plan.inputs] == inputs.split()
    assert [spec.name for spec in plan.outputs] == outputs.split()


def test_dynamic_no_makes_all_static() -> None:
    plan = onnx_magic.plan(conv(), inputs=IMAGE, dynamic=False)
    assert plan.dynamic == {} and plan.inputs[0].shape == (2, 3, 10, 10)
    assert plan.decided_by("input[0]") == "user"


def test_one_name_keeps_that_axis_only() -> None:
    assert onnx_magic.plan(conv(), inputs=IMAGE, dynamic="batch_size").dynamic == {"input": {0: "batch_size"}}


def test_a_table_names_the_axes() -> None:
    plan = onnx_magic.plan(conv(), inputs=IMAGE, dynamic={"input": {0: "images", 3: "wide"}})
    assert plan.dynamic == {"input": {0: "images", 3: "wide"}}
    assert plan.outputs[0].shape == ("images", 4, 8, "output_dim_3")
    assert plan.decided_by("input[3]") == "user" and plan.decided_by("input[2]") == "user"


def test_one_name_for_two_axes_means_one_size() -> None:
    both = {"input": {2: "side", 3: "side"}}
    plan = onnx_magic.plan(conv(), inputs=IMAGE, dynamic=both)
    assert plan.inputs[0].shape == (2, 3, "side", "side")
    with pytest.raises(UsageError, match=r"'side' cannot name both height \(traced at 10\) and width \(traced at 12\)"):
        onnx_magic.plan(conv(), inputs=torch.rand(2, 3, 10, 12), dynamic=both)


def test_axes_that_move_together_take_the_name_together(tiny_bert: Callable[..., Any]) -> None:
    plan = onnx_magic.plan(tiny_bert(), dynamic={"input_ids": {1: "tokens"}})
    assert plan.dynamic["attention_mask"] == {1: "tokens"} and plan.inputs[0].shape[0] == 2


def test_axes_as_torch_onnx_export_takes_them() -> None:
    """Lists of axes, whose names are those that were found; and outputs, which follow by themselves."""
    known = onnx_magic.plan(conv(), inputs=IMAGE)
    output = known.outputs[0].name
    plan = onnx_magic.plan(conv(), inputs=IMAGE, dynamic={"input": [2, 3], output: [2, 3]})
    assert plan.dynamic == {"input": {axis: known.dynamic["input"][axis] for axis in (2, 3)}}
    assert plan.inputs[0].shape[0] == 2
    both = onnx_magic.plan(conv(), inputs=IMAGE, dynamic={"input": {0: "batch"}, output: {0: "batch"}})
    assert both.dynamic == {"input": {0: "batch"}} and both.outputs[0].shape[0] == "batch"


@pytest.mark.parametrize(
    ("dynamic", "said", "fix"),
    [
        ("batch_sise", "there is no such axis", "dynamic=batch_size"),
        ({"inputs": {0: "b"}}, "the inputs are input", "'input'"),
        ({"input": {7: "b"}}, "has 4 axes", "dynamic="),
        ({"input": {1: "channels"}}, "cannot be dynamic", "dynamic="),
        ({"input": {0: 3}}, "neither an axis name", "dynamic="),
        (7, "neither an axis name", "dynamic="),
        ({"input": ["0"]}, "neither an axis name", "dynamic="),
        ({"input": [1]}, "cannot be dynamic", "dynamic="),
        ({"out": [0]}, "dynamic names 'out'", "dynamic="),
        ({"input": {0: ""}}, "neither an axis name", "dynamic="),
    ],
)
def test_axes_that_cannot_be_are_refused(dynamic: Any, said: str, fix: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        onnx_magic.plan(conv(), inputs=IMAGE, dynamic=dynamic)
    assert fix in caught.value.fix


def test_a_plain_module_without_inputs_is_told_both_ways() -> None:
    with pytest.raises(InputsError, match=r"its forward takes \(input\)") as caught:
        onnx_magic.plan(conv())
    assert "inputs=" in caught.value.fix and "%%onnx_export" in caught.value.fix


def test_a_model_that_raises_is_quoted_with_its_inputs() -> None:
    with pytest.raises(InputsError) as caught:
        onnx_magic.plan(conv(), inputs=torch.rand(2, 5, 10, 10))
    assert "expected input" in caught.value.what and "input (2, 5, 10, 10) float32" in caught.value.what
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_texts_without_a_tokenizer_are_refused(tiny_bert: Callable[..., Any]) -> None:
    with pytest.raises(InputsError, match="no tokenizer"):
        onnx_magic.plan(tiny_bert(), inputs=["a text"])


def test_inputs_may_be_a_dict_a_tuple_or_numpy(tiny_bert: Callable[..., Any]) -> None:
    ids = torch.ones(2, 7, dtype=torch.long)
    plan = onnx_magic.plan(tiny_bert(), inputs={"input_ids": ids, "attention_mask": ids})
    assert [spec.name for spec in plan.inputs] == ["input_ids", "attention_mask"]
    assert plan.dynamic["input_ids"] == {0: "batch_size", 1: "sequence_length"}
    assert onnx_magic.plan(conv(), inputs=(IMAGE.numpy(),)).inputs[0].shape == ("batch_size", 3, "height", "width")


def test_an_opset_that_none_writes_is_refused_before_the_model_runs() -> None:
    with pytest.raises(OpsetError, match="opset 99 is too new"):
        onnx_magic.plan(conv(), inputs=IMAGE, opset=99)


def test_planning_leaves_the_model_as_it_was() -> None:
    model = torch.nn.Sequential(conv(), torch.nn.BatchNorm2d(4), torch.nn.Dropout())
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    onnx_magic.plan(model, inputs=IMAGE)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
