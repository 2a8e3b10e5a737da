"""A tokenizer that Transformers alone can run (Marian's and M2M100's sentencepiece), asked as the folder's own is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.errors import GraphFileError
from onnx_magic.records.results import Array
from onnx_magic.runtime.tokenizing import TEXT_INPUTS, Encoded, Text, TextTokenizer, needs_transformers

_NEEDED = ("transformers", "sentencepiece")


def slow_tokenizer(folder: Path) -> TextTokenizer | None:
    """The folder's tokenizer as Transformers makes it; `None` where there is none, or what it needs is not installed.

    Raises:
        GraphFileError: its files are there and cannot be read.
    """
    if not needs_transformers(folder) or not all(map(find_spec, _NEEDED)):
        return None
    from transformers import AutoTokenizer

    try:
        with quiet(Log()):
            return SlowTokenizer(AutoTokenizer.from_pretrained(str(folder), local_files_only=True))
    except ImportError:
        return None
    except Exception as error:  # sentencepiece raises RuntimeError and its kin for a file that is cut off
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise GraphFileError(
            f"the tokenizer of {folder} cannot be read: {first}",
            fix="tokenizer.save_pretrained(folder)  # the model's own tokenizer, once more",
        ) from error


class SlowTokenizer(TextTokenizer):
    """A tokenizer of Transformers in the place of the folder's own.

    Args:
        tokenizer: What AutoTokenizer made.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._own = tokenizer
        limit = tokenizer.model_max_length
        self.max_length = int(limit) if limit and limit < 10**12 else None
        self.padding_side, self.truncation_side = tokenizer.padding_side, tokenizer.truncation_side
        self.names = tuple(tokenizer.model_input_names)

    @property
    def mask_token(self) -> Any:
        """The token that fill-mask fills, where there is one."""
        return self._named("mask_token")

    @property
    def mask_token_id(self) -> Any:
        """The id of `mask_token`."""
        return self._named("mask_token_id")

    @property
    def pad_token_id(self) -> Any:
        """The id of the padding token."""
        return self._named("pad_token_id")

    @property
    def cls_token_id(self) -> Any:
        """The id of the token that stands for the whole text."""
        return self._named("cls_token_id")

    def encode(self, texts: Sequence[Text], names: Collection[str] = TEXT_INPUTS, length: int | None = None) -> Encoded:
        """Texts, or pairs of texts, as arrays; where each token came from is not known."""
        limit = min((x for x in (length, self.max_length) if x is not None), default=None)
        firsts = [text if isinstance(text, str) else text[0] for text in texts]
        seconds = [text[1] for text in texts if not isinstance(text, str)] or None
        fill = "max_length" if length is not None else True
        options: dict[str, Any] = {"padding": fill, "truncation": limit is not None, "max_length": limit}
        found = self._own(firsts, seconds, **options, return_special_tokens_mask=True)
        special = np.asarray(found["special_tokens_mask"], bool)
        arrays = {name: np.asarray(found[name], np.int64) for name in TEXT_INPUTS if name in names and name in found}
        return Encoded(arrays, tuple(texts), (), (), (), special)

    def ids(self, text: str, *, special: bool = True) -> list[int]:
        """The token ids of one text, whole: neither cut nor padded."""
        return [int(token) for token in self._own(text, add_special_tokens=special, truncation=False)["input_ids"]]

    def decode(self, ids: Sequence[int] | Array, *, skip_special: bool = False) -> str:
        """The text of token ids."""
        return str(self._own.decode([int(token) for token in ids], skip_special_tokens=skip_special))

    def _named(self, name: str) -> Any:
        return getattr(self._own, name, None)
