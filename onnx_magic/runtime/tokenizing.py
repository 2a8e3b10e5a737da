"""Texts to arrays with the `tokenizers` library: the same ids as Transformers' AutoTokenizer, without Transformers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from onnx_magic.errors import FeedError, GraphFileError
from onnx_magic.records.results import Array

if TYPE_CHECKING:
    import tokenizers

Text: TypeAlias = str | tuple[str, str]
Side: TypeAlias = Literal["left", "right"]

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The graph inputs that a tokenizer can give."""

_NO_LIMIT = 10**12
"""Transformers writes 1e30 as `model_max_length` where there is none."""

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
_GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
_BERT_LIKE = ("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "LayoutLM", "Lxmert")
_BERT_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True, eq=False)
class Encoded:
    """Texts as arrays, and where each token came from.

    Args:
        arrays: `{"input_ids": int64[samples, tokens], ...}`: only the names that were wanted.
        texts: The texts, a pair of texts as a tuple.
        offsets: Per sample and token: first character and the one after the last, in its text.
        word_ids: Per sample and token: number of the word; `None` for special tokens.
        sequence_ids: Per sample and token: 0 for the first text of a pair, 1 for the second, `None` for special tokens.
        special: Per sample and token: whether it is a special token or padding.
        cut: The samples that were longer than the tokenizer's limit.
        notes: A sentence for each thing that was done.
        choices: For multiple choice, how many of `texts` belong to one sample; else `None`.
    """

    arrays: Mapping[str, Array]
    texts: tuple[Text, ...]
    offsets: tuple[tuple[tuple[int, int], ...], ...]
    word_ids: tuple[tuple[int | None, ...], ...]
    sequence_ids: tuple[tuple[int | None, ...], ...]
    special: Array
    cut: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    choices: int | None = None


class TextTokenizer:
    """A tokenizer as a folder describes it.

    Args:
        backend: The `tokenizers.Tokenizer`.
        config: tokenizer_config.json and special_tokens_map.json, merged.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
        self._backend = backend
        self._tokens = {name: _content(config.get(name)) for name in _NAMED}
        limit = config.get("model_max_length")
        self.max_length: int | None = int(limit) if limit and limit < _NO_LIMIT else None
        self.padding_side: Side = config.get("padding_side") or _side(backend.padding)
        self.truncation_side: Side = config.get("truncation_side") or _side(backend.truncation)
        self.names: tuple[str, ...] = _input_names(config)
        self._pad_type_id = int(config.get("pad_token_type_id", 0))

    @property
    def mask_token(self) -> str | None:
        """The token that fill-mask fills, where there is one."""
        return self._tokens["mask_token"]

    @property
    def mask_token_id(self) -> int | None:
        """The id of `mask_token`."""
        return self._id("mask_token")

    @property
    def pad_token_id(self) -> int | None:
        """The id of the padding token."""
        return self._id("pad_token")

    @property
    def cls_token_id(self) -> int | None:
        """The id of the token that stands for the whole text."""
        return self._id("cls_token")

    def encode(self, texts: Sequence[Text], names: Collection[str] = TEXT_INPUTS, length: int | None = None) -> Encoded:
        """Texts, or pairs of texts, as int64 arrays padded to the longest one.

        The ids are those of Transformers' `tokenizer(texts, padding=True, truncation=True)`.

        Args:
            texts: At least one text or pair.
            names: Which graph inputs are wanted; others are left out.
            length: The sequence length, where the graph's is static: longer texts are cut, shorter ones padded to it.

        Raises:
            FeedError: texts of unlike length, and the tokenizer has no padding token.
        """
        limit = min(x for x in (length, self.max_length, _NO_LIMIT) if x is not None)
        if limit < _NO_LIMIT:
            self._backend.enable_truncation(limit, direction=self.truncation_side)
        else:
            self._backend.no_truncation()
        encodings = self._encode_padded(list(texts), length)
        cut = tuple(i for i, encoding in enumerate(encodings) if encoding.overflowing)
        columns = {
            "input_ids": [e.ids for e in encodings],
            "attention_mask": [e.attention_mask for e in encodings],
            "token_type_ids": [e.type_ids for e in encodings],
        }
        wanted = [name for name in TEXT_INPUTS if name in names and (name != "token_type_ids" or name in self.names)]
        return Encoded(
            arrays={name: np.asarray(columns[name], np.int64) for name in wanted},
            texts=tuple(texts),
            offsets=tuple(tuple(e.offsets) for e in encodings),
            word_ids=tuple(tuple(e.word_ids) for e in encodings),
            sequence_ids=tuple(tuple(e.sequence_ids) for e in encodings),
            special=np.asarray([e.special_tokens_mask for e in encodings], bool),
            cut=cut,
            notes=_cut_note(cut, len(encodings), limit),
        )

    def ids(self, text: str, *, special: bool = True) -> list[int]:
        """The token ids of one text, whole: neither cut nor padded.

        Args:
            text: The text.
            special: Whether the tokenizer adds its special tokens; a chat template has written them already.
        """
        self._backend.no_truncation()
        self._backend.no_padding()
        return list(self._backend.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int] | Array, *, skip_special: bool = False) -> str:
        """The text of token ids."""
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_special))

    def _id(self, name: str) -> int | None:
        token = self._tokens[name]
        return None if token is None else self._backend.token_to_id(token)

    def _encode_padded(self, texts: list[Text], length: int | None) -> list[Any]:
        pad = self.pad_token_id
        if pad is not None:
            self._backend.enable_padding(
                direction=self.padding_side,
                pad_id=pad,
                pad_token=self._tokens["pad_token"] or "",
                pad_type_id=self._pad_type_id,
                length=length,
            )
        else:
            self._backend.no_padding()
        encodings: list[Any] = self._backend.encode_batch(texts)
        lengths = {len(e.ids) for e in encodings} | ({length} if length else set())
        if len(lengths) > 1:
            raise FeedError(
                f"texts of {min(lengths)} to {max(lengths)} tokens cannot be padded: the tokenizer has no such token",
                fix='run one text at a time, or set "pad_token" in tokenizer_config.json',
            )
        return encodings


def load_tokenizer(folder: Path) -> TextTokenizer | None:
    """The tokenizer of a folder: from tokenizer.json, else an old BERT's vocab.txt; `None` when there is neither.

    Raises:
        GraphFileError: a tokenizer file that cannot be read.
    """
    config = {**read_json(folder / "special_tokens_map.json"), **read_json(folder / "tokenizer_config.json")}
    file = folder / "tokenizer.json"
    if file.is_file():
        backend = _from_tokenizer_json(file, config)
    elif (folder / "vocab.txt").is_file() and _is_bert_like(config):
        config = {**_BERT_TOKENS, "model_input_names": list(TEXT_INPUTS), **config}
        backend = _from_vocabulary(folder / "vocab.txt", config)
    else:
        return None
    _add_tokens(backend, folder, config)
    return TextTokenizer(backend, config)


def needs_transformers(folder: Path) -> bool:
    """Whether a folder's tokenizer is one that Transformers alone can run: it has no tokenizer.json."""
    if (folder / "tokenizer.json").is_file():
        return False
    return (folder / "tokenizer_config.json").is_file() or any(folder.glob("*.spm"))


def no_tokenizer(name: str, folder: Path, made: str, fix: str) -> FeedError:
    """The error for texts where there is no tokenizer, or none that can be run here.

    Args:
        name: The model's name.
        folder: Where its tokenizer would lie.
        made: What a tokenizer would make.
        fix: What to do where the folder has no tokenizer.
    """
    if needs_transformers(folder):
        return FeedError(
            f"{name} needs Transformers and sentencepiece to make tokens of text, and they are not both installed",
            fix="pip install transformers sentencepiece",
        )
    return FeedError(f"{name} has no tokenizer to make {made}", fix=fix)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; `{}` when there is no such file.

    Raises:
        GraphFileError: the file is not a JSON object.
    """
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GraphFileError(
            f"{file} is not JSON: {error}", fix=f"restore {file.name} from the model's source"
        ) from error
    if not isinstance(record, dict):
        raise GraphFileError(
            f"{file} holds a {type(record).__name__}, expected an object",
            fix=f"restore {file.name} from the model's source",
        )
    return record


def _from_tokenizer_json(file: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    record = read_json(file)
    for part, kind, options in _OVERRIDES:
        step = record.get(part)
        if isinstance(step, dict) and step.get("type") == kind:
            step.update({ours: config[theirs] for ours, theirs in options.items() if theirs in config})
    try:
        return Tokenizer.from_str(json.dumps(record))
    except Exception as error:
        raise GraphFileError(
            f"{file} is no tokenizer that the tokenizers library reads: {error}",
            fix="pip install -U tokenizers, or save the tokenizer again with save_pretrained()",
        ) from error


_OVERRIDES = (
    (
        "normalizer",
        "BertNormalizer",
        {
            "lowercase": "do_lower_case",
            "strip_accents": "strip_accents",
            "handle_chinese_chars": "tokenize_chinese_chars",
        },
    ),
    ("pre_tokenizer", "ByteLevel", {"add_prefix_space": "add_prefix_space"}),
)
"""Where tokenizer_config.json overrules tokenizer.json, as it does in Transformers: part, its type, {option: key}."""


def _is_bert_like(config: Mapping[str, Any]) -> bool:
    name = str(config.get("tokenizer_class") or "BertTokenizer").removesuffix("Fast")
    return name.removesuffix("Tokenizer") in _BERT_LIKE


def _from_vocabulary(file: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """A BERT tokenizer from its vocabulary, one token a line."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    lines = file.read_text(encoding="utf-8").split("\n")
    vocabulary = {token: i for i, token in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    first, last = (_content(config[name]) or "" for name in ("cls_token", "sep_token"))
    missing = [token for token in (first, last) if token not in vocabulary]
    if missing:
        raise GraphFileError(
            f"{file} does not hold {', '.join(missing)}: it is no BERT vocabulary",
            fix="save the tokenizer again with save_pretrained()",
        )
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=_content(config["unk_token"]) or "[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return backend


def _add_tokens(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Tokens that the configs name and the vocabulary does not hold as such yet, in the order of their ids."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    numbered = read_json(folder / "added_tokens.json")
    decoder = config.get("added_tokens_decoder") or {}
    named = [config.get(name) for name in _NAMED]
    for key in _EXTRA:
        listed = config.get(key) or []
        named += list(listed.values()) if isinstance(listed, dict) else list(listed)
    special = {_content(token) for token in named}
    plain = [token for token, _ in sorted(numbered.items(), key=lambda item: int(item[1]))]
    for token in (*(decoder[i] for i in sorted(decoder, key=int)), *plain, *named):
        content = _content(token)
        if content and content not in known:
            known.add(content)
            _add(backend, token, content in special)


def _add(backend: tokenizers.Tokenizer, token: Any, is_special: bool) -> None:
    from tokenizers import AddedToken

    options = token if isinstance(token, dict) else {}
    flags = {key: bool(options[key]) for key in ("single_word", "lstrip", "rstrip", "normalized") if key in options}
    is_special = is_special or bool(options.get("special"))
    added = AddedToken(_content(token) or "", special=is_special, **flags)
    (backend.add_special_tokens if is_special else backend.add_tokens)([added])


def _content(token: Any) -> str | None:
    """The text of a token, which the configs write as text or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _side(settings: Mapping[str, Any] | None) -> Side:
    return "left" if settings and str(settings.get("direction")).lower() == "left" else "right"


def _input_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the tokenizer gives. The class that carries no model's name gives no token types unless told to."""
    default = TEXT_INPUTS[:2] if config.get("tokenizer_class") in _GENERIC_CLASSES else TEXT_INPUTS
    return tuple(config.get("model_input_names") or default)


def _cut_note(cut: tuple[int, ...], total: int, limit: int) -> tuple[str, ...]:
    if not cut:
        return ()
    return (f"{len(cut)} of {total} texts were longer than {limit} tokens and were cut",)
