"""Tokens of Transformers' `generate()` to events, while they come."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from onnx_magic.runtime.streaming import TokenStream

if TYPE_CHECKING:
    from onnx_magic.runtime.prompting import Prompt
    from onnx_magic.runtime.tokenizing import TextTokenizer


def streamer(tokenizer: TextTokenizer | None, prompt: Prompt, is_encoder_decoder: bool) -> Any:
    """What `generate(streamer=)` takes, for a prompt; `None` where nobody listens."""
    ids = prompt.arrays.get("input_ids")
    if is_encoder_decoder or ids is None:
        rows: list[Any] = [[] for _ in range(prompt.rows)]
    else:
        rows = [row[skip:] for row, skip in zip(ids, prompt.padding, strict=True)]
    stream = TokenStream(tokenizer, rows)
    return None if stream.tokenizer is None else _streamer_class()(stream, len(rows))


@functools.cache
def _streamer_class() -> Any:
    from transformers.generation.streamers import BaseStreamer

    class EventStreamer(BaseStreamer):
        """Hands tokens on, but for the first ones: `generate()` puts the prompt there."""

        def __init__(self, stream: TokenStream, rows: int) -> None:
            self.stream, self.rows, self.begun = stream, rows, False

        def put(self, value: Any) -> None:
            if self.begun and value.numel() == self.rows:
                self.stream.put(value.flatten().tolist(), [True] * self.rows)
            self.begun = True

        def end(self) -> None:
            self.stream.end()

    return EventStreamer
