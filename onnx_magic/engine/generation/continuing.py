"""A prompt to a text, on ONNX Runtime or in PyTorch, with the options that `run` takes."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.generation.hosted import generated, has_transformers, hosted
from onnx_magic.engine.generation.streaming import streamer
from onnx_magic.engine.precision import widened
from onnx_magic.events import stage
from onnx_magic.records.results import Array, RunResult
from onnx_magic.runtime.answering_texts import generated_result
from onnx_magic.runtime.generating import decoder_steps, generate_ids
from onnx_magic.runtime.generation_settings import GenerationSettings, settings_of
from onnx_magic.runtime.prompting import Prompt, prompt_of, room_after

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

GENERATE = "generate"
"""The stage in which texts grow."""

RENAMED: Mapping[str, str] = {"stop": "stop_strings"}
"""Options of `run` → what Transformers calls them."""


def continued(
    opened: OpenedFolder,
    inputs: Any,
    asked: Mapping[str, Any],
    *,
    full_text: bool = True,
    provider: str | None = None,
    live: Any = None,
) -> RunResult:
    """What ONNX Runtime generates: greedy texts by the plain loop, all else by the model's own `generate()`.

    Args:
        inputs: A text, messages, a list of either, or arrays by name.
        asked: Options of `run` (`max_new_tokens`, `seed`, `stop`, ...); None means not asked for.
        full_text: Whether the answer begins with the prompt.
        live: The PyTorch model, where it is at hand.

    Raises:
        FeedError: an empty or too long prompt, no tokenizer, no chat template.
        UsageError: a value that cannot be meant, or an option that needs Transformers where it is missing.
    """
    settings, prompt, options = prepared(opened, inputs, asked)
    # What is drawn must be what model.generate() draws, where that can be had: the same seed, the same text.
    own = (settings.others or settings.sample) and has_transformers()
    session = decoder_steps(opened, provider).session
    model = hosted(opened, provider, live) if own else None
    started = time.perf_counter()
    with stage(GENERATE):
        if model is not None:
            sequences = by_transformers(model, opened, prompt, options, settings.seed)
        else:
            sequences = generate_ids(opened, prompt, settings, provider=provider)
    told = {"seconds": time.perf_counter() - started, "provider": session.provider}
    return generated_result(opened, prompt, sequences, settings, full_text=full_text, **told)


def in_pytorch(
    opened: OpenedFolder,
    inputs: Any,
    asked: Mapping[str, Any],
    model: Any,
    *,
    full_text: bool = True,
    streamed: bool = False,
) -> RunResult:
    """The same prompt and options, by the live model, in float32 where it is bfloat16; `streamed` emits the text."""
    settings, prompt, options = prepared(opened, inputs, asked)
    with widened(model):
        started = time.perf_counter()
        sequences = by_transformers(model, opened, prompt, options, settings.seed, streamed=streamed)
        seconds = time.perf_counter() - started
    told = {"seconds": seconds, "provider": str(model.device), "backend": "pytorch"}
    return generated_result(opened, prompt, sequences, settings, full_text=full_text, **told)


def prepared(
    opened: OpenedFolder, inputs: Any, asked: Mapping[str, Any]
) -> tuple[GenerationSettings, Prompt, dict[str, Any]]:
    """Settings, prompt, and the same settings as options of `generate()`."""
    options = as_options(asked)
    settings = settings_of(opened, {**options, "seed": asked.get("seed")})
    prompt = prompt_of(opened, inputs, settings.pad)
    room = room_after(opened, prompt.arrays)
    if room is not None and room < settings.max_new_tokens:
        settings = settings.longest(room)
        if asked.get("max_new_tokens") is not None:
            sentence = f"{room} tokens follow at most: {opened.name} has no more positions"
            prompt = replace(prompt, notes=(*prompt.notes, sentence))
    options |= {"max_new_tokens": settings.max_new_tokens, "pad_token_id": settings.pad}
    return settings, prompt, options


def as_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `run` as Transformers names them: who gives a temperature, top_p, top_k or seed wants to sample."""
    given = {RENAMED.get(name, name): value for name, value in asked.items() if value is not None}
    seed, temperature = given.pop("seed", None), given.get("temperature")
    if temperature == 0:
        return {name: value for name, value in given.items() if name not in _SAMPLING} | {"do_sample": False}
    if seed is not None or _SAMPLING & set(given):
        given["do_sample"] = True
    return given


_SAMPLING = frozenset({"temperature", "top_p", "top_k"})


def by_transformers(
    model: Any,
    opened: OpenedFolder,
    prompt: Prompt,
    options: Mapping[str, Any],
    seed: int | None,
    *,
    streamed: bool = True,
) -> Array:
    """The tokens that `model.generate()` gives, int64[batch * answers, tokens]; the pieces of text are emitted."""
    from onnx_magic.engine.tensors import to_arrays, to_tensors

    options = dict(options)
    beams = options.get("num_beams") or model.generation_config.num_beams or 1
    # Beams are put in order at the end only: nothing to stream. Whisper's own generate() takes no streamer.
    if beams == 1 and streamed and "streamer" in inspect.signature(model.generate).parameters:
        options["streamer"] = streamer(opened.tokenizer, prompt, "encoder" in opened.graphs)
    if options.get("stop_strings"):
        options["tokenizer"] = full_tokenizer(opened)
    tensors = {name: tensor.to(model.device) for name, tensor in to_tensors(prompt.arrays).items()}
    with seeded(seed):
        found = generated(model, opened, tensors, options)
    return to_arrays({"sequences": getattr(found, "sequences", found)})["sequences"]


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw with this seed in the block; all random states stand where they stood afterwards."""
    if seed is None:
        yield
        return
    import torch

    from onnx_magic.engine.random_states import random_states_kept

    with random_states_kept():
        torch.manual_seed(seed)
        yield


def full_tokenizer(opened: OpenedFolder) -> Any:
    """The folder's tokenizer as Transformers makes it, for what needs more than ids and texts; made once."""
    if "tokenizer" not in opened.held:
        from transformers import AutoTokenizer

        opened.held["tokenizer"] = AutoTokenizer.from_pretrained(opened.folder, local_files_only=True)
    return opened.held["tokenizer"]
