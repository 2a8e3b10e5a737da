"""What was found while exporting or checking: one sentence each, with the place and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["failure", "warning", "note"]
"""`failure`: the verdict is not "verified"; `warning`: verified, but read this; `note`: what was decided for you."""

CODES = {
    "axis-baked": "an axis called dynamic accepts one size only",
    "axis-specialised": "tracing fixed the size of an axis that was to be dynamic",
    "axis-range": "an axis is dynamic within limits",
    "axis-pinned": "an axis was made static because the graph is wrong at other sizes",
    "input-vanished": "an input that the model accepts is not an input of the graph",
    "not-finite": "an output holds NaN or infinity",
    "inputs-ignored": "the outputs do not depend on the inputs",
    "below-tolerance": "an output moves by less than the tolerance, so that it could be wrong and pass",
    "branch-untested": "the graph holds one branch of Python code that looks at values, and no input took the other",
    "not-repeatable": "the model itself answers differently when it is given the same inputs again",
    "output-constant": "one output does not depend on the inputs, others do",
    "values-differ": "an output differs from PyTorch by more than the tolerance",
    "shape-differs": "an output has another shape than PyTorch's",
    "dtype-differs": "an output has another dtype than PyTorch's",
    "meaning-differs": "the answer (label, token, span) is another than PyTorch's",
    "tokens-differ": "generating with the graph gives another token than PyTorch's `generate`",
    "token-tie": "a generated token is another, where two are equally likely within the tolerance",
    "tokens-repeat": "the model generates one token for ever, so that its tokens prove little",
    "graph-refused": "ONNX Runtime, or the ONNX checker, does not take the graph",
    "runtime-rewrites": "the file is right, and ONNX Runtime's graph optimisations make its outputs differ",
    "run-failed": "the graph raised at a shape it should take",
    "shape-illegal": "the model itself does not take a shape that was tried",
    "weights-widened": "the weights have a dtype that ONNX Runtime cannot run, and were widened for the export",
    "export-branch": "the forward asks whether it is exported, and the graph is what it does then",
    "fallback": "the first way to export failed, another one was used",
    "opset-other": "another opset was written than asked for",
    "quirk-applied": "a known quirk of this architecture was worked around",
    "too-few-shapes": "fewer shapes than usual could be tried",
    "not-validated": "validation was switched off",
    "float-reference": "a variant was held against the float graph, for PyTorch could not be had",
    "variant-stale": "a variant was made from other weights than the export's",
    "accuracy-missed": "the agreement that was asked for was not reached",
    "layers-kept": "layers of a variant stayed as they were",
    "half-overflow": "values of a layer do not fit into float16",
    "nothing-changed": "an optimisation found nothing to change",
    "provider-bound": "a graph was made for one execution provider",
}
"""Every code a Finding may carry, and what it means."""


INCONCLUSIVE = ("inputs-ignored", "below-tolerance", "branch-untested")
"""Codes of failures that leave the verdict open: what was compared agrees, and that proves too little."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in a sentence, with its place and what to do about it.

    Args:
        code: A key of `CODES`.
        sentence: What was found, complete: names the tensor, axis or layer, observed against expected.
        level: How much it matters for the verdict.
        fix: One line to run or type; empty when nothing needs doing.
        tensor: The input or output concerned.
        axis: The axis of `tensor` concerned.
        layer: The PyTorch module path concerned (`bert.encoder.layer.0`).
        line: The source line (`cell[3]:4`, `transformers/models/bert/modeling_bert.py:88`).

    Example:
        >>> Finding("axis-baked", "axis 0 of x takes 2 only", tensor="x", axis=0).level
        'failure'
    """

    code: str
    sentence: str
    level: Level = "failure"
    fix: str = ""
    tensor: str | None = None
    axis: int | None = None
    layer: str | None = None
    line: str | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code!r} is no finding code; expected one of {', '.join(CODES)}")

    def __str__(self) -> str:
        """The sentence, and the fix on a line of its own."""
        return f"{self.sentence}\n  fix: {self.fix}" if self.fix else self.sentence
