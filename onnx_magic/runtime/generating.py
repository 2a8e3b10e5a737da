"""A text token by token, without torch and Transformers: greedy or sampled, one row or a batch.

What it gives greedily is what Transformers' `generate()` gives, token for token. Beams and the other options of
GenerationMixin are Transformers' own (engine/generation/hosting.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_magic.errors import UsageError
from onnx_magic.records.results import Array
from onnx_magic.runtime.choosing import Chooser
from onnx_magic.runtime.generation_settings import GenerationSettings
from onnx_magic.runtime.prompting import Prompt
from onnx_magic.runtime.stepping import PAST, DecoderSteps
from onnx_magic.runtime.streaming import TokenStream

if TYPE_CHECKING:
    from onnxruntime import OrtValue

    from onnx_magic.runtime.folder import OpenedFolder
    from onnx_magic.runtime.tokenizing import TextTokenizer

ENCODER, DECODER, LATER = "encoder", "decoder", "decoder_with_past"

TEXT_OF: Mapping[str, str] = {
    "text-generation": "generated_text",
    "text2text-generation": "generated_text",
    "image-to-text": "generated_text",
    "translation": "translation_text",
    "summarization": "summary_text",
    "automatic-speech-recognition": "text",
}
"""Tasks that generate → what Transformers' pipelines call the text; a translation's task names its languages too."""


def text_name(task: str | None) -> str | None:
    """What the generated text of a task is called; `None` for a task that does not generate."""
    name = "translation" if task and task.startswith("translation_") else task or ""
    return TEXT_OF.get(name)


def is_generator(opened: OpenedFolder) -> bool:
    """Whether a folder holds what generates: a decoder with a past, an encoder-decoder, or a task that says so."""
    if ENCODER in opened.graphs and DECODER in opened.graphs:
        return True
    if any(spec.name.startswith(PAST) for spec in opened.graph.inputs):
        return True
    names = {spec.name for spec in opened.graph.outputs}
    return opened.task == "text-generation" and "logits" in names


def decoder_steps(opened: OpenedFolder, provider: str | None = None) -> DecoderSteps:
    """The folder's decoder, ready for its first step."""
    role = DECODER if DECODER in opened.graphs else None
    later = opened.session(provider, LATER) if LATER in opened.graphs else None
    return DecoderSteps(opened.session(provider, role), later)


def generate_ids(
    opened: OpenedFolder,
    prompt: Prompt,
    settings: GenerationSettings,
    *,
    provider: str | None = None,
    heard: bool = True,
) -> Array:
    """The tokens of every row, prompt included: int64[batch, tokens], rows that ended early filled with `pad`.

    Emits a Token for each piece of text, unless `heard` says no.

    Raises:
        UsageError: options that need Transformers.
        FeedError: arrays that the graph does not take.
        GraphFileError: a node of the graph fails.
    """
    if settings.others:
        raise UsageError(
            f"{', '.join(settings.others)} need{'s' if len(settings.others) == 1 else ''} Transformers, which is not "
            "installed here",
            fix="pip install transformers torch",
        )
    steps = decoder_steps(opened, provider)
    if ENCODER in opened.graphs:
        fixed = encoded(opened, prompt, provider)
        ids, mask = np.full((prompt.rows, 1), _start(settings), np.int64), None
    else:
        fixed, ids = {}, np.asarray(prompt.arrays["input_ids"], np.int64)
        mask = prompt.arrays.get("attention_mask", np.ones_like(ids))
    padding = [0] * len(ids) if mask is None else prompt.padding
    chooser = Chooser(settings, ids.shape[1], padding)
    stream = TokenStream(
        opened.tokenizer if heard else None, [row[skip:] for row, skip in zip(ids, padding, strict=True)]
    )
    stopping = Stopping(opened.tokenizer, settings)
    past = steps.empty(len(ids)) if steps.has_past else None
    going_on, fed = np.ones(len(ids), bool), ids
    while True:
        masks = {} if mask is None else {"attention_mask": mask}
        logits, past = steps.step({"input_ids": fed, **masks, **fixed}, past)
        tokens = np.where(going_on, chooser(steps.last(logits), ids), settings.pad)
        ids = np.concatenate([ids, tokens[:, None]], axis=1)
        stream.put(tokens, going_on)
        going_on &= ~stopping(ids)
        if not going_on.any() or ids.shape[1] - chooser.prompt >= settings.max_new_tokens:
            stream.end()
            return ids
        fed = ids if past is None else tokens[:, None]
        mask = None if mask is None else np.concatenate([mask, np.ones_like(mask[:, :1])], axis=1)


def encoded(opened: OpenedFolder, prompt: Prompt, provider: str | None = None) -> dict[str, Array | OrtValue]:
    """What an encoder makes of the prompt, as its decoder takes it; it stays in ONNX Runtime."""
    session = opened.session(provider, ENCODER)
    arrays = dict(prompt.arrays)
    if "attention_mask" in session.inputs and "attention_mask" not in arrays:
        arrays["attention_mask"] = np.ones(arrays["input_ids"].shape, np.int64)
    feed = {name: session.value(name, arrays[name].astype(session.dtype(name))) for name in session.inputs}
    found = session.run_bound(feed, ())
    mask = {"encoder_attention_mask": arrays["attention_mask"]} if "attention_mask" in arrays else {}
    return {"encoder_hidden_states": found[session.outputs[0]], **mask}


class Stopping:
    """Whether rows end: at an end token, or where a stop text is complete.

    Args:
        tokenizer: Makes text of tokens, for stop texts.
        settings: End tokens and stop texts.

    Raises:
        UsageError: stop texts without a tokenizer.
    """

    def __init__(self, tokenizer: TextTokenizer | None, settings: GenerationSettings) -> None:
        self.tokenizer, self.eos, self.stop = tokenizer, np.array(settings.eos, np.int64), settings.stop
        if self.stop and tokenizer is None:
            raise UsageError("stop texts need the model's tokenizer, and there is none", fix="leave stop out")

    def __call__(self, ids: Array) -> Array:
        """bool[batch]: whether the last token of each row is its end."""
        ended: Array = np.isin(ids[:, -1], self.eos)
        if self.stop:
            ended = ended | np.array([self._completes(row) for row in ids])
        return ended

    def _completes(self, row: Sequence[int]) -> bool:
        """Whether the last token completes a stop text; one that stood there before does not count."""
        assert self.tokenizer is not None
        row = row[-_STOP_TOKENS:]
        before, text = self.tokenizer.decode(row[:-1]), self.tokenizer.decode(row)
        return any(stop in text[max(0, len(before) - len(stop) + 1) :] for stop in self.stop)


_STOP_TOKENS = 64
"""Tokens in which a stop text is looked for: each of its characters may be a token of its own."""


def _start(settings: GenerationSettings) -> int:
    if settings.start is None:
        raise UsageError(
            "the first token of the answer is not known: neither generation_config.json nor config.json says it",
            fix="exported.generate(**inputs, decoder_start_token_id=0)",
        )
    return settings.start
