"""What the live panel asks a person for, and what every backend answered to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from onnx_magic.records.latency import Latency
from onnx_magic.records.results import Array, Comparison, OutputDiff, RunResult, SideBySide, VariantAnswer

FieldKind: TypeAlias = Literal["line", "lines", "image", "sound", "expression", "size", "option"]
"""A line of text; several; an image's or a sound's path or upload; a Python expression; a whole number; an option."""

FormKind: TypeAlias = Literal["texts", "question", "choices", "image", "sound", "arrays"]


@dataclass(frozen=True)
class PlayField:
    """One thing to fill in.

    Args:
        name: Its key in what was filled in.
        label: What it is called beside it.
        kind: How it is filled in.
        value: What stands in it at first.
        hint: What may be given, in a few words.
        optional: Whether most people leave it empty: folded away.
    """

    name: str
    label: str
    kind: FieldKind
    value: str = ""
    hint: str = ""
    optional: bool = False


@dataclass(frozen=True)
class PlayForm:
    """What a person fills in for one model.

    Args:
        kind: What is made of it.
        fields: What is asked for, in order.
        streams: Whether an answer comes piece by piece, and may take long: it is asked for, never run while typing.
    """

    kind: FormKind
    fields: tuple[PlayField, ...]
    streams: bool = False


@dataclass(frozen=True)
class PlayView:
    """What is looked at of the answers.

    Args:
        top_k: How many answers per sample; the task's own number where `None`.
        atol: Absolute tolerance; the export's where `None`.
        rtol: Relative tolerance.
        output: The output that is looked at closely; the first where there is none of that name.
        sample: The sample of it.
    """

    top_k: int | None = None
    atol: float | None = None
    rtol: float | None = None
    output: str = ""
    sample: int = 0


@dataclass(frozen=True, eq=False)
class PlayedAnswer:
    """What one backend answered, or why it did not.

    Args:
        name: `PyTorch`, `ONNX Runtime`, or the variant's name.
        result: Outputs and the decoded answer; `None` where it failed.
        comparison: Against the first backend that answered; `None` for that one itself.
        focus: The output that is looked at, at the sample that is looked at, with a closeup where it differs.
        error: Why there is no answer, one line.
        fix: What to do about it, one line.
    """

    name: str
    result: RunResult | None = None
    comparison: Comparison | None = None
    focus: OutputDiff | None = None
    error: str = ""
    fix: str = ""


@dataclass(frozen=True, eq=False)
class Played:
    """One input, and the answers of all backends to it, PyTorch's first where it is live.

    Args:
        name: The model's name.
        answers: One per backend.
        feed: The arrays that were fed: `{input: array}`.
        notes: What was done to the feed, and what a reader must know; a sentence each.
        latency: How long each backend takes.
    """

    name: str
    answers: tuple[PlayedAnswer, ...]
    feed: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    latency: Latency | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, those of every backend that answered, each once."""
        named = (name for answer in self.answers if answer.result is not None for name in answer.result.outputs)
        return tuple(dict.fromkeys(named))

    @property
    def samples(self) -> int:
        """How many samples were answered: the answers', else the length of the first axis of the feed."""
        for answer in self.answers:
            if answer.result is not None and isinstance(answer.result.decoded, list | tuple):
                return len(answer.result.decoded)
        return max((array.shape[0] for array in self.feed.values() if array.ndim), default=1)

    @property
    def result(self) -> SideBySide | RunResult | None:
        """PyTorch's answer beside the next one's and the others'; the first alone where PyTorch's side is missing."""
        answered = [answer for answer in self.answers if answer.result is not None]
        if len(answered) < 2 or answered[0].result is None or answered[0].result.backend != "pytorch":
            return next((answer.result for answer in answered), None)
        others = {
            answer.name: VariantAnswer(answer.result, () if answer.comparison is None else (answer.comparison,))
            for answer in answered[2:]
        }
        compared = () if answered[1].comparison is None else (answered[1].comparison,)
        return SideBySide(answered[0].result, answered[1].result, compared, self.notes, others)
