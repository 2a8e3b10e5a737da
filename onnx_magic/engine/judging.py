"""What the runs of a validation mean: a Finding, with its sentence, for each thing that is wrong or worth knowing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import diff_output
from onnx_magic.engine.scrubbing import readable_line
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import OutputDiff

if TYPE_CHECKING:
    from onnx_magic.engine.planning import Prepared
    from onnx_magic.engine.validating import Tried

Array: TypeAlias = np.ndarray[Any, Any]


def judge(
    graph: GraphFile,
    prepared: Prepared,
    tried: Sequence[Tried],
    limits: Mapping[str, tuple[int, int | None]],
    wrong: Callable[[Prepared, Sequence[Tried]], Iterable[Finding]] | None = None,
) -> list[Finding]:
    """All findings on a graph that was run (or could not be).

    Args:
        wrong: How the cases that failed are told; by default as axes and shapes.
    """
    return [
        *_otherwise_when_exported(prepared),
        *_not_repeatable(prepared, tried),
        *_baked_in_the_graph(graph, prepared),
        *_vanished(graph, prepared),
        *(wrong or _wrong)(prepared, tried),
        *_not_finite(tried),
        *_proves(tried),
        *_ranges(prepared, limits),
    ]


def _otherwise_when_exported(prepared: Prepared) -> Iterator[Finding]:
    """A forward that asks whether it is exported: the graph is what it does then."""
    for file, line in sorted(prepared.flat.asked):
        place = readable_line(file, line)
        told = (
            f"{place} asks torch.onnx.is_in_onnx_export(): the graph does what the model does while it is exported, "
            "and is compared with that; called in PyTorch, the model may answer otherwise"
        )
        yield Finding("export-branch", told, level="warning", line=place)


def _baked_in_the_graph(graph: GraphFile, prepared: Prepared) -> Iterator[Finding]:
    """Axes that the plan calls dynamic and the graph declares with one size."""
    declared = {spec.name: spec for spec in graph.inputs}
    for planned in prepared.plan.inputs:
        spec = declared.get(planned.name)
        for axis, name in planned.dynamic_axes.items():
            if spec is not None and axis < len(spec.shape) and isinstance(size := spec.shape[axis], int):
                yield Finding(
                    "axis-baked",
                    f"axis {axis} of {planned.name} ({name}) was baked: the graph takes {size} only",
                    fix=_without(prepared, name),
                    tensor=planned.name,
                    axis=axis,
                )


def _without(prepared: Prepared, name: str) -> str:
    """The option that keeps one axis static."""
    axes = {t: {a: n for a, n in moving.items() if n != name} for t, moving in prepared.examples.axes.items()}
    kept = {tensor: moving for tensor, moving in axes.items() if moving}
    return f"dynamic={kept}".replace(" ", "") if kept else "dynamic=no"


def _vanished(graph: GraphFile, prepared: Prepared) -> Iterator[Finding]:
    """Inputs that the model accepts and the graph does not; harmless only if the model ignores them."""
    names = {spec.name for spec in graph.inputs}
    for spec in prepared.plan.inputs:
        if spec.name in names:
            continue
        if _matters(prepared, spec.name):
            yield Finding(
                "input-vanished",
                f"input {spec.name} vanished from the graph, and PyTorch's outputs depend on it",
                fix=f"inputs={{{spec.name!r}: ...}}  # values that vary: a padded batch, for a mask",
                tensor=spec.name,
            )
        else:
            yield Finding(
                "input-vanished",
                f"input {spec.name} is not in the graph: the model's outputs do not depend on it",
                level="warning",
                tensor=spec.name,
            )


def _matters(prepared: Prepared, name: str) -> bool:
    """Whether PyTorch's outputs move when this input alone is changed."""
    changed = dict(prepared.examples.traced)
    array = changed[name]
    if array.dtype.kind in "iub" and set(np.unique(array)) <= {0, 1}:
        flipped = array.copy()
        flipped[..., -max(1, array.shape[-1] // 3) :] = 0
        changed[name] = flipped if (flipped != array).any() else (1 - array.astype(np.int64)).astype(array.dtype)
    else:
        changed[name] = prepared.examples.at(seed=7)[name]
    try:
        outputs = to_arrays(prepared.flat.run(to_tensors(changed)))
    except Exception:  # a model that refuses the changed values reads them
        return True
    return any(not diff_output(n, prepared.probe.outputs[n], outputs[n]).passed for n in outputs)


def _wrong(prepared: Prepared, tried: Sequence[Tried]) -> Iterator[Finding]:
    """Cases that failed: an axis that is right at its traced size only is told as that axis, the rest by one case."""
    failed = [one for one in tried if not one.comparison.passed]
    told: set[str] = set()
    if all(one.comparison for one in tried if not one.case.sizes):
        for one in failed:
            sizes = one.case.sizes or {}
            if len(sizes) == 1 and not told & set(sizes):
                told |= set(sizes)
                yield _axis_finding(prepared, one, next(iter(sizes)))
    rest = [one for one in failed if not told & set(one.case.sizes or {})]
    if rest:
        more = f", and at {len(rest) - 1} more of {len(tried)} shapes" if len(rest) > 1 else ""
        yield from _case_findings(rest[0], more)


def _axis_finding(prepared: Prepared, one: Tried, name: str) -> Finding:
    size = prepared.examples.sizes[name]
    tensor, axis = next(
        ((t, a) for t, moving in prepared.examples.axes.items() for a, n in moving.items() if n == name), (None, None)
    )
    return Finding(
        "axis-baked",
        f"axis {name} was baked: the graph is right at {size}, the traced size, and wrong at {one.case.label} "
        f"({_reason(one)})",
        fix=_without(prepared, name),
        tensor=tensor,
        axis=axis,
    )


def _reason(one: Tried) -> str:
    if one.comparison.error is not None:
        return f"ONNX Runtime: {one.comparison.error}"
    bad = next((d for d in one.comparison.diffs if not d), None)
    if bad is None:
        return f"another answer: {one.comparison.agreement}"
    return difference(bad)


def difference(diff: OutputDiff) -> str:
    """How one output is wrong, in half a sentence."""
    if diff.expected_shape != diff.actual_shape:
        return f"{diff.name} has shape {diff.actual_shape}, expected {diff.expected_shape}"
    if diff.expected_dtype != diff.actual_dtype:
        return f"{diff.name} is {diff.actual_dtype}, expected {diff.expected_dtype}"
    place = f" at {list(diff.worst)}" if diff.worst else ""
    return f"{diff.name} is off by {diff.max_abs:.1e}{place}, tolerance {diff.atol:g} + {diff.rtol:g} * |expected|"


def _case_findings(one: Tried, more: str) -> Iterator[Finding]:
    label = f"{one.case.label}{more}"
    if one.comparison.error is not None:
        yield Finding("run-failed", f"the graph does not run at {label}: {one.comparison.error}", fix=_NEXT)
        return
    for diff in one.comparison.diffs:
        if diff.passed:
            continue
        code = "values-differ"
        if diff.expected_shape != diff.actual_shape:
            code = "shape-differs"
        elif diff.expected_dtype != diff.actual_dtype:
            code = "dtype-differs"
        yield Finding(code, f"at {label}, {difference(diff)}", fix=_NEXT, tensor=diff.name)
    agreement = one.comparison.agreement
    if agreement is not None and not agreement:
        wrong = agreement.total - agreement.agreed
        answers = f"{wrong} of {agreement.total} answers ({agreement.kind})"
        yield Finding("meaning-differs", f"at {label}, {answers} differ from PyTorch's")


OTHER_WAY = "exporter=torchscript"
"""What the fix of a graph that is wrong begins with."""

_NEXT = f"{OTHER_WAY}  # or inputs=... of another shape"


def _not_finite(tried: Sequence[Tried]) -> Iterator[Finding]:
    for one in tried:
        for name, actual in one.actual.items():
            expected = one.expected.get(name)
            if actual.dtype.kind not in "fV" or expected is None:
                continue
            if np.isfinite(actual.astype(np.float64)).all():
                continue
            ours = not np.isfinite(expected.astype(np.float64)).all()
            same = " (PyTorch's is not either)" if ours else ", PyTorch's is"
            yield Finding(
                "not-finite",
                f"{name} is not finite at {one.case.label}{same}",
                level="warning" if ours else "failure",
                tensor=name,
            )
            return


def _proves(tried: Sequence[Tried]) -> Iterator[Finding]:
    """Agreement proves something only where PyTorch's own outputs move by more than what is tolerated.

    A graph that ignored its inputs would be off by half of that movement at the least. So an output is proven when it
    moves by more than twice the tolerance, or when ONNX Runtime follows it closely on the scale of its own movement.
    """
    ran = [t for t in tried if t.actual]
    same_shape = [t for t in ran if not t.case.sizes]
    if len(same_shape) < 2:
        return
    small: list[tuple[str, float, float]] = []
    still: list[str] = []
    # An output that is empty by itself (the encoder's keys, once they are cached) has nothing to show.
    names = [name for name, array in same_shape[0].expected.items() if array.size]
    for name in names:
        diffs = [d for t in ran for d in t.comparison.diffs if d.name == name]
        movement, scale, beyond = _movement([t.expected[name] for t in same_shape], diffs)
        close = _CLOSE * max((d.rtol for d in diffs), default=0.0)
        if beyond or 0 < movement and all(d.max_abs <= close * movement for d in diffs):
            continue
        if movement > close * scale:
            small.append((name, movement, max(d.atol for d in diffs)))
        else:
            still.append(name)
    if len(still) == len(names):
        yield Finding(
            "inputs-ignored",
            f"inconclusive: PyTorch's own outputs ({', '.join(still)}) hardly move when the inputs change, "
            "so that agreement proves nothing",
            fix="export trained weights, or inputs=... on which the outputs differ",
        )
        return
    for name, movement, atol in small:
        yield Finding(
            "below-tolerance",
            f"inconclusive: {name} moves by {movement:.1e} in all, which the tolerance ({atol:g}) hides, and ONNX "
            "Runtime does not follow it closely: a wrong output would pass",
            fix=f"atol={10 ** math.floor(math.log10(movement / 100)):g}",
            tensor=name,
        )
    if still:
        yield Finding(
            "output-constant",
            f"{', '.join(still)} {'does' if len(still) == 1 else 'do'} not move when the inputs change",
            level="note",
        )


_CLOSE = 10
"""Closely: within so many times the relative tolerance, of the movement instead of the value."""


def _movement(seen: Sequence[Array], diffs: Sequence[OutputDiff]) -> tuple[float, float, bool]:
    """How far an output moves over several inputs, how large it is, and whether it moves by twice the tolerance."""
    first, *others = (array if array.dtype.kind == "c" else array.astype(np.float64) for array in seen)
    twice = [{first.dtype.name: 2 * max((getattr(d, kind) for d in diffs), default=0.0)} for kind in ("atol", "rtol")]
    beyond = any(not diff_output("", first, other, atol=twice[0], rtol=twice[1]).passed for other in others)
    with np.errstate(invalid="ignore"):
        moved = [np.abs(other - first) for other in others if other.shape == first.shape]
    movement, scale = (
        max((float(np.max(a[np.isfinite(a)], initial=0.0)) for a in group), default=0.0)
        for group in (moved, [np.abs(array) for array in (first, *others)])
    )
    return movement, scale, beyond


def _not_repeatable(prepared: Prepared, tried: Sequence[Tried]) -> Iterator[Finding]:
    """Whether what differs is PyTorch's own doing: it answers differently when it is asked again."""
    if all(one.comparison for one in tried):
        return
    again = to_arrays(prepared.flat.run(to_tensors(prepared.examples.traced)))
    first = prepared.probe.outputs
    other = [name for name in first if name not in again or not diff_output(name, first[name], again[name]).passed]
    if other:
        yield Finding(
            "not-repeatable",
            f"PyTorch itself gives another {', '.join(other)} when the same inputs are given again: forward draws "
            "random numbers, or keeps state between calls",
            fix="make forward a function of its inputs alone (pass noise and state in, return state)",
        )


def _ranges(prepared: Prepared, limits: Mapping[str, tuple[int, int | None]]) -> Iterator[Finding]:
    """Upper limits that tracing found (a position table); one that leaves the traced size only is a baked axis."""
    for name, (low, high) in limits.items():
        if high is not None and low < high:
            yield Finding("axis-range", f"{name} can be {low} to {high}", level="note")
