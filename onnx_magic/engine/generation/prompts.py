"""What the proof by tokens begins from: the task's texts through the tokenizer, or seeded token ids and arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.capturing import CapturedCalls
from onnx_magic.engine.examples import BATCH, SEED, longest_sequence, read_vocabulary
from onnx_magic.engine.generation.encoder_decoders import encoder_flat
from onnx_magic.engine.generation.parts import Prompt
from onnx_magic.engine.inputs import encoder_candidates, first_that_runs
from onnx_magic.engine.tasks import TASKS
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.errors import InputsError

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.sources import ModelSource

Array: TypeAlias = np.ndarray[Any, Any]

LENGTHS = (9, 5, 3, 7, 11)
"""Tokens of the prompts where there is no tokenizer."""

SINGLE = 2
"""So many prompts are given alone; the rest as one batch, whose rows are padded to the longest."""


def decoder_prompts(source: ModelSource, request: ExportRequest) -> tuple[Prompt, ...]:
    """Prompts of a decoder: some alone, the rest as one batch that is padded on the left.

    Raises:
        InputsError: `inputs=` holds no prompts.
    """
    vocabulary = read_vocabulary(source.config, source.tokenizer)
    limit = longest_sequence(source.config, None)
    rows = [row[: max(1, limit // 2)] if limit else row for row in _rows(source, request)]
    groups = [[row] for row in rows[:SINGLE]] + ([rows[SINGLE:]] if rows[SINGLE:] else [])
    prompts = []
    for group in groups:
        longest = max(len(row) for row in group)
        ids = np.full((len(group), longest), vocabulary.pad, np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(group):
            ids[number, longest - len(row) :], mask[number, longest - len(row) :] = row, 1
        options = {"pad_token_id": vocabulary.pad}
        room = limit - longest if limit else None
        prompts.append(Prompt(to_tensors({"input_ids": ids, "attention_mask": mask}), room, options))
    return tuple(prompts)


def encoder_decoder_prompts(source: ModelSource, request: ExportRequest) -> tuple[Prompt, ...]:
    """Inputs of an encoder: five rows, some alone, the rest as one batch, of texts padded on the right."""
    from onnx_magic.engine.generation.encoder_decoder_parts import decoder_limit

    limit = decoder_limit(source)
    room = limit - START if limit else None
    options = _start_options(source)
    if source.model.main_input_name != "input_ids":
        return tuple(Prompt(to_tensors(arrays), room, options) for arrays in _arrays(source, request))
    vocabulary = read_vocabulary(source.config, source.tokenizer)
    longest = longest_sequence(source.config, None)
    rows = [row[:longest] if longest else row for row in _rows(source, request)]
    prompts = []
    for group in ([row] for row in rows[:SINGLE]), [rows[SINGLE:]]:
        for part in group:
            if not part:
                continue
            ids = np.full((len(part), max(map(len, part))), vocabulary.pad, np.int64)
            mask = np.zeros_like(ids)
            for number, row in enumerate(part):
                ids[number, : len(row)], mask[number, : len(row)] = row, 1
            prompts.append(Prompt(to_tensors({"input_ids": ids, "attention_mask": mask}), room, options))
    return tuple(prompts)


def _start_options(source: ModelSource) -> dict[str, Any]:
    """What `generate` needs and the model's own configs leave out; and what the task asks for (a language)."""
    generation: Any = source.model.generation_config
    config = source.config
    decoder = getattr(config, "decoder", config)
    options: dict[str, Any] = {}
    size = getattr(decoder, "vocab_size", 0) or 0
    starts = [getattr(holder, name, None) for name in _STARTS for holder in (generation, config)]
    if not _is_token(next((start for start in starts if start is not None), None), size):
        known = (getattr(decoder, name, None) for name in ("bos_token_id", "pad_token_id", "eos_token_id"))
        options["decoder_start_token_id"] = next((n for n in known if _is_token(n, size)), 0)
    if generation.pad_token_id is None:
        options["pad_token_id"] = getattr(decoder, "pad_token_id", None) or 0
    return {**options, **(source.wording.options if source.wording is not None else {})}


def _is_token(number: Any, size: int) -> bool:
    return isinstance(number, int) and 0 <= number < (size or number + 1)


_STARTS = ("decoder_start_token_id", "bos_token_id")
START = 1
"""Tokens that a decoder begins with."""


def _arrays(source: ModelSource, request: ExportRequest) -> Iterator[dict[str, Array]]:
    """Sounds or images: two alone, three as a batch; the user's `inputs=` as they are."""
    given = request.inputs
    if given is not None:
        arrays = given if hasattr(given, "items") else {str(source.model.main_input_name): given}
        yield {name: to_arrays({"": a})[""] if hasattr(a, "detach") else np.asarray(a) for name, a in arrays.items()}
        return
    examples, _ = first_that_runs(
        ((encoder_flat(source.model, tuple(e.traced)), e) for e in encoder_candidates(source)),
        lambda flat, examples: (examples, flat.run(to_tensors(examples.traced))),
        source.architecture,
    )
    for seed, rows in enumerate((1, 1, 3), start=20):
        yield examples.make({**examples.sizes, BATCH: rows}, seed)


def _rows(source: ModelSource, request: ExportRequest) -> list[list[int]]:
    """The prompts' token ids: the user's, else of the task's texts, else seeded ones."""
    given = request.inputs
    if given is not None:
        return _given(source, given)
    vocabulary = read_vocabulary(source.config, None)
    if source.tokenizer is not None:
        texts = (f"{_prefix(source)}{text}" for text in TASKS[source.task or ""].examples)
        rows = [_ids(source.tokenizer, text) for text in texts]
        if all(row and max(row) < vocabulary.size for row in rows):  # a tokenizer of another model may know more tokens
            return rows
    words = np.setdiff1d(np.arange(vocabulary.size), sorted(vocabulary.special))
    random = np.random.default_rng(SEED)
    return [random.choice(words, length).tolist() for length in LENGTHS]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text)["input_ids"]]


def _prefix(source: ModelSource) -> str:
    return source.wording.prefix if source.wording is not None else ""


def _given(source: ModelSource, given: Any) -> list[list[int]]:
    if isinstance(given, CapturedCalls):
        # What a cell gave to `generate`: its first call of the model reads the whole prompt.
        args, kwargs = given.call
        given = kwargs.get("input_ids", args[0] if args else None)
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list | tuple) and given and all(isinstance(text, str) for text in given):
        if source.tokenizer is None:
            raise InputsError(
                f"inputs are texts, and {source.architecture} has no tokenizer",
                fix="inputs=input_ids  # token ids, shape (batch, length)",
            )
        return [_ids(source.tokenizer, f"{_prefix(source)}{text}") for text in given]
    ids = given.get("input_ids") if hasattr(given, "get") else given
    array = to_arrays({"": ids})[""] if hasattr(ids, "detach") else np.asarray(ids)
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise InputsError(
            f"inputs of {source.task} are prompts: texts, or token ids of shape (batch, length)",
            fix='inputs=["Once upon a time"]',
        )
    return [[int(token) for token in row] for row in np.atleast_2d(array)]
