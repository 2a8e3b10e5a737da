"""Decoders as one graph: names and axes as clients expect them, weights once, tokens as PyTorch's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_magic
from onnx_magic.errors import ExportError, TaskMismatchError, UsageError

from .conftest import DECODERS, PLAIN

Exported = Callable[[str], Any]


@pytest.mark.parametrize("model_type", DECODERS)
def test_a_decoder_is_verified_by_its_tokens(exported_decoder: Exported, model_type: str) -> None:
    exported = exported_decoder(model_type)
    assert exported.validation, [str(finding) for finding in exported.validation.findings]
    assert exported.report.exporter == "dynamo"
    greedy, beams = exported.validation.comparisons[1:3]
    assert (str(greedy.agreement), greedy.label) == ("token 200/200", "greedy, 40 tokens after 5 prompts")
    assert (str(beams.agreement), beams.label) == ("token 36/36", "3 beams, 12 tokens")
    labels = [comparison.label for comparison in exported.validation.comparisons]
    for batch in ("batch 1", "batch 3, left-padded", "batch 3, right-padded"):
        assert [f"{what}, {batch}" in labels for what in ("prefill", "step 1", "step 2", "step 3")] == [True] * 4
    assert not any(finding.code == "tokens-repeat" for finding in exported.validation.findings), (
        "the tokens prove little"
    )


@pytest.mark.parametrize("model_type", DECODERS)
def test_names_and_axes_are_those_that_clients_rely_on(exported_decoder: Exported, model_type: str) -> None:
    exported = exported_decoder(model_type)
    heads = {"gpt2": 4, "bloom": 4}.get(model_type, 2)
    total = "past_sequence_length + sequence_length"
    inputs = {spec.name: spec.shape for spec in exported.inputs}
    assert inputs.pop("input_ids") == ("batch_size", "sequence_length")
    assert inputs.pop("attention_mask") == ("batch_size", total)
    if model_type != "bloom":
        assert inputs.pop("position_ids") == ("batch_size", "sequence_length")
    names = [f"{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    assert inputs == {f"past_key_values.{name}": ("batch_size", heads, "past_sequence_length", 8) for name in names}
    outputs = {spec.name: spec.shape for spec in exported.outputs}
    assert outputs.pop("logits") == ("batch_size", "sequence_length", 120)
    assert outputs == {f"present.{name}": ("batch_size", heads, total, 8) for name in names}


def test_the_folder_holds_what_generating_needs(exported_decoder: Exported) -> None:
    folder = exported_decoder("gpt2").path
    assert (folder / "onnx" / "model.onnx").is_file()
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["GPT2LMHeadModel"]
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2


def test_a_tied_embedding_is_stored_once(exported_decoder: Exported) -> None:
    import onnx_ir

    exported = exported_decoder("gpt2")
    model = onnx_ir.load(exported.model_path)
    stored = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    weights = sum(parameter.numel() * 4 for parameter in exported.source.model.parameters())
    assert stored < weights + 1000, "the head's weight is stored beside the embedding it is tied to"


def test_a_decoder_in_half_precision_is_as_good_as_pytorch_in_half_precision(
    make_decoder: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    half = make_decoder("llama").half()
    exported = onnx_magic.export(half, output=tmp_path / "half")
    assert exported.validation, [str(finding) for finding in exported.validation.findings]
    assert str(exported.validation.comparisons[1].agreement) == "token 200/200"
    ids = np.random.default_rng(0).integers(3, 120, (3, 40))
    with torch.no_grad():
        theirs = half(torch.from_numpy(ids)).logits.float().numpy()
        exact = half.float()(torch.from_numpy(ids)).logits.numpy()
    past = {spec.name: np.zeros((3, 2, 0, 8), np.float16) for spec in exported.inputs if "past" in spec.name}
    rows = {"attention_mask": np.ones((3, 40), np.int64), "position_ids": np.tile(np.arange(40), (3, 1))}
    ours = exported.opened.session().run({"input_ids": ids, **rows, **past})["logits"].astype(np.float32)
    # PyTorch's own rounding is the yardstick: 0.018 here, ONNX Runtime's 0.011.
    assert abs(ours - exact).max() < 1.5 * abs(theirs - exact).max()


def test_the_keys_of_the_past_are_not_copied_to_be_turned(exported_decoder: Exported) -> None:
    import onnx_ir

    from onnx_magic.engine.turning import turn_directly

    model = onnx_ir.load(exported_decoder("gpt2").model_path)
    assert turn_directly(model) == 0
    turned = [node.attributes["perm"].as_ints() for node in model.graph if node.op_type == "Transpose"]
    assert sum(tuple(perm) == (0, 1, 3, 2) for perm in turned) == 2, "one for each layer"


def test_a_loaded_folder_knows_its_task_and_verdict(exported_decoder: Exported) -> None:
    exported = exported_decoder("llama")
    loaded = onnx_magic.load(exported.path)
    assert (loaded.task, loaded.validation.status) == ("text-generation", "verified")
    assert loaded.opened.session(role="model") is loaded.opened.session()


def test_without_a_manifest_the_class_tells_the_task(exported_decoder: Exported, tmp_path: Path) -> None:
    import shutil

    folder = exported_decoder("gpt2").path
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "onnx_magic.json").unlink()
    assert onnx_magic.load(tmp_path / "copy").task == "text-generation"


def test_without_a_cache_the_graph_is_the_plain_forward(make_decoder: Callable[..., Any], workdir: Path) -> None:
    exported = onnx_magic.export(make_decoder("llama", num_hidden_layers=1), cache=False)
    assert [spec.name for spec in exported.inputs] == ["input_ids", "attention_mask", "position_ids"]
    assert [spec.name for spec in exported.outputs] == ["logits"]
    assert exported.inputs[1].shape == ("batch_size", "sequence_length")
    assert exported.validation
    assert str(exported.validation.comparisons[1].agreement) == "token 200/200"


def test_the_plan_says_what_the_task_decided(make_decoder: Callable[..., Any]) -> None:
    plan = onnx_magic.plan(make_decoder("gpt2"), "text-generation-with-past")
    assert plan.task == "text-generation"
    assert plan.dynamic["past_key_values.1.value"] == {0: "batch_size", 2: "past_sequence_length"}
    assert plan.decided_by("past_key_values.1.value[2]") == "task"


def test_the_model_is_left_as_it_was(make_decoder: Callable[..., Any], workdir: Path) -> None:
    model = make_decoder("gpt2", n_layer=1).train()
    before = model.config.to_dict(), model.generation_config.to_dict(), set(model.__dict__)
    onnx_magic.export(model, validate=False)
    assert (model.config.to_dict(), model.generation_config.to_dict(), set(model.__dict__)) == before
    assert model.training


def test_tokens_of_the_users_own_prompts_are_compared(make_decoder: Callable[..., Any], workdir: Path) -> None:
    exported = onnx_magic.export(
        make_decoder("llama", num_hidden_layers=1), inputs=np.array([[5, 6, 7, 8], [9, 8, 7, 6]])
    )
    assert exported.validation.comparisons[1].label == "greedy, 40 tokens after 2 prompts"


class TestBadInput:
    def test_a_model_that_is_no_decoder(self, tiny_bert: Callable[..., Any]) -> None:
        with pytest.raises(TaskMismatchError, match="does not fit BertForSequenceClassification: it does text-class"):
            onnx_magic.export(tiny_bert("SequenceClassification"), "text-generation")

    def test_a_state_that_is_no_cache_of_keys_and_values(self, workdir: Path) -> None:
        import transformers

        config = transformers.MambaConfig(vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=1)
        with pytest.raises(ExportError, match="MambaForCausalLM keeps no key/value cache") as caught:
            onnx_magic.export(transformers.MambaForCausalLM(config))
        assert caught.value.fix == "cache=no"
        assert not list(workdir.iterdir())

    def test_a_language_model_that_is_not_configured_as_a_decoder(self) -> None:
        import transformers

        config = transformers.BertConfig(**{k: v for k, v in PLAIN.items() if k != "num_key_value_heads"})
        with pytest.raises(ExportError, match="keeps no key/value cache that a graph could take: it returned none"):
            onnx_magic.plan(transformers.BertLMHeadModel(config))

    def test_axes_are_the_tasks(self, make_decoder: Callable[..., Any]) -> None:
        with pytest.raises(UsageError, match="the axes of text-generation are the task's own") as caught:
            onnx_magic.plan(make_decoder("gpt2"), dynamic="batch_size")
        assert caught.value.fix == "leave dynamic out"
