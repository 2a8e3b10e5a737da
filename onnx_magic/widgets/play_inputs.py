"""What was filled in in the live panel's form → what the backends are asked; and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, get_args

from onnx_magic import options
from onnx_magic.display.wording import plural, shown
from onnx_magic.errors import FeedError, OnnxMagicError
from onnx_magic.records.playing import Played, PlayForm, PlayView

Filled: TypeAlias = Mapping[str, str]
"""The text of each field, by its name."""

Evaluate: TypeAlias = Callable[[str], Any]
"""The value of a Python expression in the user's namespace."""


class Backends(Protocol):
    """What the panel calls: `engine.playing.Player`, handed in by the front end."""

    name: str
    form: PlayForm

    def arrays(self, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
        """An array for every input: the given ones, the others random."""

    def image(self, data: bytes) -> Any:
        """The image in a file's bytes."""

    def sound(self, data: bytes) -> Any:
        """The sound in a file's bytes."""

    def sample_inputs(self) -> Any:
        """An input to begin with where the form cannot hold one."""

    def run(self, inputs: Any, view: PlayView | None = None, options: Mapping[str, Any] | None = None) -> Played:
        """The answers of all backends; `options` are those of the form."""

    def look(self, view: PlayView | None = None) -> Played:
        """The last answers, looked at in another way."""


class FieldError(FeedError):
    """A field that cannot be meant: `place` is its name."""

    def __init__(self, place: str, what: str, *, fix: str) -> None:
        super().__init__(what, fix=fix)
        self.place = place


def inputs_of(backends: Backends, filled: Filled, evaluate: Evaluate, upload: bytes | None = None) -> Any:
    """What `exported.run` takes, from a form that was filled in.

    Args:
        backends: Whose form it is.
        filled: The text of each field; a missing one is empty.
        evaluate: Gives the value of an expression.
        upload: A file that was picked, for an image or a sound.

    Raises:
        FieldError: a field is empty, or is not what it should be.
        FeedError: the image, the sound or the sizes cannot be had.
    """
    return _MAKERS[backends.form.kind](backends, filled, evaluate, upload)


def options_of(form: PlayForm, filled: Filled) -> dict[str, Any]:
    """The options of `run` that the form asks for; None where a field is empty.

    Raises:
        FieldError: one that cannot be read.

    Example:
        >>> options_of(PlayForm("texts", (PlayField("seed", "seed", "option"),)), {"seed": "7"})
        {'seed': 7}
    """
    found: dict[str, Any] = {}
    for field in form.fields:
        if field.kind == "option":
            text = filled.get(field.name, "").strip()
            annotation, example = _OPTIONS[field.name]
            try:
                found[field.name] = get_args(annotation)[1].parse(text[:24]) if text else None
            except ValueError as error:
                raise FieldError(field.name, f"{field.label}: {error}", fix=f"{field.name}={example}") from error
    return found


def filled_of(form: PlayForm, inputs: Any) -> dict[str, str] | None:
    """The form filled in as `inputs` has it; `None` where the form cannot hold it.

    Example:
        >>> filled_of(PlayForm("texts", ()), ["a", "b"])
        {'text': 'a\\nb', 'second': ''}
    """
    if form.kind == "texts":
        return _filled_texts(inputs if isinstance(inputs, list) else [inputs])
    if form.kind == "question" and isinstance(inputs, Mapping) and set(inputs) == {"question", "context"}:
        return {name: str(inputs[name]) for name in ("question", "context")}
    if form.kind == "choices" and isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], list):
        return {"prompt": str(inputs[0]), "choices": "\n".join(map(str, inputs[1]))}
    if form.kind in ("image", "sound") and isinstance(inputs, str):
        return {form.kind: inputs}
    return None


def _filled_texts(samples: list[Any]) -> dict[str, str] | None:
    def is_line(text: Any) -> bool:
        return isinstance(text, str) and bool(text.strip()) and "\n" not in text

    if samples and all(map(is_line, samples)):
        return {"text": "\n".join(samples), "second": ""}
    pairs = [
        sample for sample in samples if isinstance(sample, tuple) and len(sample) == 2 and all(map(is_line, sample))
    ]
    if samples and len(pairs) == len(samples):
        return {"text": "\n".join(one for one, _ in pairs), "second": "\n".join(two for _, two in pairs)}
    return None


def _lines(filled: Filled, name: str) -> list[str]:
    return [line.strip() for line in filled.get(name, "").splitlines() if line.strip()]


def _needed(filled: Filled, name: str, example: str) -> str:
    text = filled.get(name, "").strip()
    if not text:
        raise FieldError(name, f"the {name} is empty", fix=f"type one, such as: {example}")
    return text


def _texts(backends: Backends, filled: Filled, _evaluate: Evaluate, _upload: bytes | None) -> Any:
    _needed(filled, "text", "I loved every minute of it.")
    texts, second = _lines(filled, "text"), _lines(filled, "second")
    if second and len(second) != len(texts):
        what = f"{plural(len(texts), 'text')} and {plural(len(second), 'second text')}: expected as many as texts"
        raise FieldError("second", what, fix="a line in the second text for each line in the first, or none")
    samples: list[Any] = list(zip(texts, second, strict=True)) if second else texts
    return samples[0] if len(samples) == 1 else samples


def _question(backends: Backends, filled: Filled, _evaluate: Evaluate, _upload: bytes | None) -> Any:
    question = _needed(filled, "question", "Who wrote the program?")
    return {"question": question, "context": _needed(filled, "context", "Ada Lovelace wrote the first program.")}


def _choices(backends: Backends, filled: Filled, _evaluate: Evaluate, _upload: bytes | None) -> Any:
    prompt = _needed(filled, "prompt", "The glass fell off the table and")
    _needed(filled, "choices", "it broke.")
    return prompt, _lines(filled, "choices")


def _image(backends: Backends, filled: Filled, _evaluate: Evaluate, upload: bytes | None) -> Any:
    if upload is not None:
        return backends.image(upload)
    return filled.get("image", "").strip() or backends.sample_inputs()


def _sound(backends: Backends, filled: Filled, _evaluate: Evaluate, upload: bytes | None) -> Any:
    if upload is not None:
        return backends.sound(upload)
    return filled.get("sound", "").strip() or backends.sample_inputs()


def _arrays(backends: Backends, filled: Filled, evaluate: Evaluate, _upload: bytes | None) -> Any:
    given, sizes = {}, {}
    for field in backends.form.fields:
        text, key = filled.get(field.name, "").strip(), field.name.partition(":")[2]
        if field.kind == "expression" and text:
            given[key] = _evaluated(field.name, key, text, evaluate)
        elif field.kind == "size":
            sizes[key or field.name] = _whole(field.name, field.label, text or field.value)
    return backends.arrays(given, sizes, sizes.pop("seed", 0))


def _evaluated(place: str, name: str, text: str, evaluate: Evaluate) -> Any:
    try:
        return evaluate(text)
    except OnnxMagicError:
        raise
    except Exception as error:  # the user's own expression may raise anything
        said = f"{shown(name)}: {shown(text)} raises {type(error).__name__}: {shown(str(error), 200)}"
        raise FieldError(place, said, fix="np.zeros((2, 3), 'float32'), or a variable of yours") from error


def _whole(place: str, label: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise FieldError(place, f"{label} cannot be {shown(text)!r}: expected a whole number", fix=f"{label} = 2")
    return int(text)


_OPTIONS: Mapping[str, tuple[Any, str]] = {
    "max_new_tokens": (options.MaxNewTokens, "40"),
    "temperature": (options.Temperature, "0.7"),
    "seed": (options.Seed, "0"),
}
"""The options that a form asks for → how `run` reads them, and an example."""

_MAKERS: Mapping[str, Callable[[Backends, Filled, Evaluate, bytes | None], Any]] = {
    "texts": _texts,
    "question": _question,
    "choices": _choices,
    "image": _image,
    "sound": _sound,
    "arrays": _arrays,
}
"""The form's kind → how it is read."""
