from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import FeedError, GraphFileError
from onnx_magic.runtime.tokenizing import TEXT_INPUTS, TextTokenizer, load_tokenizer

TEXTS = [
    "The cat sat on the mat.",
    "unhappy",
    "",
    "  Ada   lives in Paris,\tFrance?! ",
    "我爱北京天安门 and Paris",
    "Ça va? naïve café — “quoted” 😀 #42",
    "the dog ran fast " * 30,
]
PAIRS = [
    ("Who sat?", "The cat sat on the mat."),
    ("", "the dog"),
    ("where is Paris " * 20, "in France " * 3),
    ("a", "b " * 60),
]


def same_as_transformers(folder: Path, texts: list[Any], padding: str | bool = True, **options: Any) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder)
    assert ours is not None
    firsts, seconds = (texts, None) if isinstance(texts[0], str) else map(list, zip(*texts, strict=True))
    expected = theirs(firsts, seconds, padding=padding, truncation=True, return_tensors="np", **options)
    found = ours.encode(texts, TEXT_INPUTS, options.get("max_length"))
    assert set(expected) <= set(found.arrays) | {"token_type_ids"}
    for name in expected:
        assert found.arrays[name].dtype == np.int64
        assert np.array_equal(found.arrays[name], expected[name]), name
    names = ("mask_token", "mask_token_id", "pad_token_id", "cls_token_id")
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]


def save_roberta(folder: Path, **config: Any) -> Path:
    """A byte-level BPE tokenizer as RoBERTa's."""
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(TEXTS, vocab_size=400, special_tokens=special, show_progress=False)
    folder.mkdir(exist_ok=True)
    bpe.save_model(str(folder))
    from transformers import RobertaTokenizer

    tokenizer = RobertaTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24, **config)
    for file in folder.iterdir():
        file.unlink()
    tokenizer.save_pretrained(folder)
    return folder


def save_unigram(folder: Path) -> Path:
    """A Unigram tokenizer as SentencePiece models become: XLM-RoBERTa's steps."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False, initial_alphabet=list("abcxyz")
    )
    backend.train_from_iterator([*TEXTS, *(text for pair in PAIRS for text in pair)], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", mask_token="<mask>", model_max_length=20, **names
    )
    fast.save_pretrained(folder)
    return folder


def save_old_bert(folder: Path, vocabulary: list[str], **config: Any) -> Path:
    """A BERT folder of 2021: vocab.txt and no tokenizer.json."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 40, **config})
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    (folder / "special_tokens_map.json").write_text(json.dumps({f"{n}_token": f"[{n.upper()}]" for n in names}))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


@pytest.mark.parametrize("texts", [TEXTS, PAIRS, TEXTS[:1]], ids=["texts", "pairs", "one"])
class TestSameIdsAsTransformers:
    def test_wordpiece(self, tmp_path: Path, save_tokenizer: Callable[..., Path], texts: list[Any]) -> None:
        same_as_transformers(save_tokenizer(tmp_path / "t"), texts)

    def test_wordpiece_with_everything_on_the_left(
        self, tmp_path: Path, save_tokenizer: Callable[..., Path], texts: list[Any]
    ) -> None:
        folder = save_tokenizer(tmp_path / "t", padding_side="left", truncation_side="left")
        same_as_transformers(folder, texts)

    def test_cased_wordpiece(self, tmp_path: Path, save_tokenizer: Callable[..., Path], texts: list[Any]) -> None:
        # tokenizer.json says lower case, tokenizer_config.json overrules it.
        same_as_transformers(save_tokenizer(tmp_path / "t", do_lower_case=False), texts)

    def test_static_length(self, tmp_path: Path, save_tokenizer: Callable[..., Path], texts: list[Any]) -> None:
        same_as_transformers(save_tokenizer(tmp_path / "t"), texts, padding="max_length", max_length=16)

    def test_vocabulary_file(self, tmp_path: Path, vocabulary: list[str], texts: list[Any]) -> None:
        same_as_transformers(save_old_bert(tmp_path / "t", vocabulary), texts)

    def test_cased_vocabulary_file(self, tmp_path: Path, vocabulary: list[str], texts: list[Any]) -> None:
        same_as_transformers(save_old_bert(tmp_path / "t", vocabulary, do_lower_case=False), texts)

    def test_byte_level_bpe(self, tmp_path: Path, texts: list[Any]) -> None:
        same_as_transformers(save_roberta(tmp_path / "t"), texts)

    def test_byte_level_bpe_with_a_space_before(self, tmp_path: Path, texts: list[Any]) -> None:
        same_as_transformers(save_roberta(tmp_path / "t", add_prefix_space=True), texts)

    def test_the_config_overrules_the_space_before(self, tmp_path: Path, texts: list[Any]) -> None:
        file = save_roberta(tmp_path / "t") / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "add_prefix_space": True}))
        same_as_transformers(tmp_path / "t", texts)

    def test_unigram(self, tmp_path: Path, texts: list[Any]) -> None:
        same_as_transformers(save_unigram(tmp_path / "t"), texts)

    def test_minilm(self, minilm_checkpoint: Path, texts: list[Any]) -> None:
        same_as_transformers(minilm_checkpoint, texts)

    def test_the_shared_tiny_one(self, tmp_path: Path, tiny_tokenizer: Any, texts: list[Any]) -> None:
        tiny_tokenizer.save_pretrained(tmp_path)
        same_as_transformers(tmp_path, texts)


def test_a_mask_token_in_the_text_is_one_token(tmp_path: Path, vocabulary: list[str]) -> None:
    same_as_transformers(save_old_bert(tmp_path / "t", vocabulary), ["the [MASK] sat", "Paris is the [MASK]."])
    same_as_transformers(save_roberta(tmp_path / "r"), ["the <mask> sat", "Paris is the <mask>."])


def test_tokens_that_were_added_to_an_old_folder(tmp_path: Path, vocabulary: list[str]) -> None:
    folder = save_old_bert(tmp_path / "t", vocabulary)
    (folder / "added_tokens.json").write_text(json.dumps({"<two>": len(vocabulary) + 1, "<one>": len(vocabulary)}))
    same_as_transformers(folder, ["the <one> cat <two>", "a <two>"])


@pytest.fixture
def tokenizer(tmp_path: Path, save_tokenizer: Callable[..., Path]) -> TextTokenizer:
    found = load_tokenizer(save_tokenizer(tmp_path / "t"))
    assert found is not None
    return found


def test_only_the_names_that_are_wanted_are_given(tokenizer: TextTokenizer) -> None:
    assert list(tokenizer.encode(["the cat"], ("attention_mask", "input_ids", "pixel_values")).arrays) == [
        "input_ids",
        "attention_mask",
    ]


def test_places_of_the_tokens_are_kept(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who", "the unhappy cat"), ("a", "b")])
    text = "the unhappy cat"
    places = [
        text[start:end]
        for (start, end), sequence in zip(encoded.offsets[0], encoded.sequence_ids[0], strict=True)
        if sequence == 1
    ]
    assert places == ["the", "un", "happy", "cat"]
    words = [w for w, s in zip(encoded.word_ids[0], encoded.sequence_ids[0], strict=True) if s == 1]
    assert words == [0, 1, 1, 2]
    assert encoded.special[1].tolist() == [True, False, True, False, True, True, True, True]


def test_a_text_that_was_cut_is_said(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode(["the cat", "the dog " * 40])
    assert encoded.cut == (1,) and encoded.notes == ("1 of 2 texts were longer than 32 tokens and were cut",)
    assert encoded.arrays["input_ids"].shape == (2, 32)
    assert tokenizer.encode(["the cat"]).notes == ()


def test_two_calls_do_not_disturb_each_other(tokenizer: TextTokenizer) -> None:
    first = tokenizer.encode(["the cat"]).arrays["input_ids"]
    tokenizer.encode(["the cat"], length=16)
    assert np.array_equal(tokenizer.encode(["the cat"]).arrays["input_ids"], first)


def test_without_a_padding_token_unlike_lengths_are_refused(
    tmp_path: Path, save_tokenizer: Callable[..., Path]
) -> None:
    found = load_tokenizer(save_tokenizer(tmp_path / "t", pad_token=None))
    assert found is not None and found.pad_token_id is None
    assert found.encode(["the cat", "a dog"]).arrays["input_ids"].shape == (2, 4)
    with pytest.raises(FeedError, match="cannot be padded"):
        found.encode(["the cat", "the"])


def test_a_folder_without_tokenizer_has_none(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None


def test_a_vocabulary_of_another_kind_is_not_read_as_berts(tmp_path: Path, vocabulary: list[str]) -> None:
    folder = save_old_bert(tmp_path / "t", vocabulary, tokenizer_class="XLNetTokenizer")
    assert load_tokenizer(folder) is None
    with pytest.raises(GraphFileError, match="no BERT vocabulary"):
        load_tokenizer(save_old_bert(tmp_path / "u", ["just", "words"]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"model": 3}'),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("special_tokens_map.json", "nonsense"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, save_tokenizer: Callable[..., Path], name: str, content: str) -> None:
    folder = save_tokenizer(tmp_path / "t")
    (folder / name).write_text(content)
    with pytest.raises(GraphFileError, match=name):
        load_tokenizer(folder)
