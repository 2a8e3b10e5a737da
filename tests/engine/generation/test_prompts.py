"""Prompts of the proof: from the tokenizer, from the config, or the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_magic.engine.exporting import ExportRequest
from onnx_magic.engine.generation.prompts import decoder_prompts
from onnx_magic.engine.sources import resolve_source
from onnx_magic.errors import InputsError


@pytest.fixture
def source(make_decoder: Callable[..., Any]) -> Any:
    return resolve_source(make_decoder("gpt2", n_layer=1))


def rows(prompts: Any) -> list[list[int]]:
    return [
        ids[mask == 1].tolist()
        for prompt in prompts
        for ids, mask in zip(prompt.inputs["input_ids"], prompt.inputs["attention_mask"], strict=True)
    ]


def test_without_a_tokenizer_the_ids_come_from_the_config(source: Any) -> None:
    prompts = decoder_prompts(source, ExportRequest(source.model))
    assert [prompt.rows for prompt in prompts] == [1, 1, 3]
    assert all(2 < token < 120 for row in rows(prompts) for token in row), "padding, BOS and EOS are no words"
    padded = prompts[-1].inputs["attention_mask"]
    assert padded[0, 0] == 0 and bool((padded[:, -1] == 1).all()), "generate wants padding on the left"
    assert prompts[-1].room == 96 - padded.shape[1]


def test_with_a_tokenizer_they_are_texts(make_decoder: Callable[..., Any], tiny_tokenizer: Any) -> None:
    model = make_decoder("gpt2", n_layer=1, vocab_size=len(tiny_tokenizer))
    source = replace(resolve_source(model), tokenizer=tiny_tokenizer)
    prompts = rows(decoder_prompts(source, ExportRequest(source.model)))
    assert len(prompts) == 5
    assert prompts[3] == tiny_tokenizer("The first program was written for the Analytical Engine because")["input_ids"]


def test_tokens_that_the_model_does_not_have_are_not_fed(source: Any, tiny_tokenizer: Any) -> None:
    source = replace(source, tokenizer=tiny_tokenizer)
    prompts = rows(decoder_prompts(source, ExportRequest(source.model)))
    assert max(max(row) for row in prompts) < 120 < len(tiny_tokenizer)


def test_the_users_own(source: Any, tiny_tokenizer: Any) -> None:
    given = [[3, 4, 5], [6, 7, 8]]
    assert rows(decoder_prompts(source, ExportRequest(source.model, inputs=np.array(given)))) == given
    assert rows(decoder_prompts(source, ExportRequest(source.model, inputs={"input_ids": given}))) == given
    source = replace(source, tokenizer=tiny_tokenizer)
    (row,) = rows(decoder_prompts(source, ExportRequest(source.model, inputs="the film was good")))
    assert row == tiny_tokenizer("the film was good")["input_ids"]


def test_texts_without_a_tokenizer_are_refused(source: Any) -> None:
    with pytest.raises(InputsError, match="GPT2LMHeadModel has no tokenizer") as caught:
        decoder_prompts(source, ExportRequest(source.model, inputs=["Once"]))
    assert "input_ids" in caught.value.fix


def test_what_is_no_prompt_is_refused(source: Any) -> None:
    with pytest.raises(InputsError, match="are prompts: texts, or token ids"):
        decoder_prompts(source, ExportRequest(source.model, inputs=np.ones((2, 3), np.float32)))


def test_what_a_cell_gave_to_generate(source: Any) -> None:
    import torch

    from onnx_magic.engine.capturing import capture_calls

    with capture_calls(source.model) as capture:
        source.model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3)
    assert rows(decoder_prompts(source, ExportRequest(source.model, inputs=capture.calls))) == [[5, 6, 7]]
