"""Checkpoint folders: what loads, with which task, and what every kind of broken folder says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from onnx_magic.engine.sources import fingerprint_module, resolve_source
from onnx_magic.errors import OnnxMagicError, SourceError, TaskMismatchError

Make = Callable[..., Any]
FOREIGN = ("transformers", "safetensors", "huggingface_hub", "torch", "tokenizers")


def refusal(folder: Path | str, task: str | None = None, **options: Any) -> OnnxMagicError:
    """The error of a folder that must not load; checked to be ours, on two lines, with a fix."""
    with pytest.raises(OnnxMagicError) as caught:
        resolve_source(folder, task, **options)
    assert caught.value.fix and len(str(caught.value).splitlines()) == 2
    assert caught.value.stage == "source"
    return caught.value


def rewrite(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    record = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def test_a_folder_loads_in_eval_mode_with_tokenizer_task_and_labels(tiny_checkpoint: Path, tiny_bert: Make) -> None:
    source = resolve_source(tiny_checkpoint)
    assert (source.kind, source.name, source.origin) == ("transformers", "tiny-sentiment", str(tiny_checkpoint))
    assert (source.task, source.task_by) == ("text-classification", "config")
    assert source.labels == {0: "NEGATIVE", 1: "POSITIVE"}
    assert source.tokenizer is not None and source.processor is None
    assert not any(part.training for part in source.model.modules())
    assert source.fingerprint == fingerprint_module(tiny_bert("SequenceClassification", num_labels=2))


def test_a_relative_folder_keeps_the_name_the_user_gave(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    assert resolve_source("tiny-sentiment").origin == "tiny-sentiment"
    monkeypatch.chdir(tiny_checkpoint)
    assert resolve_source(".").name == "tiny-sentiment"


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_both_weight_formats_give_the_same_model(safe: bool, tiny_checkpoint: Path, tiny_bert: Make) -> None:
    if not safe:
        (tiny_checkpoint / "model.safetensors").unlink()
        weights = tiny_bert("SequenceClassification", num_labels=2).state_dict()
        torch.save(weights, tiny_checkpoint / "pytorch_model.bin")
    expected = fingerprint_module(tiny_bert("SequenceClassification", num_labels=2))
    assert resolve_source(tiny_checkpoint).fingerprint == expected


def test_the_old_pickle_format_loads(tiny_checkpoint: Path, tiny_bert: Make) -> None:
    (tiny_checkpoint / "model.safetensors").unlink()
    weights = tiny_bert("SequenceClassification", num_labels=2).state_dict()
    torch.save(weights, tiny_checkpoint / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert resolve_source(tiny_checkpoint).task == "text-classification"


def test_shards_load_and_a_missing_one_is_named(tmp_path: Path, tiny_bert: Make) -> None:
    tiny_bert("SequenceClassification").save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert resolve_source(tmp_path).task == "text-classification"
    shards[1].unlink()
    assert shards[1].name in refusal(tmp_path).what


def test_the_checkpoints_own_dtype_is_kept(tmp_path: Path, tiny_bert: Make) -> None:
    saved(tiny_bert("SequenceClassification").to(torch.bfloat16), tmp_path)
    assert resolve_source(tmp_path).model.dtype == torch.bfloat16


def test_nothing_is_shown_and_global_states_are_as_before(
    tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import logging
    from logging.handlers import BufferingHandler

    from transformers import AutoModel
    from transformers.utils import logging as theirs

    seen = BufferingHandler(1000)
    logging.getLogger("transformers").addHandler(seen)
    theirs.set_verbosity_warning()
    calls: list[Any] = []
    mine = lambda make, args, options: calls.append(options) or make(*args, **options)  # noqa: E731
    before = theirs.set_tqdm_hook(mine)
    handlers = logging.getLogger("transformers").handlers[:]
    state = torch.get_rng_state()
    try:
        resolve_source(tiny_checkpoint, "feature-extraction")
        assert not seen.buffer and not calls
        assert capfd.readouterr() == ("", "")
        assert logging.getLogger("transformers").handlers == handlers
        assert torch.equal(torch.get_rng_state(), state)
        AutoModel.from_pretrained(str(tiny_checkpoint))
        assert seen.buffer and calls  # so it is loud by itself, and the user's own hook is back
    finally:
        theirs.set_tqdm_hook(before)
        theirs.set_verbosity_error()
        logging.getLogger("transformers").removeHandler(seen)


# Tasks


def test_a_base_model_of_a_checkpoint_with_a_head(tiny_checkpoint: Path, tiny_bert: Make) -> None:
    source = resolve_source(tiny_checkpoint, "feature-extraction")
    assert (source.architecture, source.task_by) == ("BertModel", "user")
    expected = tiny_bert("SequenceClassification", num_labels=2).base_model
    assert source.fingerprint == fingerprint_module(expected)


def test_a_masked_lm_has_no_pooler_and_none_is_invented(tmp_path: Path, tiny_bert: Make) -> None:
    source = resolve_source(saved(tiny_bert("MaskedLM"), tmp_path), "feature-extraction")
    assert source.model.pooler is None
    assert resolve_source(tmp_path).task == "fill-mask"
    assert source.fingerprint == fingerprint_module(tiny_bert("MaskedLM").base_model)


@pytest.mark.parametrize(
    ("head", "task"),
    [
        ("SequenceClassification", "ner"),
        ("TokenClassification", "sentiment-analysis"),
        ("SequenceClassification", "multiple-choice"),
        ("QuestionAnswering", "fill-mask"),
    ],
)
def test_the_weights_of_another_head_are_not_taken(head: str, task: str, tmp_path: Path, tiny_bert: Make) -> None:
    """Some have the names and even the shapes of the head that is asked for."""
    error = refusal(saved(tiny_bert(head), tmp_path), task)
    assert isinstance(error, TaskMismatchError), error
    assert error.fix.startswith("task=") and error.fix.partition("=")[2] in error.what


@pytest.mark.parametrize("task", ["sentiment-analysis", "ner", "question-answering", "multiple-choice"])
def test_a_head_without_weights_is_refused_not_made_of_random_numbers(
    task: str, tmp_path: Path, tiny_bert: Make
) -> None:
    error = refusal(saved(tiny_bert("MaskedLM"), tmp_path), task)
    assert isinstance(error, TaskMismatchError)
    assert "has no weights for that head" in error.what and "fill-mask, feature-extraction" in error.what
    assert error.fix == "task=fill-mask"
    assert resolve_source(tmp_path, "fill-mask").task_by == "user"


def test_a_task_of_another_kind_of_model(tiny_checkpoint: Path) -> None:
    error = refusal(tiny_checkpoint, "image-classification")
    assert isinstance(error, TaskMismatchError)
    assert "it does text-classification, feature-extraction" in error.what


def test_without_architectures_it_is_the_base_model(tmp_path: Path, tiny_bert: Make) -> None:
    saved(tiny_bert(), tmp_path)
    rewrite(tmp_path, architectures=None)
    source = resolve_source(tmp_path)
    assert (source.task, source.task_by) == ("feature-extraction", "default")


def test_a_head_in_no_table_is_loaded_all_the_same(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2DoubleHeadsModel

    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, bos_token_id=0, eos_token_id=0)
    source = resolve_source(saved(GPT2DoubleHeadsModel(config), tmp_path))
    assert (source.architecture, source.task) == ("GPT2DoubleHeadsModel", None)


# Broken folders


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path).what


def test_no_config(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "config.json").unlink()
    assert "holds no config.json" in refusal(tiny_checkpoint).what


def test_a_trainers_output_folder_names_its_checkpoints(tiny_checkpoint: Path) -> None:
    shutil.copytree(tiny_checkpoint, tiny_checkpoint.parent / "run" / "checkpoint-500")
    error = refusal(str(tiny_checkpoint.parent / "run"))
    assert "checkpoint-500" in error.what and error.fix.endswith("run/checkpoint-500")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"model_type": "bert", '])
def test_a_broken_config(text: str, tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "config.json").write_text(text)
    assert "config.json" in refusal(tiny_checkpoint).what


@pytest.mark.parametrize("changes", [{"hidden_size": "wide"}, {"num_attention_heads": 5}, {"model_type": "bertt"}])
def test_a_config_that_no_model_can_be_made_of(changes: dict[str, Any], tiny_checkpoint: Path) -> None:
    rewrite(tiny_checkpoint, **changes)
    error = refusal(tiny_checkpoint)
    assert isinstance(error, SourceError)
    assert str(tiny_checkpoint) in error.what


def test_no_weights_lists_what_was_expected(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "model.safetensors").unlink()
    assert "expected one of model.safetensors" in refusal(tiny_checkpoint).what


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack"])
def test_weights_of_another_framework(name: str, tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "model.safetensors").rename(tiny_checkpoint / name)
    error = refusal(tiny_checkpoint)
    assert name in error.what and f"from_{name.partition('_')[0]}=True" in error.fix


def test_no_tokenizer_still_loads(tiny_checkpoint: Path) -> None:
    for file in tiny_checkpoint.glob("tokenizer*"):
        file.unlink()
    source = resolve_source(tiny_checkpoint)
    assert source.tokenizer is None and source.task == "text-classification"


def test_a_broken_tokenizer_is_said(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "tokenizer.json").write_text("{")
    error = refusal(tiny_checkpoint)
    assert "tokenizer" in error.what and error.__cause__ is not None


def damage(kind: str, data: bytes) -> bytes:
    return {
        "empty": b"",
        "header cut": data[:50],
        "tail cut": data[:-100],
        "other bytes": b"garbage " * 400,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "header cut", "tail cut", "other bytes", "pointer"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_corrupt_weights_are_named(name: str, kind: str, tiny_checkpoint: Path, tiny_bert: Make) -> None:
    file = tiny_checkpoint / name
    if name == "pytorch_model.bin":
        torch.save(tiny_bert("SequenceClassification", num_labels=2).state_dict(), file)
        (tiny_checkpoint / "model.safetensors").unlink()
        assert resolve_source(tiny_checkpoint).task == "text-classification"
    file.write_bytes(damage(kind, file.read_bytes()))
    error = refusal(tiny_checkpoint)
    assert str(file) in error.what
    assert ("Git LFS pointer" if kind == "pointer" else "truncated or corrupt") in error.what
    assert not type(error).__module__.startswith(FOREIGN)
    assert kind == "pointer" or error.__cause__ is not None


def test_a_pickle_that_would_run_code_is_not_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tiny_checkpoint / "model.safetensors").unlink()
    torch.save({"x": _Evil(str(tmp_path / "ran"))}, tiny_checkpoint / "pytorch_model.bin")
    assert "would run code" in refusal(tiny_checkpoint).what
    assert not (tmp_path / "ran").exists()


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def test_weights_of_another_shape(tiny_checkpoint: Path) -> None:
    rewrite(tiny_checkpoint, intermediate_size=40)
    error = refusal(tiny_checkpoint)
    assert "do not match" in error.what and "intermediate.dense" in error.what


def test_weights_that_lack_some(tiny_checkpoint: Path) -> None:
    rewrite(tiny_checkpoint, num_hidden_layers=3)
    error = refusal(tiny_checkpoint)
    assert isinstance(error, SourceError)
    assert "lacks weights" in error.what and "layer.2." in error.what and "more" in error.what


def test_lost_weights_of_its_own_head_are_no_question_of_task(tiny_checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = tiny_checkpoint / "model.safetensors"
    weights = load_file(file)
    del weights["classifier.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    for task in (None, "text-classification"):
        error = refusal(tiny_checkpoint, task)
        assert isinstance(error, SourceError) and "classifier.weight" in error.what


def test_code_of_a_checkpoint_runs_only_when_trusted(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rewrite(
        tiny_checkpoint,
        model_type="mine",
        architectures=["MineForSequenceClassification"],
        auto_map={
            "AutoConfig": "mine.MineConfig",
            "AutoModelForSequenceClassification": "mine.MineForSequenceClassification",
        },
    )
    (tiny_checkpoint / "mine.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "from transformers import BertConfig, BertForSequenceClassification\n"
        "class MineConfig(BertConfig):\n    model_type = 'mine'\n"
        "class MineForSequenceClassification(BertForSequenceClassification):\n    config_class = MineConfig\n"
    )
    error = refusal(tiny_checkpoint)
    assert error.fix == "trust_remote_code=yes" and not (tmp_path / "ran").exists()
    source = resolve_source(tiny_checkpoint, trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    assert (source.architecture, source.task) == ("MineForSequenceClassification", "text-classification")
