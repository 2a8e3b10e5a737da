"""What the live panel asks for, by task: texts, a question, an image, a sound; arrays where nothing else is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.examples import SEED, given_examples
from onnx_magic.engine.play_texts import option_fields
from onnx_magic.engine.tasks import TASKS
from onnx_magic.errors import FeedError
from onnx_magic.records.plan import TensorSpec
from onnx_magic.records.playing import PlayField, PlayForm
from onnx_magic.records.results import Array
from onnx_magic.runtime.feeds import numpy_dtype
from onnx_magic.runtime.generating import ENCODER, is_generator
from onnx_magic.runtime.listening import AUDIO_INPUTS
from onnx_magic.runtime.samples import IMAGE_INPUT

if TYPE_CHECKING:
    from onnx_magic.exported import ExportedModel

_DEFAULT_SIZE = 2
_MOST_VALUES = 2**27
"""Values of one random array: 512 MB in float32."""

_PATH = "a file's path, where the kernel runs"

_LINES = "a sample a line; Shift+Enter begins one"

_BEGINNING = "Once upon a time"
"""What a decoder begins from at first; the task's samples are for a proof, and read as one."""


def form_of(exported: ExportedModel, asked: Mapping[str, Any] | None = None) -> PlayForm:
    """What a person fills in to run this model, with the task's own samples in it.

    Args:
        exported: The model.
        asked: Generation options that hold at first.
    """
    form, opened = _form_of(exported), exported.opened
    if not is_generator(opened):
        return form
    if form.kind == "arrays":  # a decoder without a tokenizer runs once; an encoder-decoder is never fed by parts
        return dataclasses.replace(form, streams=ENCODER in opened.graphs)
    return dataclasses.replace(form, fields=(*form.fields, *option_fields(opened, asked or {})), streams=True)


def _form_of(exported: ExportedModel) -> PlayForm:
    opened = exported.opened
    names = {spec.name for spec in opened.reading.inputs}
    if IMAGE_INPUT in names and opened.image_processor is not None:
        return PlayForm("image", (PlayField("image", "image", "image", hint=f"{_PATH}; empty: an image of noise"),))
    if names & {*AUDIO_INPUTS} and opened.audio_processor is not None:
        return PlayForm("sound", (PlayField("sound", "sound", "sound", hint=f"{_PATH}; empty: a second of noise"),))
    takes_text = any(spec.dtype == "str" for spec in exported.inputs)
    if takes_text or ("input_ids" in names and opened.tokenizer is not None):
        return _text_form(exported)
    return _array_form(exported)


def _text_form(exported: ExportedModel) -> PlayForm:
    task = exported.task or ""
    row = TASKS.get(task)
    samples: list[Any] = list(row.examples) if row is not None and row.examples else ["A text to try."]
    if task == "question-answering":
        question, context = samples[0]
        asked = PlayField("question", "question", "line", question)
        return PlayForm("question", (asked, PlayField("context", "context", "lines", context)))
    if task == "multiple-choice":
        prompt, choices = samples[0]
        told = "a choice a line; Shift+Enter begins one"
        listed = PlayField("choices", "choices", "lines", "\n".join(choices), told)
        return PlayForm("choices", (PlayField("prompt", "prompt", "line", prompt), listed))
    if is_generator(exported.opened):
        begun = samples[0] if ENCODER in exported.opened.graphs else _BEGINNING
        return PlayForm("texts", (PlayField("text", "text", "lines", str(begun), _LINES),))
    tokenizer = exported.opened.tokenizer
    mask = (tokenizer.mask_token if tokenizer else None) or "[MASK]"
    text = "\n".join(str(sample).replace("{mask}", mask) for sample in samples)
    hint = f"{_LINES}; the mask is {mask}" if task == "fill-mask" else _LINES
    fields = [PlayField("text", "text", "lines", text, hint)]
    if task == "text-classification":
        told = "for a model of pairs: a line for each line above"
        fields.append(PlayField("second", "second text", "lines", "", told, optional=True))
    return PlayForm("texts", tuple(fields))


def _array_form(exported: ExportedModel) -> PlayForm:
    traced = exported.plan.examples if exported.plan is not None else {}
    told = "a Python expression; empty: random values"
    fields = [PlayField(f"array:{spec.name}", str(spec), "expression", hint=told) for spec in exported.inputs]
    sizes: dict[str, int] = {}
    for spec in exported.inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim.isidentifier():
                sizes.setdefault(dim, int(traced[spec.name].shape[axis]) if spec.name in traced else _DEFAULT_SIZE)
    fields += [PlayField(f"size:{name}", name, "size", str(size)) for name, size in sizes.items()]
    return PlayForm("arrays", (*fields, PlayField("seed", "seed", "size", "0")))


def random_arrays(
    exported: ExportedModel, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int
) -> dict[str, Any]:
    """An array for every input: the given ones as they are, the others random and the same for the same seed.

    Values are like those that were traced, where the export is held; else normal noise for floats, ids below the
    vocabulary's size, ones for masks and zeros for other whole numbers.

    Args:
        given: Arrays by input; the sizes of their named axes hold for all inputs.
        sizes: Size of each axis by its name.
        seed: Of the random values.

    Raises:
        FeedError: a size below 1, or one that would fill the memory.
    """
    known = {**sizes}
    for spec in exported.inputs:
        shape = np.shape(given[spec.name]) if hasattr(given.get(spec.name), "shape") else ()
        known |= {dim: n for dim, n in zip(spec.shape, shape, strict=False) if isinstance(dim, str)}
    shapes = {spec.name: _shape(spec, known) for spec in exported.inputs if spec.name not in given}
    plan = exported.plan
    if plan is not None and shapes.keys() <= plan.examples.keys():
        named: Any = {dim: size for dim, size in known.items() if dim.isidentifier()}
        made: Mapping[str, Any] = given_examples(plan.examples, plan.dynamic).at(seed, **named)
    else:
        random = np.random.default_rng([SEED, seed])
        vocabulary = int(exported.opened.config.get("vocab_size") or 2)
        made = {s.name: _values(s, shapes[s.name], random, vocabulary) for s in exported.inputs if s.name in shapes}
    return {spec.name: given.get(spec.name, made.get(spec.name)) for spec in exported.inputs}


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    shape = tuple(dim if isinstance(dim, int) else _size(dim, sizes) for dim in spec.shape)
    for dim, size in zip(spec.shape, shape, strict=True):
        if size < 1 and isinstance(dim, str):
            raise FeedError(f"{dim} is {size}: expected a size from 1 on", fix=f"{dim} = {_DEFAULT_SIZE}")
    if float(np.prod([float(size) for size in shape])) > _MOST_VALUES:
        raise FeedError(
            f"{spec.name} would hold {' × '.join(map(str, shape))} values: random arrays have up to {_MOST_VALUES}",
            fix="smaller sizes, or an array of your own as the expression",
        )
    return shape


def _size(dim: str, sizes: Mapping[str, int]) -> int:
    """The size of an axis; of a sum (`past_sequence_length + sequence_length`) that of its parts."""
    if dim in sizes:
        return int(sizes[dim])
    parts = [part.strip() for part in dim.split("+")]
    return sum(int(sizes.get(part, part if part.isdecimal() else _DEFAULT_SIZE)) for part in parts)


def _values(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator, vocabulary: int) -> Array:
    if spec.dtype == "str":
        return np.full(shape, "a text", object)
    dtype = numpy_dtype(spec.dtype)
    if dtype.kind in "iub":
        if "mask" in spec.name or dtype.kind == "b":
            return np.ones(shape, dtype)
        if spec.name == "input_ids":
            return random.integers(0, vocabulary, shape).astype(dtype)
        return np.zeros(shape, dtype)
    return np.asarray(random.standard_normal(shape)).astype(dtype)
