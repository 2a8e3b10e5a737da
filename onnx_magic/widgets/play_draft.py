"""What is tried in the live panel: the inputs, what is looked at, the answers, and what went wrong and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnx_magic.display.failures import error_text
from onnx_magic.display.wording import shown
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.option_values import parse_int, parse_tolerance
from onnx_magic.records.playing import Played, PlayView
from onnx_magic.widgets.play_inputs import Backends, Evaluate, FieldError, Filled, filled_of, inputs_of, options_of

_AGAIN = "exported.run(panel.inputs) in a cell shows where"


@dataclass(frozen=True)
class Problem:
    """Why there is no answer to what was filled in.

    Args:
        place: The field or choice that is wrong; empty where none of them is by itself.
        what: What failed, one line.
        fix: What to do, one line.
    """

    place: str
    what: str
    fix: str


class PlayDraft:
    """One panel's state. `played` are always the answers of the last input that could be run.

    Args:
        backends: What answers.
        evaluate: Gives the value of an expression, for arrays.
        view: What is looked at in the beginning.
    """

    def __init__(self, backends: Backends, evaluate: Evaluate, view: PlayView | None = None) -> None:
        self.backends, self._evaluate = backends, evaluate
        self.view = view or PlayView()
        """What is looked at of the answers."""
        self.filled: dict[str, str] = {field.name: field.value for field in backends.form.fields}
        self.inputs: Any = None
        """What was run last."""
        self.by_code = False
        """Whether `inputs` came from Python and the form cannot hold it."""
        self.played: Played | None = None
        self.problem: Problem | None = None

    def run_filled(self, filled: Filled, upload: bytes | None = None) -> None:
        """Run what was filled in.

        Raises:
            OnnxMagicError: it cannot be run; `FieldError` names the field.
        """
        self.filled = {**self.filled, **filled}
        inputs = inputs_of(self.backends, self.filled, self._evaluate, upload)
        self._run(inputs)
        self.by_code = False

    def run_inputs(self, inputs: Any) -> None:
        """Run what `exported.run` takes.

        Raises:
            OnnxMagicError: it cannot be run.
        """
        self._run(inputs)
        filled = filled_of(self.backends.form, inputs)
        self.by_code = filled is None
        self.filled = {**self.filled, **(filled or {})}

    def choose(self, name: str, value: Any) -> None:
        """Look at something else: `output`, `sample`, `top_k`, `atol`, `rtol`, as a value or as typed text.

        Raises:
            FieldError: there is no such thing to look at.
        """
        try:
            read = _CHOICES[name](self, value)
        except (ValueError, OnnxMagicError) as error:
            what = error.what if isinstance(error, OnnxMagicError) else str(error)
            fix = (error.fix if isinstance(error, OnnxMagicError) else "") or _FIXES[name]
            raise FieldError(name, what if name in what else f"{name}: {what}", fix=fix) from error
        changed: dict[str, Any] = {name: read}
        view = dataclasses.replace(self.view, **changed)
        if self.played is not None:
            self.played = self.backends.look(view)
        self.view = view

    def attempt(self, work: Callable[[], None]) -> bool:
        """Do what the view asked for; `problem` says why not, where it could not be done. Nothing is raised."""
        self.problem = None
        try:
            work()
        except KeyboardInterrupt:
            told = "Interrupted: the answers below are those of the input before" if self.played else "Interrupted"
            self.problem = Problem("", told, "press Run")
        except OnnxMagicError as error:
            place = error.place if isinstance(error, FieldError) else ""
            self.problem = Problem(place, shown(error.what, 700), shown(error.fix, 700))
        except Exception as error:  # the live model and variants are the user's own code, and may raise anything
            self.problem = Problem("", error_text(error).splitlines()[0], _AGAIN)
        return self.problem is None

    def _run(self, inputs: Any) -> None:
        played = self.backends.run(inputs, self.view, options_of(self.backends.form, self.filled))
        output = self.view.output if self.view.output in played.outputs else next(iter(played.outputs), "")
        sample = self.view.sample if self.view.sample < played.samples else 0
        view = dataclasses.replace(self.view, output=output, sample=sample)
        self.played = played if view == self.view else self.backends.look(view)
        self.view, self.inputs = view, inputs

    def _read_output(self, value: Any) -> str:
        outputs = self.played.outputs if self.played is not None else ()
        if value not in outputs:
            listed = ", ".join(shown(name) for name in outputs) or "none yet"
            raise UsageError(f"there is no output {shown(str(value))!r}: there is {listed}", fix="choose one of them")
        return str(value)

    def _read_sample(self, value: Any) -> int:
        samples, number = self.played.samples if self.played is not None else 1, _whole(value)
        if not 0 <= number < samples:
            raise UsageError(f"there is no sample {number}: they are numbered 0 to {samples - 1}", fix="sample = 0")
        return number

    def _read_top_k(self, value: Any) -> int | None:
        if _is_empty(value):
            return None
        number = _whole(value)
        if number < 1:
            raise UsageError(f"top_k is {number}, expected 1 or more", fix="top_k=5")
        return number

    def _read_tolerance(self, value: Any) -> float | None:
        return None if _is_empty(value) else parse_tolerance(str(value).strip())


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _whole(value: Any) -> int:
    return parse_int(str(value).strip()[:12])


_CHOICES: Mapping[str, Callable[[PlayDraft, Any], Any]] = {
    "output": PlayDraft._read_output,
    "sample": PlayDraft._read_sample,
    "top_k": PlayDraft._read_top_k,
    "atol": PlayDraft._read_tolerance,
    "rtol": PlayDraft._read_tolerance,
}
"""What can be looked at → how it is read."""

_FIXES = {
    "output": "choose one",
    "sample": "sample = 0",
    "top_k": "top_k=5",
    "atol": "atol=1e-4",
    "rtol": "rtol=1e-3",
}
