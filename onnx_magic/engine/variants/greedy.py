"""How many greedy tokens of a variant that generates are those of the graphs it was made from.

An export is proven to give PyTorch's greedy tokens; a variant goes on from the same prompts as that proof, the task's
texts through the folder's own tokenizer, else seeded ids of the same lengths. It needs neither torch nor the model.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.tasks import TASKS
from onnx_magic.engine.variants.references import SEED, FeedMaker
from onnx_magic.errors import OnnxMagicError
from onnx_magic.records.variants import GreedyTokens
from onnx_magic.runtime.folder import OpenedFolder
from onnx_magic.runtime.generating import generate_ids, is_generator
from onnx_magic.runtime.generation_settings import GenerationSettings, settings_of
from onnx_magic.runtime.prompting import Prompt, padded, prompt_of, room_after

Array: TypeAlias = np.ndarray[Any, Any]

TOKENS = 40
"""Tokens after each prompt, as in the proof of an export."""

LENGTHS = (9, 5, 3, 7, 11)
"""Tokens of the prompts where there is no tokenizer."""


def greedy_tokens(before: OpenedFolder, after: OpenedFolder, provider: str | None = None) -> GreedyTokens | None:
    """Generate greedily with both, and count the tokens of each row up to the first that is another.

    Args:
        before: The graphs that a variant was made from.
        after: The variant's, in the same folder or staged.
        provider: The execution provider that the variant was made for.

    Returns:
        The count; `None` for a model that does not generate, or where one of the two does not run.
    """
    if not is_generator(before):
        return None
    try:
        settings = settings_of(before, {})
        prompt = _prompt(before, settings.pad)
        room = room_after(before, prompt.arrays)
        count = TOKENS if room is None else min(TOKENS, room)
        if count < 1:
            return None
        # No row ends early, so that every variant is asked for as many tokens.
        settings = dataclasses.replace(
            settings, max_new_tokens=count, min_new_tokens=0, sample=False, eos=(), forced_eos=(), stop=(), others=()
        )
        wanted, found = (_tokens(side, prompt, settings, provider, count) for side in (before, after))
    except OnnxMagicError:
        return None  # the verdict on the shapes says why
    same = np.cumprod(wanted == found, axis=1)
    return GreedyTokens(int(same.sum()), int(same.size), len(same), count)


def _tokens(
    opened: OpenedFolder, prompt: Prompt, settings: GenerationSettings, provider: str | None, count: int
) -> Array:
    ids = generate_ids(opened, prompt, settings, provider=provider, heard=False)
    return ids[:, ids.shape[1] - count :]


def _prompt(opened: OpenedFolder, pad: int) -> Prompt:
    """The prompts of the proof, all in one batch."""
    encoder = opened.graphs.get("encoder")
    reads = encoder if encoder is not None else opened.graph
    if all(spec.name != "input_ids" for spec in reads.inputs):
        return Prompt(FeedMaker(opened, reads).at({"batch_size": 3}, SEED))
    task = TASKS.get(opened.task or "")
    texts = [text for text in (task.examples if task is not None else ()) if isinstance(text, str)]
    if opened.tokenizer is not None and texts:
        return prompt_of(opened, texts, pad)
    random = np.random.default_rng(SEED)
    size = FeedMaker(opened, reads).vocabulary
    rows = [random.integers(min(5, size - 1), size, length).tolist() for length in LENGTHS]
    return Prompt(padded(rows, pad, left=encoder is None))
