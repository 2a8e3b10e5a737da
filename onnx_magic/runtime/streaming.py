"""Tokens to pieces of text while they come, an event each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onnx_magic.events import Token, emit, is_heard
from onnx_magic.records.results import Array

if TYPE_CHECKING:
    from onnx_magic.runtime.tokenizing import TextTokenizer

_BEFORE = 4
"""Tokens of the prompt that are decoded too: many tokenizers drop the space before the first token of a text."""

_HALF = "\N{REPLACEMENT CHARACTER}"
"""What half a character decodes to: the next token brings the other half."""


class TokenStream:
    """Emits a Token for each piece of text that a batch grows by; silent without listeners.

    Args:
        tokenizer: Makes text of tokens; `None` for a model without one, which is silent too.
        prompts: The tokens of each row so far, without padding.
    """

    def __init__(self, tokenizer: TextTokenizer | None, prompts: Iterable[Sequence[int] | Array]) -> None:
        self.tokenizer = tokenizer if is_heard() else None
        self._rows = [[int(i) for i in prompt[-_BEFORE:]] for prompt in prompts] if self.tokenizer else []
        self._shown = [len(self._text(ids)) for ids in self._rows]

    def put(self, tokens: Iterable[int], going_on: Iterable[bool]) -> None:
        """One token per row; rows that have ended are left out."""
        if self.tokenizer is None:
            return
        for row, (token, goes_on) in enumerate(zip(tokens, going_on, strict=True)):
            if goes_on:
                self._rows[row].append(int(token))
                self._show(row, final=False)

    def end(self) -> None:
        """Emit what was held back."""
        for row in range(len(self._rows)):
            self._show(row, final=True)

    def _show(self, row: int, final: bool) -> None:
        text = self._text(self._rows[row])
        if len(text) <= self._shown[row] or (text.endswith(_HALF) and not final):
            return
        piece, self._shown[row] = text[self._shown[row] :], len(text)
        emit(Token(piece, row))
        if text.endswith("\n"):  # a new line owes nothing to what stood before it
            self._rows[row], self._shown[row] = [], 0

    def _text(self, ids: Sequence[int]) -> str:
        assert self.tokenizer is not None
        return self.tokenizer.decode(ids, skip_special=True)
