"""What a person has (texts, pairs, questions, choices, images) as the arrays that a graph takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.errors import FeedError
from onnx_magic.records.results import Array
from onnx_magic.runtime.feeds import example_feed, is_arraylike, listed
from onnx_magic.runtime.imaging import is_image
from onnx_magic.runtime.listening import AUDIO_INPUTS
from onnx_magic.runtime.sounds import is_sound
from onnx_magic.runtime.tokenizing import TEXT_INPUTS, Encoded, Text, TextTokenizer, no_tokenizer

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

Given: TypeAlias = tuple[Any, Encoded | None, tuple[str, ...]]
"""What is to be fed, where its tokens came from, and the notes."""

IMAGE_INPUT = "pixel_values"
_PAIR_KEYS = (("question", "context"), ("text", "text_pair"), ("premise", "hypothesis"))
_CHOICE_KEYS = ("prompt", "choices")


def arrays_of(opened: OpenedFolder, inputs: Any) -> Given:
    """Texts and images as arrays by name; arrays as they are.

    Raises:
        FeedError: texts without a tokenizer, images without an image processor, or samples that the task does not take.
    """
    if is_arraylike(inputs) and not hasattr(inputs, "detach") and np.asarray(inputs).dtype.kind in "OUT":
        inputs = np.asarray(inputs).tolist()  # texts in an array, or in a data frame's column
    if _takes(opened, *AUDIO_INPUTS):
        many = inputs if isinstance(inputs, list | tuple) else [inputs]
        if many and all(is_sound(item) for item in many):
            return _sounds(opened, list(many))
    if _takes(opened, IMAGE_INPUT):
        many = inputs if isinstance(inputs, list | tuple) else [inputs]
        if all(isinstance(item, str | Path) or is_image(item) for item in many):
            return _images(opened, list(many))
    elif _holds_text(inputs):
        return _texts(opened, inputs)
    return inputs, None, ()


def _takes(opened: OpenedFolder, *names: str) -> bool:
    return any(spec.name in names for spec in opened.reading.inputs)


def _sounds(opened: OpenedFolder, sounds: list[Any]) -> Given:
    processor = opened.audio_processor
    if processor is None:
        raise FeedError(
            f"{opened.name} has no preprocessor_config.json for sounds: it takes {listed(opened.reading.inputs)}",
            fix=f"exported.run({example_feed(opened.reading.inputs)})",
        )
    arrays, notes = processor(sounds)
    return arrays, None, notes


def _images(opened: OpenedFolder, images: list[Any]) -> Given:
    processor = opened.image_processor
    if processor is None:
        raise FeedError(
            f"{opened.name} has no preprocessor_config.json for images: it takes {listed(opened.reading.inputs)}",
            fix=f"exported.run({example_feed(opened.reading.inputs)})",
        )
    return {IMAGE_INPUT: processor(images)}, None, processor.notes


def _holds_text(inputs: Any) -> bool:
    """Whether texts are somewhere in it: `{"question": ...}`, `[("a", "b")]`, `("prompt", ["one", "two"])`."""
    if isinstance(inputs, str):
        return True
    if isinstance(inputs, Mapping):
        return any(map(_holds_text, inputs.values()))
    return isinstance(inputs, list | tuple) and any(map(_holds_text, inputs))


def _texts(opened: OpenedFolder, inputs: Any) -> Given:
    specs = opened.reading.inputs
    if any(spec.dtype == "str" for spec in specs):
        return inputs if isinstance(inputs, Mapping | list) else [inputs], None, ()
    ids = next((spec for spec in specs if spec.name == "input_ids"), None)
    if ids is None:
        raise FeedError(
            f"{opened.name} takes no text: it takes {listed(specs)}", fix=f"exported.run({example_feed(specs)})"
        )
    tokenizer = opened.tokenizer
    if tokenizer is None:
        takes = f"arrays of text: it takes {listed(specs)}"
        raise no_tokenizer(opened.name, opened.folder, takes, f"exported.run({example_feed(specs)})")
    reader = _READERS.get(opened.task or "", _plain)
    texts, choices = reader(inputs, tokenizer)
    if opened.prefix:
        texts = [opened.prefix + text if isinstance(text, str) else text for text in texts]
    length = ids.shape[-1] if ids.shape else None
    names = [spec.name for spec in specs if spec.name in TEXT_INPUTS]
    encoded = tokenizer.encode(texts, names, length if isinstance(length, int) else None)
    if choices is not None:
        encoded = _grouped(encoded, choices)
    return encoded.arrays, encoded, encoded.notes


def _grouped(encoded: Encoded, choices: int) -> Encoded:
    """Arrays of [samples, choices, tokens] from [samples * choices, tokens]."""
    arrays: dict[str, Array] = {
        name: array.reshape(-1, choices, array.shape[-1]) for name, array in encoded.arrays.items()
    }
    kept = {name: value for name, value in vars(encoded).items() if name not in ("arrays", "choices")}
    return Encoded(arrays=arrays, choices=choices, **kept)


def _samples(inputs: Any, is_one: Callable[[Any], bool]) -> list[Any]:
    """`inputs` as a list of samples; a tuple that is one sample by itself is one."""
    if is_one(inputs):
        return [inputs]
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _pair_of(value: Any) -> Any:
    """A mapping with the keys of a pair as that pair; anything else as it is."""
    if isinstance(value, Mapping):
        for first, second in _PAIR_KEYS:
            if set(value) == {first, second}:
                return value[first], value[second]
        if set(value) == {"text"}:
            return value["text"]
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return tuple(value)
    return value


Read: TypeAlias = tuple[list[Text], int | None]
"""The texts to encode, and for multiple choice how many of them make one sample."""


def _plain(inputs: Any, _tokenizer: TextTokenizer) -> Read:
    samples = [_pair_of(sample) for sample in _samples(inputs, _is_pair)]
    for sample in samples:
        if not isinstance(sample, str) and not _is_pair(sample):
            raise FeedError(
                f"{_short(sample)} is neither a text nor a pair of texts",
                fix='exported.run(["a text", "another"])  # or exported.run([("premise", "hypothesis")])',
            )
    return samples, None


def _questions(inputs: Any, _tokenizer: TextTokenizer) -> Read:
    samples = [_pair_of(sample) for sample in _samples(inputs, _is_pair)]
    for sample in samples:
        if not _is_pair(sample):
            raise FeedError(
                f"{_short(sample)} is no question with its context",
                fix='exported.run({"question": "Who ...?", "context": "..."})',
            )
    return samples, None


def _masked(inputs: Any, tokenizer: TextTokenizer) -> Read:
    texts, _ = _plain(inputs, tokenizer)
    for text in texts:
        joined = text if isinstance(text, str) else " ".join(text)
        if tokenizer.mask_token is not None and tokenizer.mask_token not in joined:
            raise FeedError(
                f"no mask token in {_short(text)}: this model's is {tokenizer.mask_token}",
                fix=f'exported.run("Paris is the {tokenizer.mask_token} of France.")',
            )
    return texts, None


def _is_choice(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], list | tuple)
        and len(value[1]) > 0
        and all(isinstance(choice, str) for choice in value[1])
    )


def _choices(inputs: Any, _tokenizer: TextTokenizer) -> Read:
    samples = [
        tuple(sample[key] for key in _CHOICE_KEYS)
        if isinstance(sample, Mapping) and set(sample) == set(_CHOICE_KEYS)
        else sample
        for sample in _samples(inputs, _is_choice)
    ]
    for sample in samples:
        if not _is_choice(sample):
            raise FeedError(
                f"{_short(sample)} is no prompt with its choices",
                fix='exported.run(("The glass fell and", ["it broke.", "it flew."]))',
            )
    counts = {len(choices) for _, choices in samples}
    if len(counts) > 1:
        raise FeedError(
            f"samples with {min(counts)} to {max(counts)} choices do not fit one batch",
            fix="give every sample the same number of choices, or run them one at a time",
        )
    return [(prompt, choice) for prompt, choices in samples for choice in choices], counts.pop()


def _short(sample: Any) -> str:
    text = repr(sample)
    return text if len(text) <= 60 else text[:57] + "..."


_READERS: Mapping[str, Callable[[Any, TextTokenizer], Read]] = {
    "question-answering": _questions,
    "fill-mask": _masked,
    "multiple-choice": _choices,
}
"""Canonical task → how its samples are read; the others take texts and pairs."""
