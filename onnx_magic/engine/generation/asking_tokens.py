"""`exported.generate(...)`: arrays and options as a person gives them, to tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.generation.answering import NO_PAST
from onnx_magic.engine.generation.continuing import full_tokenizer, seeded
from onnx_magic.engine.generation.hosted import generated, has_transformers, hosted
from onnx_magic.engine.generation.streaming import streamer
from onnx_magic.errors import FeedError, UsageError
from onnx_magic.runtime.folder import OpenedFolder
from onnx_magic.runtime.generating import decoder_steps, generate_ids, is_generator
from onnx_magic.runtime.generation_settings import check_asked, settings_of
from onnx_magic.runtime.prompting import ENCODED, is_prompt, prompt_of

if TYPE_CHECKING:
    from onnx_magic.runtime.prompting import Prompt

ARRAYS = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids", "decoder_attention_mask", *ENCODED)
"""Options that hold arrays."""


def tokens_of(
    opened: OpenedFolder,
    inputs: Any,
    options: Mapping[str, Any],
    *,
    provider: str | None = None,
    seed: int | None = None,
    live: Any = None,
) -> Any:
    """What `generate()` returns; see the verb `generate`."""
    options = {name: value for name, value in options.items() if value is not None}
    _refuse_what_cannot_be_meant(opened, inputs, options)
    if inputs is not None:
        options["input_ids"] = inputs
    arrays = {name: options.pop(name) for name in ARRAYS if name in options}
    settings = settings_of(opened, {name: v for name, v in options.items() if np.isscalar(v) or isinstance(v, list)})
    if not has_transformers():
        named = {**{name: value for name, value in options.items() if value is not False}, "seed": seed}
        return generate_ids(opened, prompt_of(opened, arrays, settings.pad), settings_of(opened, named))
    prompt = prompt_of(opened, arrays, settings.pad) if set(arrays) & {"input_ids", *ENCODED} else None
    if isinstance(assistant := options.get("assistant_model"), OpenedFolder):
        options["assistant_model"] = hosted(assistant, provider)
    if options.get("stop_strings") and "tokenizer" not in options:
        options["tokenizer"] = full_tokenizer(opened)
    model = hosted(opened, provider, live)
    if "streamer" not in options and prompt is not None and (stream := _stream(opened, model, prompt, options)):
        options["streamer"] = stream
    with seeded(seed):
        return generated(model, opened, {name: _tensor(value) for name, value in arrays.items()}, options)


def _refuse_what_cannot_be_meant(opened: OpenedFolder, inputs: Any, options: Mapping[str, Any]) -> None:
    if not is_generator(opened):
        raise UsageError(
            f"{opened.name} does not generate: it is for {opened.task or 'no known task'}", fix="exported.run(inputs)"
        )
    if is_prompt(inputs):
        raise FeedError(
            "generate() takes ids, as model.generate() does; run() takes texts", fix=f"exported.run({inputs!r})"
        )
    check_asked(options)
    if options.get("use_cache") and not decoder_steps(opened).has_past:
        raise UsageError(NO_PAST, fix="use_cache=False")


def _stream(opened: OpenedFolder, model: Any, prompt: Prompt, options: Mapping[str, Any]) -> Any:
    """Pieces of text for who listens; beams and several answers per row have no single text that grows."""
    config = options.get("generation_config") or model.generation_config
    several = [options.get(name) or getattr(config, name, None) or 1 for name in ("num_beams", "num_return_sequences")]
    return streamer(opened.tokenizer, prompt, "encoder" in opened.graphs) if several == [1, 1] else None


def _tensor(value: Any) -> Any:
    """A list or an array as a tensor; a tensor as it is."""
    import torch

    return value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
