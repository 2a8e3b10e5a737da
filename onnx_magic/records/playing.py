"""What the live panel asks a person for, and what every backend answered to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from onnx_magic.records.results import Array, Comparison, RunResult, SideBySide

FieldKind: TypeAlias = Literal["line", "lines", "image", "expression", "size"]
"""One line of text; several lines; an image's path or upload; a Python expression; a whole number."""

FormKind: TypeAlias = Literal["texts", "question", "choices", "image", "arrays"]


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
class Timing:
    """How long one backend takes for one input.

    Args:
        seconds: Median of `runs` runs.
        runs: How many runs it is the median of.
        warm: Whether a run that does not count came before them.
        threads: Threads that one operator may use; 0 where the library decides: one per core.
    """

    seconds: float
    runs: int = 1
    warm: bool = False
    threads: int = 0


@dataclass(frozen=True, eq=False)
class PlayedAnswer:
    """What one backend answered, or why it did not.

    Args:
        name: `PyTorch`, `ONNX Runtime`, or the variant's name.
        result: Outputs and the decoded answer; `None` where it failed.
        timing: How long it takes.
        comparison: Against the first backend that answered; `None` for that one itself.
        error: Why there is no answer, one line.
        fix: What to do about it, one line.
    """

    name: str
    result: RunResult | None = None
    timing: Timing | None = None
    comparison: Comparison | None = None
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
    """

    name: str
    answers: tuple[PlayedAnswer, ...]
    feed: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        """The first two answers beside each other, the only one alone; `None` where no backend answered."""
        answered = [answer for answer in self.answers if answer.result is not None]
        if len(answered) < 2 or answered[0].result is None or answered[0].result.backend != "pytorch":
            return next((answer.result for answer in answered), None)
        compared = answered[1].comparison
        return SideBySide(answered[0].result, answered[1].result, (compared,) if compared else (), self.notes)
