"""The proof of a variant: it runs where its parent runs, its outputs are near the reference's, its answers the same.

Exact equality is not to be had from 8 or 4 bits. What is asked for stands in the mode's `Tolerance`: a bound on every
value, a cosine per output over all shapes, and the same answer wherever the reference's is no tie within that bound.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import ATOL, RTOL, compare_outputs, counted_positions
from onnx_magic.engine.nearness import Rule, compare_near
from onnx_magic.engine.probing import one_line
from onnx_magic.engine.validating import check_file
from onnx_magic.engine.variants.foreseeing import expected_rate, mean_drift
from onnx_magic.engine.variants.modes import ENOUGH, Tolerance
from onnx_magic.engine.variants.references import FLOAT_GRAPH, Reference
from onnx_magic.errors import OnnxMagicError
from onnx_magic.events import Progress, emit
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Comparison, OutputDiff, Validation
from onnx_magic.records.variants import Answers
from onnx_magic.runtime.agreeing import agreement
from onnx_magic.runtime.sessions import Session, open_session

Array: TypeAlias = np.ndarray[Any, Any]
Outputs: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class _Tried:
    label: str
    feed: Mapping[str, Array]
    expected: Outputs
    actual: Outputs
    error: str = ""


def verify_variant(
    path: Path,
    reference: Reference,
    *,
    task: str | None,
    tolerance: Tolerance | None,
    provider: str | None = None,
    role: str = "model",
) -> Validation:
    """Check the file, and run it beside the reference at every case.

    Args:
        path: The variant's graph.
        reference: What it is held against.
        task: Canonical task; `None` where this graph has no answer.
        tolerance: What it may cost; `None`: nothing, the export's own tolerances apply.
        provider: The execution provider it was made for.
        role: Which graph it is, for the labels.

    Returns:
        The verdict. Nothing is raised for a broken graph.
    """
    checks, findings = _check(path)
    tried: list[_Tried] = []
    try:
        session = Session(open_session(path, provider))
        checks["onnxruntime session"] = True
        tried, skipped = _run(session, reference, "" if role == "model" else f"{role}: ")
        findings += skipped
    except OnnxMagicError as error:
        checks["onnxruntime session"] = False
        findings.append(Finding("graph-refused", error.what.replace(str(path), path.name), fix=error.fix))
    sizes = output_sizes([one.expected for one in tried])
    rule = Rule(tolerance.cosine, tolerance.drift, sizes) if tolerance is not None else None
    comparisons = _compared(tried, task, rule)
    findings += _judged(tried, comparisons, tolerance)
    if reference.name == FLOAT_GRAPH:
        why = f": {reference.why}" if reference.why else ""
        findings.append(
            Finding("float-reference", f"held against the float graph, not against PyTorch{why}", level="note")
        )
    order = {"failure": 0, "warning": 1, "note": 2}
    return Validation(
        comparisons=tuple(comparisons),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.level])),
        checks=checks,
        atol=dict(ATOL) if tolerance is None else {},
        rtol=dict(RTOL) if tolerance is None else {},
    )


def _check(path: Path) -> tuple[dict[str, bool], list[Finding]]:
    """The ONNX checker's word, where it knows all of the graph's operators."""
    import onnx_ir
    from onnx import defs

    try:
        model = onnx_ir.load(path)
    except Exception:  # a broken graph: the checker says how
        return check_file(path)
    known = {(node.domain, node.op_type) for node in model.graph.all_nodes()}
    if all(domain in ("", "ai.onnx") and defs.has(operator, "") for domain, operator in known):
        return check_file(path)
    return {}, []  # ONNX Runtime's own operators have no schema in onnx: its session is the check


def _run(session: Session, reference: Reference, before: str) -> tuple[list[_Tried], list[Finding]]:
    tried: list[_Tried] = []
    skipped: list[Finding] = []
    for done, (label, feed) in enumerate(reference.cases, start=1):
        emit(Progress("verify", done, len(reference.cases)))
        try:
            expected = reference.run(feed)
        except Exception as error:  # the user's model may refuse a size in any way
            sentence = f"{reference.name} does not run at {label}: {one_line(error)}"
            skipped.append(Finding("shape-illegal", sentence, level="note"))
            continue
        try:
            actual = session.run({name: array for name, array in feed.items() if name in session.inputs})
            tried.append(_Tried(before + label, feed, expected, actual))
        except OnnxMagicError as error:
            tried.append(_Tried(before + label, feed, expected, {}, error.what))
    return tried, skipped


def _compared(tried: Sequence[_Tried], task: str | None, rule: Rule | None) -> list[Comparison]:
    found = []
    for one in tried:
        shapes = {name: tuple(array.shape) for name, array in one.feed.items()}
        if one.error:
            found.append(Comparison(one.label, shapes, error=one.error))
        elif rule is None:
            found.append(compare_outputs(one.label, one.expected, one.actual, one.feed, task=task))
        else:
            found.append(compare_near(one.label, one.expected, one.actual, one.feed, rule, task=task, alone=False))
    return found


def output_sizes(outputs: Sequence[Outputs]) -> dict[str, float]:
    """The root mean square of each float output over all runs: what a drift is a share of."""
    found: dict[str, list[float]] = {}
    for run in outputs:
        for name, array in run.items():
            if array.dtype.kind == "f" and array.size:
                kept = array[np.isfinite(array)].astype(np.float64)
                found.setdefault(name, []).append(float(np.mean(kept**2)) if kept.size else 0.0)
    return {name: float(np.sqrt(np.mean(values))) for name, values in found.items()}


def _judged(tried: Sequence[_Tried], comparisons: Sequence[Comparison], tolerance: Tolerance | None) -> list[Finding]:
    findings = []
    errors = [c for c in comparisons if c.error is not None]
    if errors:
        findings.append(Finding("run-failed", f"it does not run at {errors[0].label}: {errors[0].error}"))
    for diff, label in _worst_of_each(comparisons):
        if not diff.finite:
            sentence = f"{diff.name} holds NaN or infinity at {label}, where the reference is finite"
            findings.append(Finding("not-finite", sentence, tensor=diff.name))
        elif diff.expected_shape != diff.actual_shape:
            sentence = f"{diff.name} has shape {diff.actual_shape} at {label}, expected {diff.expected_shape}"
            findings.append(Finding("shape-differs", sentence, tensor=diff.name))
        elif diff.expected_dtype != diff.actual_dtype:
            sentence = f"{diff.name} is {diff.actual_dtype}, expected {diff.expected_dtype}"
            findings.append(Finding("dtype-differs", sentence, tensor=diff.name))
        else:
            sentence = f"{diff.name} is off by {diff.max_abs:.2g} at {label}, allowed {diff.atol:.2g}"
            findings.append(Finding("values-differ", sentence, tensor=diff.name))
    if tolerance is not None:
        findings += _turned(tried, tolerance)
    changed = [c for c in comparisons if c.agreement is not None and not c.agreement]
    if changed:
        kinds = f"{changed[0].agreement} at {changed[0].label}"
        findings.append(Finding("meaning-differs", f"the answer is another, and not for a tie: {kinds} the same"))
    return findings


def _worst_of_each(comparisons: Sequence[Comparison]) -> list[tuple[OutputDiff, str]]:
    """Of every output that failed, its worst case."""
    worst: dict[str, tuple[OutputDiff, str]] = {}
    for comparison in comparisons:
        for diff in comparison.diffs:
            before = worst.get(diff.name)
            if not diff.passed and (before is None or not diff.finite or diff.max_abs > before[0].max_abs):
                worst[diff.name] = (diff, comparison.label)
    return list(worst.values())


def _turned(tried: Sequence[_Tried], tolerance: Tolerance) -> list[Finding]:
    """Outputs that point elsewhere: their cosine over all shapes is below the tolerance's."""
    found = []
    for name, cosine in output_cosines([(one.expected, one.actual, one.feed) for one in tried if one.actual]).items():
        if cosine < tolerance.cosine:
            told = f"cosine {cosine:.4f} over all shapes, expected {tolerance.cosine:g} or more"
            found.append(Finding("values-differ", f"{name} points elsewhere: {told}", tensor=name))
    return found


def output_cosines(runs: Sequence[tuple[Outputs, Outputs, Mapping[str, Array]]]) -> dict[str, float]:
    """The cosine of each float output over all runs laid end to end; padding is left out."""
    sums: dict[str, list[float]] = {}
    for expected, actual, feed in runs:
        for name, array in expected.items():
            if array.dtype.kind != "f" or name not in actual or actual[name].shape != array.shape:
                continue
            counted = counted_positions(array, feed.get("attention_mask"))
            a, b = array.astype(np.float64), actual[name].astype(np.float64)
            a, b = (a, b) if counted is None else (a[counted], b[counted])
            keep = np.isfinite(a)
            a, b = a[keep], np.nan_to_num(b[keep], nan=0.0, posinf=0.0, neginf=0.0)
            total = sums.setdefault(name, [0.0, 0.0, 0.0])
            total[0] += float(np.sum(a * b))
            total[1] += float(np.sum(a * a))
            total[2] += float(np.sum(b * b))
    return {
        name: ab / np.sqrt(aa * bb) if aa * bb > 0 else (1.0 if aa == bb else 0.0)
        for name, (ab, aa, bb) in sums.items()
    }


def answers_of(
    runs: Sequence[tuple[Outputs, Outputs, Mapping[str, Array]]], task: str | None, *, cosine: float, data: str
) -> Answers | None:
    """How the answers on the user's data compare: strictly, a tie that tips counts as changed.

    Args:
        runs: (expected, actual, feed) of each feed.
        cosine: What a sample's cosine must reach where the task has no answer to count.
        data: Where the samples came from.
    """
    counts: dict[str, list[int]] = {}
    cosines: list[float] = []
    further = {"expected": expected_rate(runs, task), "drift": mean_drift(runs)}
    for expected, actual, feed in runs:
        found = agreement(task, expected, actual, feed, 0.0) if task else None
        if found is not None:
            total = counts.setdefault(found.kind, [0, 0])
            total[0] += found.agreed
            total[1] += found.total
        cosines += sample_cosines(expected, actual, feed)
    if not cosines and not counts:
        return None
    mean, worst = (float(np.mean(cosines)), float(np.min(cosines))) if cosines else (float("nan"), float("nan"))
    for kind, (same, of) in counts.items():
        return Answers(kind, same, of, mean, worst, data, **further)
    near = sum(value >= cosine for value in cosines)
    return Answers("cosine", near, len(cosines), mean, worst, data, **further)


def sample_cosines(expected: Outputs, actual: Outputs, feed: Mapping[str, Array]) -> list[float]:
    """The cosine of each sample's first float output; a per-token output is averaged over its tokens first."""
    name = next((n for n, array in expected.items() if array.dtype.kind == "f" and array.ndim), None)
    if name is None or name not in actual or actual[name].shape != expected[name].shape:
        return []
    a, b = (pooled(outputs[name], feed.get("attention_mask")) for outputs in (expected, actual))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.sum(a * b, axis=1)
    return [float(p / n) if n > 0 else float(p == 0) for p, n in zip(products, norms, strict=True)]


def pooled(array: Array, mask: Array | None) -> Array:
    """[samples, numbers]: a per-token output as its mean over the tokens that count, any other flattened."""
    wide = array.astype(np.float64)
    counted = counted_positions(array, mask)
    if counted is not None and array.ndim == 3 and counted.ndim == 2:
        weights = counted[:, :, None].astype(np.float64)
        return np.asarray((wide * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0))
    return wide.reshape(len(array), -1)


def with_answers(verdict: Validation, answers: Answers | None, tolerance: Tolerance | None) -> Validation:
    """The verdict, and what the answers on the user's data add to it."""
    if answers is None or tolerance is None or answers.total < ENOUGH:
        return verdict
    floor = tolerance.cosine if answers.kind == "cosine" else tolerance.answers
    if answers.rate >= floor:
        return verdict
    sentence = f"on the data given, {answers}: expected {floor:.0%} or more the same"
    return dataclasses.replace(verdict, findings=(Finding("meaning-differs", sentence), *verdict.findings))
