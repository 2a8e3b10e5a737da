"""sentence-transformers models: recognised by name, run through an adapter with flat inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from onnx_magic.engine.sources import fingerprint_module, resolve_source
from onnx_magic.errors import SourceError, TaskMismatchError

Make = Callable[..., Any]
SAMPLES = ["i loved it", "a very dull film"]


@pytest.fixture
def stand_in(tiny_bert: Make, tiny_tokenizer: Any) -> torch.nn.Module:
    """A module with the class name, package and call of a SentenceTransformer, mean pooling included."""

    class SentenceTransformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = tiny_bert()
            self.tokenizer = tiny_tokenizer

        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            tokens = self.encoder(**features).last_hidden_state
            mask = features["attention_mask"].unsqueeze(-1)
            return {**features, "token_embeddings": tokens, "sentence_embedding": (tokens * mask).sum(1) / mask.sum(1)}

    SentenceTransformer.__module__ = "sentence_transformers.model"
    return SentenceTransformer().eval()


def check(given: Any, tokenizer: Any) -> None:
    """The adapter gives what the model itself gives; the model is untouched."""
    before = fingerprint_module(given)
    source = resolve_source(given)
    assert (source.kind, source.task) == ("sentence-transformers", "feature-extraction")
    assert source.origin is None and source.config.model_type == "bert"
    assert source.fingerprint == before == fingerprint_module(source.model)
    feed = tokenizer(SAMPLES, padding=True, return_tensors="pt")
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        given_out = given(dict(feed))
        out = source.model(*(feed[name] for name in names))
    assert list(out) == ["token_embeddings", "sentence_embedding"]
    for name, value in out.items():
        torch.testing.assert_close(value, given_out[name])
    assert out["sentence_embedding"].shape == (2, 32) and not torch.equal(*out["sentence_embedding"])


def test_without_the_library(stand_in: torch.nn.Module, tiny_tokenizer: Any) -> None:
    check(stand_in, tiny_tokenizer)


def test_with_the_library(tmp_path: Any, tiny_bert: Make, tiny_tokenizer: Any) -> None:
    library = pytest.importorskip("sentence_transformers")
    tiny_bert().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    given = library.SentenceTransformer(str(tmp_path), device="cpu").eval()
    check(given, tiny_tokenizer)


@pytest.mark.parametrize("training", [True, False])
def test_the_adapter_is_born_in_the_models_mode(training: bool, stand_in: torch.nn.Module) -> None:
    source = resolve_source(stand_in.train(training))
    assert {part.training for part in source.model.modules()} == {training}


def test_the_library_is_not_imported(stand_in: torch.nn.Module) -> None:
    before = "sentence_transformers" in sys.modules
    resolve_source(stand_in)
    assert ("sentence_transformers" in sys.modules) == before


def test_another_task_is_refused(stand_in: torch.nn.Module) -> None:
    assert resolve_source(stand_in, "sentence-similarity").task_by == "user"
    with pytest.raises(TaskMismatchError):
        resolve_source(stand_in, "ner")


def test_one_that_takes_no_tokens_is_refused(stand_in: torch.nn.Module) -> None:
    stand_in.encoder = torch.nn.Linear(2, 2)
    with pytest.raises(SourceError, match="expected tokens"):
        resolve_source(stand_in)
