"""Generated tokens to the answer that a person reads, as Transformers' pipelines give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.records.results import Array, RunResult
from onnx_magic.runtime.chatting import is_chat
from onnx_magic.runtime.generating import ENCODER, text_name
from onnx_magic.runtime.generation_settings import GenerationSettings
from onnx_magic.runtime.prompting import Prompt

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder
    from onnx_magic.runtime.tokenizing import TextTokenizer


def generated_result(
    opened: OpenedFolder,
    prompt: Prompt,
    sequences: Array,
    settings: GenerationSettings,
    *,
    full_text: bool = True,
    **told: Any,
) -> RunResult:
    """The tokens of every row as a RunResult: `outputs["sequences"]`, and `decoded` where there is a tokenizer.

    Args:
        sequences: int64[batch * answers, tokens], prompt included; an encoder-decoder's begin with its first token.
        full_text: Whether the answer begins with the prompt; a chat's with its messages.
        told: `seconds`, `provider` and `backend` of the RunResult.
    """
    begun = 1 if ENCODER in opened.graphs else prompt.arrays["input_ids"].shape[-1]
    tokens = sum(_length(row, settings) for row in sequences[:, begun:])
    tokenizer = opened.tokenizer
    decoded = None
    if tokenizer is not None:
        decoded = _decoded(opened, tokenizer, prompt, sequences, begun, full_text)
    return RunResult({"sequences": sequences}, decoded, notes=prompt.notes, feed=prompt.arrays, tokens=tokens, **told)


def _decoded(
    opened: OpenedFolder, tokenizer: TextTokenizer, prompt: Prompt, sequences: Array, begun: int, full_text: bool
) -> list[Any]:
    """An answer per sample; a list of them where several were asked for."""
    name = text_name(opened.task) or "generated_text"
    several = len(sequences) // prompt.rows
    answers = []
    for index, row in enumerate(sequences):
        given = prompt.given[index // several] if prompt.given else None
        text = _continuation(tokenizer, row, begun if ENCODER not in opened.graphs else 0)
        if full_text and given is not None and ENCODER not in opened.graphs:
            answers.append({name: _full(given, text)})
        else:
            answers.append({name: text})
    if several == 1:
        return answers
    return [answers[at : at + several] for at in range(0, len(answers), several)]


def _full(given: Any, text: str) -> Any:
    return [*given, {"role": "assistant", "content": text}] if is_chat(given) else given + text


def _continuation(tokenizer: TextTokenizer, row: Array, begun: int) -> str:
    """The text behind the first `begun` tokens; decoded with them, for the space between."""
    whole = tokenizer.decode(row, skip_special=True)
    return whole[len(tokenizer.decode(row[:begun], skip_special=True)) :] if begun else whole


def _length(row: Sequence[int] | Array, settings: GenerationSettings) -> int:
    """Generated tokens of a row, its end token included."""
    ends = np.flatnonzero(np.isin(row, settings.eos))
    return int(ends[0]) + 1 if len(ends) else len(row)
