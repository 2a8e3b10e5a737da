"""Texts from CTC logits: the best token of each frame, repetitions merged, blanks removed, spelled by vocab.json."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from onnx_magic.records.results import Array
from onnx_magic.runtime.tokenizing import read_json

_DEFAULTS = {"pad_token": "<pad>", "unk_token": "<unk>", "word_delimiter_token": "|"}
_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
    (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What `clean_up_tokenization_spaces` replaces."""


class CtcSpeller:
    """A vocabulary of letters, as `Wav2Vec2CTCTokenizer` reads it.

    Args:
        vocabulary: `{token: id}`.
        config: tokenizer_config.json.
    """

    def __init__(self, vocabulary: Mapping[str, int], config: Mapping[str, Any]) -> None:
        self._tokens = {int(number): token for token, number in vocabulary.items()}
        for number, token in (config.get("added_tokens_decoder") or {}).items():
            self._tokens[int(number)] = _content(token)
        self._blank, self._unknown, self._space = (_content(config.get(k) or v) for k, v in _DEFAULTS.items())
        self._gap = str(config.get("replace_word_delimiter_char") or " ")
        self._lower = bool(config.get("do_lower_case"))
        self._clean = bool(config.get("clean_up_tokenization_spaces"))

    def text(self, ids: Array) -> str:
        """The text of one sound's token ids, int64[frames].

        Example:
            >>> CtcSpeller({"<pad>": 0, "|": 1, "a": 2}, {}).text([2, 2, 0, 2, 1, 1, 2])
            'aa a'
        """
        letters = [self._tokens.get(int(number), self._unknown) for number in ids]
        spelled = [letter for letter, _ in groupby(letters) if letter != self._blank]
        text = "".join(self._gap if letter == self._space else letter for letter in spelled).strip()
        if self._lower:
            text = text.lower()
        for found, better in _CLEANED if self._clean else ():
            text = text.replace(found, better)
        return text


def load_speller(folder: Path) -> CtcSpeller | None:
    """The CTC vocabulary of a folder; `None` when its tokenizer is of another kind.

    Raises:
        GraphFileError: a file that is not a JSON object.
    """
    config = read_json(folder / "tokenizer_config.json")
    vocabulary = read_json(folder / "vocab.json")
    if not vocabulary or "CTC" not in str(config.get("tokenizer_class") or ""):
        return None
    language = config.get("target_lang")
    if language is not None and isinstance(vocabulary.get(language), dict):
        vocabulary = vocabulary[language]
    added = read_json(folder / "added_tokens.json")
    return CtcSpeller({**vocabulary, **added}, config)


def _content(token: Any) -> str:
    return str(token.get("content") if isinstance(token, dict) else token)
