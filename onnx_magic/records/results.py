"""What a run, a comparison and a validation gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from onnx_magic.records.closeups import Closeup
from onnx_magic.records.findings import INCONCLUSIVE, Finding
from onnx_magic.records.latency import Latency

if TYPE_CHECKING:
    import pandas

Array: TypeAlias = np.ndarray[Any, Any]
Status: TypeAlias = Literal["verified", "failed", "unchecked"]


@dataclass(frozen=True)
class OutputDiff:
    """How far one output of ONNX Runtime is from PyTorch's.

    Args:
        name: The output.
        expected_shape: PyTorch's shape.
        actual_shape: ONNX Runtime's shape.
        expected_dtype: PyTorch's dtype, NumPy's name of it.
        actual_dtype: ONNX Runtime's dtype.
        max_abs: Largest absolute difference; NaN when the shapes differ.
        max_rel: Largest of |actual - expected| / (|expected| + atol); NaN when the shapes differ.
        cosine: Cosine of the two flattened outputs; NaN when the shapes differ.
        atol: Absolute tolerance that was applied.
        rtol: Relative tolerance that was applied.
        finite: Whether ONNX Runtime's values are finite wherever PyTorch's are.
        passed: |actual - expected| <= atol + rtol * |expected| everywhere, same shape, same dtype, finite.
        worst: Index of the largest difference, `None` when there is none to point at.
        closeup: Where the two differ, in a small picture and a few values; `None` where nobody asked for it.
    """

    name: str
    expected_shape: tuple[int, ...]
    actual_shape: tuple[int, ...]
    expected_dtype: str
    actual_dtype: str
    max_abs: float
    max_rel: float
    cosine: float
    atol: float
    rtol: float
    finite: bool
    passed: bool
    worst: tuple[int, ...] | None = None
    closeup: Closeup | None = field(default=None, compare=False, repr=False)

    def __bool__(self) -> bool:
        """Whether this output passed."""
        return self.passed


@dataclass(frozen=True)
class Agreement:
    """Of `total` answers (`kind`: label, token, span, choice), `agreed` are the same on both sides.

    A tie on the expected side, within the tolerance of the logits, counts as agreed either way.
    """

    kind: str
    agreed: int
    total: int

    def __bool__(self) -> bool:
        """Whether all answers agree."""
        return self.agreed == self.total

    def __str__(self) -> str:
        """`label 5/5`."""
        return f"{self.kind} {self.agreed}/{self.total}"


@dataclass(frozen=True)
class Comparison:
    """ONNX Runtime against PyTorch at one set of inputs. `bool()` is "passed".

    Args:
        label: What was tried: `traced`, `batch 1`, `length 22`, `padded`, ...
        shapes: Shape of each input: `{name: shape}`.
        diffs: One per output of PyTorch, in its order.
        agreement: Whether the answers mean the same; `None` where the task has no answer to compare.
        error: Why the graph did not run here, in one line; `None` when it ran.
        rule: What a variant was asked for, as a sentence's part; empty where the tolerances of an export apply.
    """

    label: str
    shapes: Mapping[str, tuple[int, ...]]
    diffs: tuple[OutputDiff, ...] = ()
    agreement: Agreement | None = None
    error: str | None = None
    rule: str = ""

    @property
    def passed(self) -> bool:
        """Ran, every output within tolerance, and the answers mean the same."""
        return (
            self.error is None
            and bool(self.diffs)
            and all(self.diffs)
            and (self.agreement is None or bool(self.agreement))
        )

    def __bool__(self) -> bool:
        """Whether this comparison passed."""
        return self.passed

    @property
    def max_abs(self) -> float:
        """Largest absolute difference over all outputs; NaN when nothing could be compared."""
        return max((d.max_abs for d in self.diffs), default=float("nan"))

    def to_frame(self) -> pandas.DataFrame:
        """One row per output, as a pandas DataFrame."""
        return _frame([_diff_row(self, diff) for diff in self.diffs])


@dataclass(frozen=True)
class Validation:
    """The verdict on an exported graph: a Comparison per shape tried, and the findings. `bool()` is "verified".

    Args:
        comparisons: One per shape that was tried, the traced one first.
        findings: What was found, failures first.
        checks: Checks of the file itself, by name: `{"onnx.checker": True, ...}`.
        atol: Absolute tolerance by dtype.
        rtol: Relative tolerance by dtype.
        checked: False when validation was switched off or could not be carried out.
    """

    comparisons: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    checks: Mapping[str, bool] = field(default_factory=dict)
    atol: Mapping[str, float] = field(default_factory=dict)
    rtol: Mapping[str, float] = field(default_factory=dict)
    checked: bool = True

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that keep the verdict from being "verified"."""
        return tuple(f for f in self.findings if f.level == "failure")

    @property
    def inconclusive(self) -> bool:
        """Agreement proves too little: outputs that ignore the inputs or are below tolerance; an untested branch."""
        return any(f.code in INCONCLUSIVE for f in self.failures)

    @property
    def status(self) -> Status:
        """`verified`, `failed`, or `unchecked` (switched off, or inconclusive)."""
        if not self.checked:
            return "unchecked"
        sound = bool(self.comparisons) and all(self.comparisons) and all(self.checks.values())
        if not sound or any(f.code not in INCONCLUSIVE for f in self.failures):
            return "failed"
        return "unchecked" if self.inconclusive else "verified"

    def __bool__(self) -> bool:
        """Whether the verdict is "verified"."""
        return self.status == "verified"

    def to_frame(self) -> pandas.DataFrame:
        """One row per shape and output, as a pandas DataFrame."""
        return _frame([_diff_row(c, diff) for c in self.comparisons for diff in c.diffs])


@dataclass(frozen=True, eq=False)
class RunResult:
    """What one backend answered.

    Args:
        outputs: `{output name: array}`, in the graph's order.
        decoded: The answer in the task's own terms, one entry per sample; `None` where the task has none.
        backend: `"onnxruntime"` or `"pytorch"`.
        provider: The execution provider (`CPUExecutionProvider`) or torch device (`cpu`) that answered.
        seconds: Wall time of the run itself, without tokenizing and decoding.
        notes: What was done to the feed to make it fit, a sentence each.
        feed: The arrays that were fed.
        tokens: Tokens that were generated, over all rows; 0 where none were.
    """

    outputs: Mapping[str, Array]
    decoded: Any = None
    backend: str = "onnxruntime"
    provider: str = "CPUExecutionProvider"
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    feed: Mapping[str, Array] = field(default_factory=dict)
    tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second, over all rows; NaN where none were generated."""
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else float("nan")

    def __getitem__(self, name: str) -> Array:
        """The output called `name`."""
        return self.outputs[name]


@dataclass(frozen=True, eq=False)
class VariantAnswer:
    """What a variant of the export answered (int8, q4), and how far it is from PyTorch.

    Args:
        answer: A RunResult, or the value of the cell.
        comparison: The tensors' differences from PyTorch's, a Comparison per call of the model.
        notes: What a reader must know.
    """

    answer: Any
    comparison: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SideBySide:
    """PyTorch's answer beside ONNX Runtime's, and how far apart they are. `bool()` is "they agree".

    Variants are there to be looked at: they drift by design, and do not count in `bool()`.

    Args:
        expected: PyTorch's: a RunResult, or the value of the cell.
        actual: ONNX Runtime's: a RunResult, or the value of the cell.
        comparison: The tensors' differences, a Comparison per call of the model.
        notes: What a reader must know (calls that bypassed the swap, no call at all).
        others: What variants answered: `{variant: VariantAnswer}`.
        latency: Times, where the person asked for them (`time=yes`).
        top_k: How many of the largest values are shown of an output that is too long to be shown whole.
    """

    expected: Any
    actual: Any
    comparison: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    others: Mapping[str, VariantAnswer] = field(default_factory=dict)
    latency: Latency | None = None
    top_k: int | None = None

    def __bool__(self) -> bool:
        """Whether every call agreed."""
        return bool(self.comparison) and all(self.comparison)


def _diff_row(comparison: Comparison, diff: OutputDiff) -> dict[str, Any]:
    return {
        "shape tried": comparison.label,
        "output": diff.name,
        "expected shape": diff.expected_shape,
        "actual shape": diff.actual_shape,
        "max abs": diff.max_abs,
        "max rel": diff.max_rel,
        "cosine": diff.cosine,
        "agreement": str(comparison.agreement) if comparison.agreement is not None else "",
        "passed": diff.passed,
    }


def _frame(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    from onnx_magic.errors import UsageError

    try:
        import pandas
    except ImportError as error:
        raise UsageError("to_frame() needs pandas, which is not installed", fix="pip install pandas") from error
    return pandas.DataFrame(rows)
