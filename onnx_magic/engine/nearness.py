"""How near a variant must be to its reference: one rule, for its verdict, for a call in a cell, and for `compare`.

Every value within the drift, every float output pointing where the reference's does, and the same answer wherever the
reference's is no tie. What a value may drift by, and what a tie is, are shares of the output's size: its root mean
square over the shapes of the verdict, which the record keeps, for one call may hold small values alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import ROUNDING, counted_positions, diff_output, root_mean_square
from onnx_magic.engine.tensors import dtype_name
from onnx_magic.records.results import Comparison, OutputDiff
from onnx_magic.records.variants import VariantRecord
from onnx_magic.runtime.agreeing import agreement

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rule:
    """What a variant may cost.

    Args:
        cosine: Of each output at the least: over all shapes of a verdict, or over one call.
        drift: Largest |Δ| of a value, as a share of its output's size plus that value.
        sizes: Root mean square of each float output over the shapes of the verdict; of one that is not there, the
            call's own counts.
    """

    cosine: float
    drift: float
    sizes: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The root mean square of a difference, as a share of the output's size, that implies this cosine."""
        return math.sqrt(1 - self.cosine**2)

    def __str__(self) -> str:
        """What is asked for, in a sentence's part."""
        return f"cosine {self.cosine:g} or more, values within {self.drift:g}× the output's size, the same answer"


def rule_of(record: VariantRecord | None) -> Rule | None:
    """The rule of a variant's own verdict; `None` for a plain or optimized graph: the export's tolerances apply."""
    if record is None or not {"cosine", "drift"} <= set(record.tolerance):
        return None
    return Rule(record.tolerance["cosine"], record.tolerance["drift"], record.sizes)


def sizes_of(comparisons: Sequence[Comparison], drift: float) -> dict[str, float]:
    """The sizes that `compare_near` took the drift of: what a record keeps of a verdict."""
    sizes: dict[str, float] = {}
    for diff in (diff for one in comparisons for diff in one.diffs):
        sizes[diff.name] = max(sizes.get(diff.name, 0.0), (diff.atol - ROUNDING) / drift)
    return sizes


def compare_near(
    label: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    feed: Mapping[str, Array],
    rule: Rule,
    *,
    task: str | None = None,
    alone: bool = True,
    closeup: bool = False,
) -> Comparison:
    """Compare all outputs of one run of a variant. Padded positions of per-token outputs do not count.

    Args:
        label: What was tried.
        expected: The reference's outputs.
        actual: The variant's outputs.
        feed: What both were fed.
        rule: What is asked for.
        task: The task, where it has an answer to compare.
        alone: Whether the cosine is asked of these outputs alone; a verdict asks it of all shapes together.
        closeup: Whether each OutputDiff keeps a closeup.
    """
    shapes = {name: tuple(array.shape) for name, array in feed.items()}
    missing = [name for name in expected if name not in actual]
    if missing:
        return Comparison(label, shapes, error=f"the graph has no output {', '.join(missing)}", rule=str(rule))
    mask = feed.get("attention_mask")
    diffs: list[OutputDiff] = []
    for name, array in expected.items():
        dtype, counted = dtype_name(array), counted_positions(array, mask)
        size = rule.sizes.get(name, root_mean_square(array))
        bound = {dtype: rule.drift * size + ROUNDING}
        share = {dtype: rule.drift if array.dtype.kind == "f" else 0.0}
        diff = diff_output(name, array, actual[name], atol=bound, rtol=share, counted=counted, closeup=closeup)
        if alone and array.dtype.kind == "f" and not _points_there(diff, array, actual[name], counted, rule, size):
            diff = dataclasses.replace(diff, passed=False)
        diffs.append(diff)
    same_shapes = all(diff.expected_shape == diff.actual_shape for diff in diffs)
    agreed = agreement(task, expected, actual, feed, _tie(expected, rule)) if task and same_shapes else None
    return Comparison(label, shapes, tuple(diffs), agreed, rule=str(rule))


def _points_there(
    diff: OutputDiff, expected: Array, actual: Array, counted: Array | None, rule: Rule, size: float
) -> bool:
    """The cosine is what it must be, or the difference so small beside the output's usual size that it says nothing.

    Two logits that nearly tie turn over by next to nothing: whether their answer may is asked of the answers.
    """
    if diff.cosine >= rule.cosine or diff.expected_shape != diff.actual_shape or not diff.finite:
        return True  # what else is wrong is said already
    off = actual.astype(np.float64) - expected.astype(np.float64)
    off = off if counted is None else off[counted]
    off = off[np.isfinite(off)]
    return not off.size or float(np.sqrt(np.mean(off**2))) <= rule.error * size + ROUNDING


def _tie(expected: Mapping[str, Array], rule: Rule) -> float:
    """How far a score may be off by the difference that the cosine allows: an answer that leads by less is a tie."""
    names = [name for name in expected if "logits" in name] or list(expected)
    sizes = [rule.sizes.get(name, root_mean_square(expected[name])) for name in names]
    return rule.error * max(sizes, default=0.0)
