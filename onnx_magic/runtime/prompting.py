"""What a person begins with (a text, several, messages, ids) as rows of tokens, the shorter ones padded on the left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.errors import FeedError
from onnx_magic.records.results import Array
from onnx_magic.runtime.chatting import chat_prompt, is_chat
from onnx_magic.runtime.listening import AUDIO_INPUTS
from onnx_magic.runtime.samples import arrays_of
from onnx_magic.runtime.tokenizing import no_tokenizer

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

ENCODED = ("input_features", "pixel_values", "input_values")
"""What an encoder of sound or images reads."""

_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")


@dataclass(frozen=True, eq=False)
class Prompt:
    """What generation begins from.

    Args:
        arrays: `input_ids` int64[batch, tokens] and `attention_mask`, padded; or what another encoder reads.
        given: The texts or messages, one per row; empty where arrays were given.
        alone: One sample was given, and no list of samples.
        notes: What was done to make it fit.
    """

    arrays: Mapping[str, Array]
    given: tuple[Any, ...] = ()
    alone: bool = True
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Samples."""
        return len(next(iter(self.arrays.values())))

    @property
    def padding(self) -> list[int]:
        """Tokens of padding before each row."""
        mask = self.arrays.get("attention_mask")
        return [0] * self.rows if mask is None else [int(np.argmax(row != 0)) for row in mask]


def is_prompt(inputs: Any) -> bool:
    """Whether it is a text, messages, or a list of such."""
    if isinstance(inputs, str) or is_chat(inputs):
        return True
    many = isinstance(inputs, list | tuple) and bool(inputs)
    return many and all(isinstance(item, str) or is_chat(item) for item in inputs)


def prompt_of(opened: OpenedFolder, inputs: Any, pad: int) -> Prompt:
    """Rows of tokens for what a person gives.

    Args:
        inputs: A text, messages, a list of either, or arrays by name.
        pad: The token that fills shorter rows; the attention mask says which.

    Raises:
        FeedError: an empty prompt, no tokenizer or chat template, or more tokens than the model has positions.
    """
    if any(spec.name in ENCODED for spec in opened.reading.inputs):
        prompt = _of_samples(opened, inputs)
    elif isinstance(inputs, Mapping):
        prompt = _of_arrays(inputs, pad)
    else:
        prompt = _of_texts(opened, inputs, pad)
    refuse_too_long(opened, prompt.arrays)
    refuse_unknown_tokens(opened, prompt.arrays.get("input_ids"))
    return prompt


def positions_of(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model can see at once; `None` where its config sets no limit."""
    nested = (config.get(name) for name in ("text_config", "decoder"))
    part = next((part for part in nested if isinstance(part, Mapping)), config)
    # T5 and its kin write n_positions and have none: their attention knows distances alone.
    alone = not config.get("is_encoder_decoder") or part is not config
    names = ("max_target_positions", *(_POSITIONS if alone else _POSITIONS[:1]))
    found = next((part[name] for name in names if isinstance(part.get(name), int)), None)
    return found if found is not None and found > 0 else None


def room_after(opened: OpenedFolder, arrays: Mapping[str, Array]) -> int | None:
    """How many tokens can follow: the last one needs no position of its own. `None` without a limit."""
    limit = positions_of(opened.config)
    if limit is None:
        return None
    ids = arrays.get("input_ids")
    used = 1 if "encoder" in opened.graphs or ids is None else ids.shape[-1]
    return max(0, limit - used + 1)


def refuse_too_long(opened: OpenedFolder, arrays: Mapping[str, Array]) -> None:
    """Raise a FeedError for a prompt with more tokens than the model has positions."""
    limit, ids = positions_of(opened.config), arrays.get("input_ids")
    if limit is not None and ids is not None and ids.shape[-1] > limit:
        raise FeedError(
            f"the prompt is {ids.shape[-1]} tokens long, {opened.name} has {limit} positions",
            fix=f"give at most {limit} tokens, or export a model with more positions",
        )


def refuse_unknown_tokens(opened: OpenedFolder, ids: Array | None) -> None:
    """Raise a FeedError for an id that the model's vocabulary does not have."""
    config: Mapping[str, Any] = opened.config.get("text_config") or opened.config
    size = config.get("vocab_size")
    if not isinstance(size, int) or ids is None or ids.size == 0 or ids.dtype.kind not in "iu":
        return
    worst = ids.max() if ids.max() >= size else ids.min()
    if not 0 <= worst < size:
        raise FeedError(
            f"input_ids holds {worst}: {opened.name} has {size} tokens, 0 to {size - 1}",
            fix="make the ids with the model's own tokenizer",
        )


def _of_arrays(inputs: Mapping[str, Any], pad: int) -> Prompt:
    arrays = {name: _array(value) for name, value in inputs.items() if value is not None}
    ids = arrays.get("input_ids")
    if ids is None and not any(name in arrays for name in ENCODED):
        raise FeedError(
            f"there is nothing to begin from: {', '.join(arrays) or 'no arrays'}; expected input_ids",
            fix="exported.generate(input_ids=...)",
        )
    if ids is not None and (ids.ndim != 2 or ids.size == 0):
        raise FeedError(
            f"input_ids has shape {list(ids.shape)}; expected int64[batch_size, sequence_length] with 1 token or more",
            fix="input_ids=[[1, 2, 3]]",
        )
    mask = arrays.get("attention_mask")
    if ids is not None and mask is not None and (mask.ndim != 2 or mask.shape[0] != ids.shape[0]):
        raise FeedError(
            f"attention_mask has shape {list(mask.shape)}, input_ids {list(ids.shape)}: expected a row for each",
            fix="attention_mask=np.ones_like(input_ids)",
        )
    if ids is not None and "attention_mask" not in arrays and len(ids) > 1 and bool((ids == pad).any()):
        arrays["attention_mask"] = (ids != pad).astype(np.int64)
    return Prompt(arrays)


def _array(value: Any) -> Array:
    array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    return array.astype(np.int64) if array.dtype.kind in "iub" else array


def _of_samples(opened: OpenedFolder, inputs: Any) -> Prompt:
    """Sounds or images, one or several; or the arrays that were made of them."""
    arrays, _, notes = arrays_of(opened, inputs)
    names = [spec.name for spec in opened.reading.inputs]
    if not isinstance(arrays, Mapping) or names[0] not in arrays:
        raise FeedError(
            f"{opened.name} takes {', '.join(names)}, not {type(inputs).__name__}",
            fix='exported.run("sound.wav")' if names[0] in AUDIO_INPUTS else 'exported.run("picture.png")',
        )
    made = {name: np.asarray(_plain(array)) for name, array in arrays.items()}
    return Prompt(made, alone=not isinstance(inputs, list | tuple), notes=notes)


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _of_texts(opened: OpenedFolder, inputs: Any, pad: int) -> Prompt:
    if not is_prompt(inputs):
        raise FeedError(
            f"{opened.name} goes on with a text, not with a {type(inputs).__name__}",
            fix='exported.run("Once upon a time")',
        )
    alone = isinstance(inputs, str) or is_chat(inputs)
    samples = [inputs] if alone else list(inputs)
    tokenizer = opened.tokenizer
    if tokenizer is None:
        fix = "exported.generate(input_ids=[[1, 2, 3]])"
        raise no_tokenizer(opened.name, opened.folder, "tokens of text", fix)
    rows = []
    for sample in samples:
        if opened.prefix and isinstance(sample, str) and sample:
            rows.append(tokenizer.ids(opened.prefix + sample))
        elif is_chat(sample):
            rows.append(tokenizer.ids(chat_prompt(opened.folder, sample), special=False))
        else:
            rows.append(tokenizer.ids(sample))
        if not rows[-1] or sample == "":
            raise FeedError(
                "the prompt is empty: there is nothing to go on from", fix='exported.run("Once upon a time")'
            )
    return Prompt(padded(rows, pad, left="encoder" not in opened.graphs), tuple(samples), alone)


def padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool = True) -> dict[str, Array]:
    """Rows of unequal length as `input_ids` and `attention_mask`; a decoder wants its padding on the left.

    Example:
        >>> padded([[5], [6, 7]], 0)["input_ids"].tolist()
        [[0, 5], [6, 7]]
    """
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[index, place], mask[index, place] = row, 1
    return {"input_ids": ids, "attention_mask": mask}
