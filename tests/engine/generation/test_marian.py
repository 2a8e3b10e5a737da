"""A translator whose tokenizer Transformers alone can run: from the live model and from its folder, in texts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onnx_magic
from onnx_magic.engine import slow_tokenizing
from onnx_magic.errors import FeedError, GraphFileError

ENGLISH = ["the king had a daughter", "he went into the wood", "a house stood by the river", "the bird sang all day"]
FRENCH = ["le roi avait une fille", "il alla dans la forêt", "une maison près du fleuve", "l'oiseau chanta le jour"]
SIDES = {"encoder": 1, "decoder": 1}


def pieces_of(lines: list[str], path: Path) -> list[str]:
    """A sentencepiece vocabulary trained on a few sentences, written to `path`."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 5), model_writer=model, vocab_size=48, hard_vocab_limit=False, minloglevel=2
    )
    path.write_bytes(model.getvalue())
    held = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [held.id_to_piece(number) for number in range(held.get_piece_size())]


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """A tiny Marian with random weights, its tokenizer, and what was exported from the two."""
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    place = tmp_path_factory.mktemp("marian")
    pieces = [*pieces_of(ENGLISH, place / "source.spm"), *pieces_of(FRENCH, place / "target.spm")]
    words = [piece for piece in dict.fromkeys(pieces) if piece not in ("<unk>", "<s>", "</s>")]
    vocabulary = {piece: number for number, piece in enumerate(["</s>", "<unk>", *words, "<pad>"])}
    (place / "vocab.json").write_text(json.dumps(vocabulary))
    files = (str(place / name) for name in ("source.spm", "target.spm", "vocab.json"))
    tokenizer = MarianTokenizer(*files, source_lang="en", target_lang="fr", model_max_length=40)
    last = len(vocabulary) - 1
    ids = {"pad_token_id": last, "decoder_start_token_id": last, "eos_token_id": 0, "forced_eos_token_id": 0}
    sizes: dict[str, Any] = {f"{side}_layers": number for side, number in SIDES.items()}
    sizes |= {f"{side}_attention_heads": 2 for side in SIDES} | {f"{side}_ffn_dim": 32 for side in SIDES}
    config = MarianConfig(vocab_size=last + 1, d_model=16, max_position_embeddings=40, **sizes, **ids)
    torch.manual_seed(0)
    model = MarianMTModel(config).eval()
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "positions" not in name:
            torch.nn.init.normal_(weight, std=1.0 if "emb" in name or "shared" in name else 0.4)
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    live = MarianMTModel.from_pretrained(place).eval()  # its tokenizer is found beside it
    return live, tokenizer, onnx_magic.export(live, "translation_en_to_fr", output=place / "exported")


def expected(model: Any, tokenizer: Any, text: str) -> str:
    found = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=12, num_beams=1)
    return str(tokenizer.decode(found[0], skip_special_tokens=True))


@pytest.mark.parametrize("loaded", [False, True])
def test_a_text_is_translated_as_pytorch_does(translator: tuple[Any, Any, Any], loaded: bool) -> None:
    model, tokenizer, exported = translator
    assert exported.validation.status == "verified"
    assert not (exported.path / "tokenizer.json").exists(), "the folder's own way would do"
    used = onnx_magic.load(exported.path) if loaded else exported
    text = "the king went into the wood"
    (answer,) = used.run(text, max_new_tokens=12, num_beams=1).decoded
    assert answer == {"translation_text": expected(model, tokenizer, text)}
    assert len(answer["translation_text"]) > 3
    both = used.run(["the bird", text], max_new_tokens=12, num_beams=1).decoded
    assert [one["translation_text"] for one in both] == [expected(model, tokenizer, one) for one in ("the bird", text)]


def test_a_cell_that_generates_runs_on_both(translator: tuple[Any, Any, Any], raising_shell: Any) -> None:
    model, tokenizer, exported = translator
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(model=model, tok=tokenizer, exported=exported)
    cell = "tok.decode(model.generate(**tok('the bird', return_tensors='pt'), max_new_tokens=8)[0])"
    side = raising_shell.run(f"%%onnx_run exported\n{cell}")
    assert side.expected == side.actual and side.comparison and "▁" not in side.actual


@pytest.mark.parametrize("missing", ["transformers", "sentencepiece"])
def test_what_it_needs_is_named_where_it_is_missing(
    translator: tuple[Any, Any, Any], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[str], Any] = slow_tokenizing.find_spec
    monkeypatch.setattr(slow_tokenizing, "find_spec", lambda name: None if name == missing else find(name))
    loaded = onnx_magic.load(translator[2].path)
    with pytest.raises(FeedError, match="needs Transformers and sentencepiece") as caught:
        loaded.run("the king")
    assert caught.value.fix == "pip install transformers sentencepiece"
    assert loaded.run({"input_ids": [[3, 4, 0]]}, max_new_tokens=4).outputs["sequences"].shape[0] == 1


def test_a_vocabulary_that_is_cut_off_is_said(translator: tuple[Any, Any, Any], tmp_path: Path) -> None:
    for file in translator[2].path.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "source.spm").write_bytes(b"not a model")
    with pytest.raises(GraphFileError, match="cannot be read"):
        slow_tokenizing.slow_tokenizer(tmp_path)
    assert slow_tokenizing.slow_tokenizer(tmp_path / "nowhere") is None
