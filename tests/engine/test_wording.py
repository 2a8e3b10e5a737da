"""`translation_xx_to_yy` for each kind of model: what it puts before the text, and which token comes first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from onnx_magic.engine.sources import ModelSource
from onnx_magic.engine.tasks import language_pair, resolve_task
from onnx_magic.engine.wording import worded
from onnx_magic.errors import TaskMismatchError

T5_TASKS = {
    "summarization": {"prefix": "summarize: ", "max_length": 200},
    "translation_en_to_de": {"prefix": "translate English to German: "},
    "translation_en_to_fr": {"prefix": "translate English to French: "},
    "translation_en_to_ro": {"prefix": "translate English to Romanian: "},
}


def source(task: str = "translation", tokenizer: Any = None, **config: Any) -> ModelSource:
    import torch

    return ModelSource(
        torch.nn.Linear(1, 1), "tiny", task, "user", "Tiny", "transformers", SimpleNamespace(**config), tokenizer
    )


def mbart() -> Any:
    from transformers import MBart50Tokenizer

    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁", -2.0)]
    return MBart50Tokenizer(vocab=pieces, src_lang="en_XX")


@pytest.mark.parametrize("pair", ["en_to_fr", "en_to_de", "en_to_ro"])
def test_the_old_names_are_tasks(pair: str) -> None:
    assert resolve_task(f"translation_{pair}").name == "translation"
    assert resolve_task("translation").name == "translation"
    assert language_pair("translation") is None and language_pair("text-generation") is None


def test_t5_gets_its_prefix() -> None:
    found = worded(source(task_specific_params=T5_TASKS), "translation_en_to_fr").wording
    assert found is not None and found.prefix == "translate English to French: " and not found.options
    found = worded(source("summarization", task_specific_params=T5_TASKS), "summarization").wording
    assert found is not None and found.prefix == "summarize: "
    assert worded(source("text2text-generation", task_specific_params=T5_TASKS), None).wording is None


def test_a_pair_that_t5_does_not_know() -> None:
    with pytest.raises(TaskMismatchError, match="it translates en to de, en to fr, en to ro") as caught:
        worded(source(task_specific_params=T5_TASKS), "translation_en_to_xx")
    assert caught.value.fix == "task=translation_en_to_de"


def test_mbart_gets_a_source_language_and_a_first_token() -> None:
    tokenizer = mbart()
    made = worded(source(tokenizer=tokenizer), "translation_en_to_fr")
    assert made.wording is not None and made.wording.languages == ("en_XX", "fr_XX")
    assert made.wording.options == {"forced_bos_token_id": tokenizer.lang_code_to_id["fr_XX"]}
    made = worded(source(tokenizer=tokenizer), "translation_de_DE_to_ro_RO")
    assert made.tokenizer("a")["input_ids"][0] == tokenizer.lang_code_to_id["de_DE"]
    # The caller's own tokenizer is as it was.
    assert tokenizer.src_lang == "en_XX" and tokenizer("a")["input_ids"][0] == tokenizer.lang_code_to_id["en_XX"]
    with pytest.raises(TaskMismatchError, match="af_ZA, ar_AR, .*and 46 more") as caught:
        worded(source(tokenizer=tokenizer), "translation_en_to_xx")
    assert caught.value.fix == "task=translation_en_XX_to_af_ZA"


def test_nllb_by_its_own_codes() -> None:
    from transformers import NllbTokenizer

    tokenizer = NllbTokenizer()
    made = worded(source(tokenizer=tokenizer), "translation_eng_Latn_to_fra_Latn")
    assert made.wording is not None
    assert made.wording.options == {"forced_bos_token_id": tokenizer.convert_tokens_to_ids("fra_Latn")}


def test_m2m100_by_its_table() -> None:
    # Its tokenizer needs sentencepiece, which is no dependency: what is read of it stands here.
    ids = {"__en__": 7, "__fr__": 9}
    tokenizer = SimpleNamespace(
        src_lang="en",
        tgt_lang=None,
        lang_code_to_token={"en": "__en__", "fr": "__fr__"},
        convert_tokens_to_ids=ids.__getitem__,
    )
    made = worded(source(tokenizer=tokenizer), "translation_fr_to_en")
    assert made.wording is not None and made.wording.options == {"forced_bos_token_id": 7}
    assert made.tokenizer.src_lang == "fr" and tokenizer.src_lang == "en"


def test_marian_of_one_pair_and_of_several_targets() -> None:
    one = SimpleNamespace(source_lang="en", target_lang="de", supported_language_codes=[])
    made = worded(source(tokenizer=one), "translation_en_to_de")
    assert made.wording is not None and made.wording.prefix == "" and not made.wording.options
    with pytest.raises(TaskMismatchError, match="it translates en to de") as caught:
        worded(source(tokenizer=one), "translation_en_to_fr")
    assert caught.value.fix == "task=translation_en_to_de"
    several = SimpleNamespace(source_lang="en", target_lang="ROMANCE", supported_language_codes=[">>fr<<", ">>es<<"])
    made = worded(source(tokenizer=several), "translation_en_to_es")
    assert made.wording is not None and made.wording.prefix == ">>es<< "
    with pytest.raises(TaskMismatchError, match="it translates es, fr"):
        worded(source(tokenizer=several), "translation_en_to_de")


def test_a_model_that_names_no_language_is_taken_at_its_word() -> None:
    made = worded(source(), "translation_en_to_fr")
    assert made.wording is not None and made.wording.prefix == "" and made.wording.languages == ("en", "fr")
    assert worded(source(), "translation").wording is None
