"""What may be given to export, and what is refused: two lines each, the second a fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onnx_magic.engine.sources import fingerprint_module, resolve_source
from onnx_magic.errors import OnnxMagicError, SourceError, TaskMismatchError, UnknownTaskError, UsageError
from onnx_magic.records.artifact import MANIFEST_NAME

Make = Callable[..., Any]


def flags(model: torch.nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


@pytest.mark.parametrize("wrap", [lambda m: m, torch.compile, torch.nn.DataParallel], ids=["bare", "compiled", "dp"])
def test_a_plain_module_is_taken_as_it_is(wrap: Make) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()).train()
    model[1].eval()
    before = flags(model)
    source = resolve_source(wrap(model))
    assert source.model is model and flags(model) == before
    assert (source.kind, source.name, source.task, source.task_by) == ("torch", "sequential", None, "default")
    assert source.architecture == "Sequential" and source.origin is None and source.tokenizer is None
    assert source.fingerprint == fingerprint_module(model)


def test_a_script_module_keeps_its_name() -> None:
    source = resolve_source(torch.jit.script(torch.nn.Linear(2, 2)))
    assert (source.kind, source.name, source.architecture) == ("torch", "linear", "Linear")


def test_a_live_model(tiny_bert: Make) -> None:
    model = tiny_bert("SequenceClassification", num_labels=3).train()
    source = resolve_source(model)
    assert source.model is model and all(flags(model))
    assert (source.kind, source.task, source.task_by) == ("transformers", "text-classification", "config")
    assert source.name == "bert-for-sequence-classification"
    assert source.labels == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert source.config is model.config and source.origin is None and source.tokenizer is None


def test_a_live_model_finds_the_tokenizer_beside_its_checkpoint(tiny_checkpoint: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    source = resolve_source(AutoModelForSequenceClassification.from_pretrained(str(tiny_checkpoint)))
    assert source.origin == str(tiny_checkpoint) and source.name == "tiny-sentiment"
    assert source.tokenizer(["good"])["input_ids"][0][0] == source.tokenizer.cls_token_id
    (tiny_checkpoint / "tokenizer.json").unlink()
    (tiny_checkpoint / "tokenizer_config.json").unlink()
    assert resolve_source(AutoModelForSequenceClassification.from_pretrained(str(tiny_checkpoint))).tokenizer is None


def test_a_subclass_has_the_tasks_of_its_parent(tiny_bert: Make) -> None:
    model = tiny_bert("SequenceClassification")
    model.__class__ = type("Mine", (type(model),), {})
    source = resolve_source(model)
    assert (source.architecture, source.task) == ("Mine", "text-classification")


def test_a_pipeline_brings_model_tokenizer_and_task(tiny_bert: Make, tiny_tokenizer: Any) -> None:
    from transformers import pipeline

    model = tiny_bert("SequenceClassification")
    given = pipeline("sentiment-analysis", model=model, tokenizer=tiny_tokenizer)
    source = resolve_source(given)
    assert source.model is model and source.tokenizer is tiny_tokenizer
    assert (source.task, source.task_by) == ("text-classification", "config")
    assert resolve_source(given, "sentiment-analysis").task_by == "user"
    with pytest.raises(TaskMismatchError):
        resolve_source(given, "ner")


def test_a_task_that_fits_is_the_users(tiny_bert: Make) -> None:
    source = resolve_source(tiny_bert("TokenClassification"), "ner")
    assert (source.task, source.task_by) == ("token-classification", "user")


def test_a_task_that_does_not_fit_says_which_do(tiny_bert: Make) -> None:
    with pytest.raises(TaskMismatchError, match="BertForTokenClassification: it does token-classification") as caught:
        resolve_source(tiny_bert("TokenClassification"), "fill-mask")
    assert caught.value.fix == "task=token-classification"


def test_features_of_a_model_with_a_head_are_those_of_its_base_model(tiny_bert: Make) -> None:
    model = tiny_bert("TokenClassification")
    with pytest.raises(TaskMismatchError) as caught:
        resolve_source(model, "feature-extraction")
    assert caught.value.fix == "%onnx_export model.base_model task=feature-extraction"
    assert resolve_source(model.base_model, "feature-extraction").task == "feature-extraction"


def test_a_head_in_no_table_has_no_task() -> None:
    from transformers import GPT2Config, GPT2DoubleHeadsModel

    model = GPT2DoubleHeadsModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, bos_token_id=0, eos_token_id=0)
    )
    assert (resolve_source(model).task, resolve_source(model).kind) == (None, "transformers")
    with pytest.raises(TaskMismatchError, match="in no task's table"):
        resolve_source(model, "fill-mask")


def test_a_plain_module_has_no_task() -> None:
    with pytest.raises(TaskMismatchError, match="a plain module has no task"):
        resolve_source(torch.nn.Linear(2, 2), "ner")
    with pytest.raises(UnknownTaskError, match="did you mean"):
        resolve_source(torch.nn.Linear(2, 2), "text-clasification")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "not None"),
        ((torch.nn.Linear(1, 1),), "not a tuple"),
        (np.zeros(3), "not a numpy.ndarray"),
        (torch.zeros(3), "not a torch.Tensor"),
        (torch.nn.Linear, "Linear is a class"),
        (3, "not a int"),
    ],
    ids=["none", "tuple", "array", "tensor", "class", "number"],
)
def test_what_is_no_model_is_refused(given: Any, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        resolve_source(given)
    assert said in caught.value.what and caught.value.fix and caught.value.stage == "source"


def test_an_onnx_file_has_nothing_to_be_compared_with(workdir: Path) -> None:
    Path("x.onnx").write_bytes(b"any")
    with pytest.raises(UsageError, match="is an ONNX file already, there is nothing to compare it with") as caught:
        resolve_source("x.onnx")
    assert caught.value.fix == "%onnx_load x.onnx"
    with pytest.raises(UsageError):
        resolve_source(Path("x.onnx"))


def test_an_exported_folder_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text("{}")
    with pytest.raises(UsageError, match="is an export of onnx_magic already"):
        resolve_source(tmp_path)


def test_an_exported_model_is_refused(tmp_path: Path) -> None:
    kind = type("ExportedModel", (), {"__module__": "onnx_magic", "name": "mini", "path": tmp_path})
    with pytest.raises(UsageError, match="mini is an export already"):
        resolve_source(kind())
    from onnx_magic.exported import ExportedModel

    assert ExportedModel.__name__ == "ExportedModel" and ExportedModel.__module__.partition(".")[0] == "onnx_magic"


def test_a_file_is_no_checkpoint(workdir: Path) -> None:
    Path("models").mkdir()
    Path("models/model.safetensors").write_bytes(b"any")
    with pytest.raises(SourceError, match="is a file") as caught:
        resolve_source("models/model.safetensors")
    assert caught.value.fix == "%onnx_export models"


def test_a_path_that_is_not_there_names_the_nearest(tiny_checkpoint: Path) -> None:
    with pytest.raises(SourceError) as caught:
        resolve_source(str(tiny_checkpoint.with_name("tiny-sentimnet")))
    assert caught.value.fix == f"%onnx_export {tiny_checkpoint}"
    with pytest.raises(SourceError) as far:
        resolve_source(str(tiny_checkpoint.with_name("quite-another")))
    assert str(tiny_checkpoint) not in far.value.fix


def test_every_error_is_two_lines() -> None:
    for given in (None, "./no", "no such", torch.nn.Linear):
        with pytest.raises(OnnxMagicError) as caught:
            resolve_source(given)
        assert len(str(caught.value).splitlines()) == 2
