"""CTC texts, against `Wav2Vec2CTCTokenizer.decode`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.runtime.spelling import load_speller

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'.", "ab"]


def save(folder: Path, **options: Any) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    file = folder / "made.json"
    file.write_text(json.dumps({token: number for number, token in enumerate(LETTERS)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(file), **options)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("options", [{}, {"do_lower_case": True}, {"clean_up_tokenization_spaces": True}])
def test_texts_are_those_of_transformers(tmp_path: Path, options: dict[str, Any]) -> None:
    theirs = save(tmp_path, **options)
    speller = load_speller(tmp_path)
    assert speller is not None
    for ids in np.random.default_rng(0).integers(0, len(LETTERS), (20, 40)).repeat(2, 1):
        assert speller.text(ids) == theirs.decode(ids)
    assert speller.text(np.zeros(5, np.int64)) == theirs.decode([0] * 5) == ""
    # Negative control: one other letter is seen.
    assert speller.text(np.array([5, 0, 5])) != theirs.decode([5, 5])


def test_a_folder_without_a_ctc_vocabulary(tmp_path: Path) -> None:
    assert load_speller(tmp_path) is None
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    assert load_speller(tmp_path) is None


def test_a_vocabulary_of_several_languages(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"fra": {"<pad>": 0, "a": 1}, "deu": {"<pad>": 0, "b": 1}}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Wav2Vec2CTCTokenizer", "target_lang": "deu"}')
    speller = load_speller(tmp_path)
    assert speller is not None and speller.text(np.array([1, 1, 0, 1])) == "bb"
