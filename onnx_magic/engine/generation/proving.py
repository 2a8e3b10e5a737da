"""The proof of one graph of a generator: prompts and the steps after them, ONNX Runtime against PyTorch.

Both sides start each step from PyTorch's cache, so that a finding names the step at which the graph goes wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import diff_output, tolerances
from onnx_magic.engine.generation.parts import Step, Walk
from onnx_magic.engine.judging import difference, judge
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.engine.validating import Case, Tried, open_checked
from onnx_magic.errors import OnnxMagicError
from onnx_magic.events import Progress, emit
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Comparison, OutputDiff, Validation
from onnx_magic.runtime.agreeing import agreement

if TYPE_CHECKING:
    from onnx_magic.engine.planning import Prepared
    from onnx_magic.records.artifact import GraphFile
    from onnx_magic.runtime.sessions import Session

Array: TypeAlias = np.ndarray[Any, Any]
Tolerances: TypeAlias = tuple[Mapping[str, float], Mapping[str, float]]


def prove_part(
    walk: Walk,
    path: Path,
    graph: GraphFile,
    prepared: Prepared,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    limits: Mapping[str, tuple[int, int | None]] | None = None,
    assumptions: Sequence[Any] = (),
) -> Validation:
    """Check a file, then run it beside PyTorch at every step of its walk; called as `validate` is.

    Args:
        walk: The runs that prove it.
        assumptions: What tracing took for granted; a walk has its sizes already, so that they are not read.

    Returns:
        The verdict. Nothing is raised for a broken graph: it is what was to be found out.
    """
    by_dtype = tolerances(atol, rtol)
    session, checks, findings = open_checked(path)
    tried = list(_walk(session, prepared, walk, by_dtype)) if session is not None else []
    # That a position table ends is known from the config; ranges that tracing made up of its own sizes are no news.
    findings += judge(graph, prepared, tried, {}, wrong=_wrong)
    order = {"failure": 0, "warning": 1, "note": 2}
    return Validation(
        comparisons=tuple(one.comparison for one in tried),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.level])),
        checks=checks,
        atol=by_dtype[0],
        rtol=by_dtype[1],
    )


def _walk(session: Session, prepared: Prepared, walk: Walk, by_dtype: Tolerances) -> Iterator[Tried]:
    steps = walk()
    expected: dict[str, Array] | None = None
    number = 0
    while True:
        try:
            step = next(steps) if expected is None else steps.send(expected)
        except StopIteration:
            return
        number += 1
        emit(Progress("verify", number, 0))
        expected = to_arrays(prepared.flat.run(to_tensors(step.feed)))
        yield _try(session, step, expected, prepared.plan.task, by_dtype)


def _try(session: Session, step: Step, expected: Mapping[str, Array], task: str | None, by_dtype: Tolerances) -> Tried:
    case = Case(step.label, step.sizes)
    shapes = {name: tuple(array.shape) for name, array in step.feed.items()}
    try:
        actual = session.run({name: array for name, array in step.feed.items() if name in session.inputs})
    except OnnxMagicError as error:
        return Tried(case, Comparison(step.label, shapes, error=error.what), expected, {})
    expected = {name: _shown(name, array, step) for name, array in expected.items()}
    actual = {name: _shown(name, array, step) for name, array in actual.items()}
    diffs = tuple(
        diff_output(name, array, actual[name], atol=by_dtype[0], rtol=by_dtype[1])
        for name, array in expected.items()
        if name in actual
    )
    margin = max((diff.atol for diff in diffs), default=0.0)
    same = all(diff.expected_shape == diff.actual_shape for diff in diffs)
    agreed = agreement(task, expected, actual, step.feed, margin) if task and same else None
    missing = [name for name in expected if name not in actual]
    lacks = f"the graph has no output {', '.join(missing)}" if missing else None
    return Tried(case, Comparison(step.label, shapes, diffs, agreed, lacks), expected, actual)


def _shown(name: str, array: Array, step: Step) -> Array:
    """The output with zeros at the positions that do not count."""
    counted = step.counted.get(name.partition(".")[0])
    if counted is None or counted.ndim != array.ndim:
        return array
    fits = all(mine in (1, theirs) for mine, theirs in zip(counted.shape, array.shape, strict=True))
    return np.where(counted, array, np.zeros((), array.dtype)) if fits else array


def _wrong(prepared: Prepared, tried: Sequence[Tried]) -> Iterator[Finding]:
    """The first step that failed, by the first output of the lowest layer that is off: there the trouble begins."""
    failed = [one for one in tried if not one.comparison.passed]
    if not failed:
        return
    first = failed[0].comparison
    more = f" (and at {len(failed) - 1} more of {len(tried)} steps)" if len(failed) > 1 else ""
    if first.error is not None:
        yield Finding("run-failed", f"the graph does not run at {first.label}{more}: {first.error}", fix=_NEXT)
        return
    bad = sorted((diff for diff in first.diffs if not diff), key=lambda diff: _layer(diff.name))
    if bad:
        others = f", and {len(bad) - 1} outputs after it" if len(bad) > 1 else ""
        place = f"layer {_layer(bad[0].name)}: " if _layer(bad[0].name) < _LAST else ""
        sentence = f"at {first.label}{more}, {place}{difference(bad[0])}{others}"
        yield Finding(_code(bad[0]), sentence, fix=_NEXT, tensor=bad[0].name)
    elif first.agreement is not None:
        wrong = first.agreement.total - first.agreement.agreed
        told = f"{wrong} of {first.agreement.total} likeliest tokens differ from PyTorch's"
        yield Finding("meaning-differs", f"at {first.label}{more}, {told}")


_NEXT = "exporter=torchscript"
_LAST = 10**6


def _layer(name: str) -> int:
    """The layer that an output belongs to; what belongs to none (the logits) comes last."""
    number = name.split(".")[1] if "." in name else ""
    return int(number) if number.isdecimal() else _LAST


def _code(diff: OutputDiff) -> str:
    if diff.expected_shape != diff.actual_shape:
        return "shape-differs"
    return "dtype-differs" if diff.expected_dtype != diff.actual_dtype else "values-differ"
