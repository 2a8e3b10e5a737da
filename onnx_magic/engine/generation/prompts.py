"""What the proof by tokens begins from: texts of the task's row through the tokenizer, or seeded token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.examples import SEED, longest_sequence, read_vocabulary
from onnx_magic.engine.generation.parts import Prompt
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


def _rows(source: ModelSource, request: ExportRequest) -> list[list[int]]:
    """The prompts' token ids: the user's, else of the task's texts, else seeded ones."""
    given = request.inputs
    if given is not None:
        return _given(source, given)
    vocabulary = read_vocabulary(source.config, None)
    if source.tokenizer is not None:
        rows = [_ids(source.tokenizer, str(text)) for text in TASKS[source.task or ""].examples]
        if all(row and max(row) < vocabulary.size for row in rows):  # a tokenizer of another model may know more tokens
            return rows
    words = np.setdiff1d(np.arange(vocabulary.size), sorted(vocabulary.special))
    random = np.random.default_rng(SEED)
    return [random.choice(words, length).tolist() for length in LENGTHS]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text)["input_ids"]]


def _given(source: ModelSource, given: Any) -> list[list[int]]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list | tuple) and given and all(isinstance(text, str) for text in given):
        if source.tokenizer is None:
            raise InputsError(
                f"inputs are texts, and {source.architecture} has no tokenizer",
                fix="inputs=input_ids  # token ids, shape (batch, length)",
            )
        return [_ids(source.tokenizer, text) for text in given]
    ids = given.get("input_ids") if hasattr(given, "get") else given
    array = to_arrays({"": ids})[""] if hasattr(ids, "detach") else np.asarray(ids)
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise InputsError(
            f"inputs of {source.task} are prompts: texts, or token ids of shape (batch, length)",
            fix='inputs=["Once upon a time"]',
        )
    return [[int(token) for token in row] for row in np.atleast_2d(array)]
