"""Example inputs without user code, or from what the user gave: a FlatModel and its Examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.audio_examples import audio_examples
from onnx_magic.engine.capturing import CapturedCalls
from onnx_magic.engine.examples import (
    BATCH,
    HEIGHT,
    SEQUENCE,
    WIDTH,
    Examples,
    given_examples,
    image_examples,
    text_examples,
)
from onnx_magic.engine.flat import Binding, FlatModel, Leaf, bind_call, inputs_fix, signature_of
from onnx_magic.engine.probing import model_raised
from onnx_magic.engine.tasks import TASKS
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.errors import InputsError
from onnx_magic.runtime.listening import AUDIO_INPUTS

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.sources import ModelSource

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
IMAGE_INPUT = "pixel_values"
IMAGE_SIDES = (64, 224)
"""Sides to try, in pixels, where nothing names one: small is fast, 224 is what most models were trained on."""

KNOWN_AXES: dict[str, dict[int, str]] = {
    "input_ids": {0: BATCH, 1: SEQUENCE},
    "attention_mask": {0: BATCH, 1: SEQUENCE},
    "token_type_ids": {0: BATCH, 1: SEQUENCE},
    "position_ids": {0: BATCH, 1: SEQUENCE},
    IMAGE_INPUT: {0: BATCH, 2: HEIGHT, 3: WIDTH},
}
"""What the axes of the usual inputs mean, for inputs that a user gives to a Transformers model."""

Candidate = tuple[FlatModel, Examples]


def candidates(source: ModelSource, given: Any) -> Iterator[Candidate]:
    """Ways to call the model, the likeliest first; the first that runs is taken.

    Args:
        given: `inputs=`, or `None`.

    Raises:
        InputsError: nothing was given and nothing can be made up.
    """
    if given is not None:
        yield _given(source, given)
    elif source.kind == "torch":
        name = type(source.model).__name__
        raise InputsError(
            f"{name} is a plain module and no inputs were given: its forward takes "
            f"({', '.join(_parameters(source.model))})",
            fix=f"{inputs_fix(source.model)}; or call it in a cell: %%onnx_export model",
        )
    elif _is_sound(source):
        yield from _sound(source)
    elif _is_image(source):
        yield from _image(source)
    else:
        yield from _text(source)


def encoder_candidates(source: ModelSource) -> Iterator[Examples]:
    """Example inputs for the encoder of an encoder-decoder, the likeliest first.

    Raises:
        InputsError: it reads neither text nor images nor sound.
    """
    main = getattr(source.model, "main_input_name", None)
    if _is_sound(source):
        yield from audio_examples(source, _float_dtype(source.model))
    elif main == IMAGE_INPUT:
        yield from (examples for _, examples in _image(source))
    elif main == "input_ids":
        row = TASKS.get(source.task or "")
        texts = (row.examples if row and row.examples else TASKS["feature-extraction"].examples)[:2]
        names = ("input_ids", "attention_mask")
        yield text_examples(source.config, source.tokenizer, names, texts)
    else:
        raise InputsError(
            f"{source.architecture} takes {main!r}: example inputs for its encoder cannot be made up",
            fix="task=feature-extraction inputs=dict(...)  # tensors on which the model runs",
        )


def _parameters(model: torch.nn.Module) -> dict[str, inspect.Parameter]:
    return dict(signature_of(model).parameters)


def _is_image(source: ModelSource) -> bool:
    row = TASKS.get(source.task or "")
    if row is not None and row.modality == "image":
        return True
    return getattr(source.model, "main_input_name", None) == IMAGE_INPUT


def _is_sound(source: ModelSource) -> bool:
    return getattr(source.model, "main_input_name", None) in AUDIO_INPUTS


def _sound(source: ModelSource) -> Iterator[Candidate]:
    for examples in audio_examples(source, _float_dtype(source.model)):
        yield FlatModel(source.model, keyword_binding(source.model, tuple(examples.traced))), examples


def keyword_binding(model: torch.nn.Module, names: tuple[str, ...]) -> Binding:
    """Call by keyword; no cache, and named outputs, where the forward lets one say so."""
    takes = _parameters(model)
    settled = {name: value for name, value in (("use_cache", False), ("return_dict", True)) if name in takes}
    return Binding((), {**{name: Leaf(name) for name in names}, **settled})


def _text(source: ModelSource) -> Iterator[Candidate]:
    takes = _parameters(source.model)
    if "input_ids" not in takes:
        main = getattr(source.model, "main_input_name", None) or next(iter(takes), "?")
        raise InputsError(
            f"{source.architecture} takes {main!r}: its example inputs cannot be made up",
            fix=f"inputs=dict({main}={main})  # a tensor on which model({main}={main}) runs",
        )
    names = tuple(name for name in takes if name in _wanted(source))
    row = TASKS.get(source.task or "")
    samples = row.examples if row and row.examples else TASKS["feature-extraction"].examples
    flat = FlatModel(source.model, keyword_binding(source.model, names))
    choices = bool(row and row.extra_axes)
    for batch in (2, 1):  # a head without a padding token takes no batch
        yield flat, text_examples(source.config, source.tokenizer, names, samples, choices=choices, batch=batch)


def _wanted(source: ModelSource) -> set[str]:
    """Of the usual text inputs, those that this model's tokenizer makes, or that its config speaks of."""
    if source.tokenizer is not None and getattr(source.tokenizer, "model_input_names", None):
        return {"input_ids", *source.tokenizer.model_input_names} & set(TEXT_INPUTS)
    types = int(getattr(source.config, "type_vocab_size", 0) or 0)
    return set(TEXT_INPUTS) if types > 1 else set(TEXT_INPUTS) - {"token_type_ids"}


def _image(source: ModelSource) -> Iterator[Candidate]:
    flat = FlatModel(source.model, keyword_binding(source.model, (IMAGE_INPUT,)))
    encoder = getattr(source.config, "encoder", source.config)
    channels = int(getattr(encoder, "num_channels", None) or 3)
    dtype = _float_dtype(source.model)
    stated = _image_size(source)
    for height, width in [stated] if stated else [(side, side) for side in IMAGE_SIDES]:
        for batch in (2, 1):
            yield flat, image_examples(IMAGE_INPUT, channels, (height, width), "config", batch=batch, dtype=dtype)


def _image_size(source: ModelSource) -> tuple[int, int] | None:
    """Height and width: what the processor hands to the model, else what the config says."""
    backbone = getattr(source.config, "backbone_config", None)
    sizes = [
        getattr(source.processor, "crop_size", None) if getattr(source.processor, "do_center_crop", False) else None,
        getattr(source.processor, "size", None),
        getattr(source.config, "image_size", None),
        getattr(getattr(source.config, "encoder", None), "image_size", None),
        getattr(backbone, "image_size", None),
    ]
    for size in sizes:
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple) and len(size) == 2:
            return int(size[0]), int(size[1])
        height, width, edge = (_member(size, name) for name in ("height", "width", "shortest_edge"))
        if height and width:
            return height, width
        if edge:
            return edge, edge
    return None


def _member(size: Any, name: str) -> int | None:
    """A processor's size, of a mapping or of an object."""
    value = size.get(name) if isinstance(size, Mapping) else getattr(size, name, None)
    return int(value) if value else None


def _float_dtype(model: torch.nn.Module) -> str:
    first = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    return str(first).removeprefix("torch.") if first is not None else "float32"


def _given(source: ModelSource, given: Any) -> Candidate:
    """What the user gave: recorded calls, texts, or tensors as one would pass them to the model."""
    if isinstance(given, CapturedCalls):
        return _captured(source, given)
    if _are_texts(given):
        if source.tokenizer is None:
            raise InputsError(
                f"inputs are texts, and {source.architecture} has no tokenizer",
                fix="inputs=tokenizer(texts, return_tensors='pt', padding=True)",
            )
        given = source.tokenizer(list(given), padding=True, truncation=True, return_tensors="pt")
        names = set(_parameters(source.model))
        given = {name: tensor for name, tensor in given.items() if name in names}
    args, kwargs = _as_call(source.model, given)
    return _bound(source, args, kwargs)


def _are_texts(given: Any) -> bool:
    return isinstance(given, list | tuple) and len(given) > 0 and all(isinstance(text, str) for text in given)


def _as_call(model: torch.nn.Module, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = _tensors_in(given)
    takes = _parameters(model)
    if isinstance(given, Mapping):
        if set(given) <= set(takes) or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values()):
            return (), dict(given)
        return (given,), {}
    if isinstance(given, tuple):
        return given, {}
    return (given,), {}


def _tensors_in(value: Any) -> Any:
    """NumPy arrays become tensors, wherever they stand."""
    if isinstance(value, np.ndarray):
        return to_tensors({"": value})[""]
    if isinstance(value, Mapping):
        return {key: _tensors_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_tensors_in(item) for item in value)
    return value


def _bound(source: ModelSource, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Candidate:
    if source.kind != "torch":
        settled = keyword_binding(source.model, ()).kwargs
        kwargs = {**settled, **kwargs}
    binding, tensors = bind_call(source.model, args, kwargs)
    traced = to_arrays(tensors)
    if source.kind != "torch" and set(traced) <= set(KNOWN_AXES):
        axes = {name: KNOWN_AXES[name] for name in traced}
        return FlatModel(source.model, binding), given_examples(traced, axes, named=True)
    return FlatModel(source.model, binding), given_examples(traced, {})


def _captured(source: ModelSource, calls: CapturedCalls) -> Candidate:
    """Calls that were recorded in a cell: the first is traced; the axes at which they differ are those that move."""
    flat, examples = _bound(source, *calls.call)
    moved = {name: dict(axes) for name, axes in calls.axes.items() if axes}
    return flat, replace(examples, moved=moved) if moved else examples


def first_that_runs(ways: Iterator[Candidate], try_one: Callable[[FlatModel, Examples], Any], architecture: str) -> Any:
    """What `try_one` gives for the first way to call the model that does not raise.

    Raises:
        InputsError: the model raises on all of them: its own message, and the inputs' shapes.
    """
    failure: InputsError | None = None
    for flat, examples in ways:
        try:
            return try_one(flat, examples)
        except InputsError:
            raise
        except Exception as error:  # the user's model may raise anything
            failure = failure or model_raised(architecture, examples.traced, error, inputs_fix(flat.model))
            failure.__cause__ = failure.__cause__ or error
    assert failure is not None
    raise failure
