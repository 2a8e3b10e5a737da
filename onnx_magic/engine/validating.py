"""The proof: ONNX Runtime against PyTorch at the traced shape and at shapes that were never traced.

`validate` gives the verdict on a file. It knows nothing of how the file was made, so that a broken one is caught
whoever wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import compare_outputs, tolerances
from onnx_magic.engine.examples import SEQUENCE, Examples
from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.judging import judge
from onnx_magic.engine.probing import one_line
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.errors import OnnxMagicError
from onnx_magic.events import Progress, emit
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Comparison, Validation
from onnx_magic.runtime.sessions import Session, open_session

if TYPE_CHECKING:
    from onnx_magic.engine.adapters.torch_export import Assumption
    from onnx_magic.engine.planning import Prepared

Array: TypeAlias = np.ndarray[Any, Any]

OTHERS = 4
"""At least so many shapes (or, for a graph of one shape, sets of values) beside the traced one."""

LONG = 64
"""A length that is longer than any traced one, where the model allows it."""


@dataclass(frozen=True)
class Case:
    """One set of inputs to try.

    Args:
        label: What differs from the traced inputs.
        sizes: `{axis name: size}`; what is not named keeps its traced size. `None`: the traced inputs themselves.
        seed: Seed of the values.
        remote: Whether it is far from what was traced: there the model, or the graph, may refuse to run.
    """

    label: str
    sizes: Mapping[str, int] | None = field(default_factory=dict)
    seed: int = 1
    remote: bool = False


TURNS = 4
"""At most so many sizes beside these, where the model's code turns: each breaks something that tracing assumed."""

FURTHEST = 1025
"""The largest such size: the run after a table of 1024 positions."""


def cases(examples: Examples, assumptions: Sequence[Assumption] = ()) -> list[Case]:
    """The shapes to try: traced, other values, batch 1, each axis alone, all together, the longest padded.

    What tracing thinks of an axis' range does not count here: whether a size is legal is the model's own word. But a
    size at which an assumption of the trace breaks is one to try, if none of the others breaks it.
    """
    sizes, batch = examples.sizes, examples.batch
    found = [Case("traced", None), Case("other values")]

    def legal(name: str, size: int) -> bool:
        cap = examples.limits.get(name)
        return size >= 1 and (cap is None or size <= cap) and size != sizes[name]

    def add(seed: int, remote: bool = False, /, **wanted: int) -> None:
        kept = {name: size for name, size in wanted.items() if name in sizes and legal(name, size)}
        label = ", ".join(
            f"{'batch' if name == batch else _SHORT.get(name, name)} {size}" for name, size in kept.items()
        )
        if kept and label not in {case.label for case in found}:
            found.append(Case(label, kept, seed, remote))

    add(2, **{batch: 1})
    for seed, name in enumerate(sizes, start=3):
        if name != batch:
            for size in _others(sizes[name]):
                add(seed, **{name: size})
    add(20, **{batch: 1, SEQUENCE: 3})
    add(21, **{batch: 3, SEQUENCE: 7})
    moved = {name: next((n for n in _others(size) if legal(name, n)), size) for name, size in sizes.items()}
    add(22, **moved | {batch: 5} | ({SEQUENCE: LONG} if SEQUENCE in sizes and legal(SEQUENCE, LONG) else {}))
    for rows in (3, 4, 7):
        if len(found) <= OTHERS:
            add(30 + rows, **{batch: rows})
    most = len(found) + TURNS
    for seed, one in enumerate(assumptions, start=60):
        known = set(one.names.values()) <= set(sizes)  # of an axis that is pinned by now, nothing can break
        if known and len(found) < most and all(one.holds({**sizes, **(case.sizes or {})}) for case in found):
            turns = (place for place in one.turning_points(sizes, FURTHEST) if legal(*place))
            add(seed, True, **dict([place] if (place := next(turns, None)) else []))
    found += [Case(f"other values {seed}", {}, seed) for seed in range(2, 2 + OTHERS + 1 - len(found))]
    return found


def _others(size: int) -> list[int]:
    """A larger size that is no multiple, and a smaller one."""
    return [n for n in (size * 2 + (1 if size < 32 else 0), size // 2) if n >= 1]


_SHORT = {SEQUENCE: "length"}


@dataclass(frozen=True, eq=False)
class Tried:
    """One case after it was run.

    Args:
        case: What was tried.
        comparison: How it went.
        expected: PyTorch's outputs.
        actual: ONNX Runtime's; empty when it raised.
    """

    case: Case
    comparison: Comparison
    expected: Mapping[str, Array]
    actual: Mapping[str, Array]


def validate(
    path: Path,
    graph: GraphFile,
    prepared: Prepared,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    limits: Mapping[str, tuple[int, int | None]] | None = None,
    assumptions: Sequence[Assumption] = (),
) -> Validation:
    """Check a file, then run it beside PyTorch at every case.

    Args:
        path: The .onnx file.
        graph: What stands in it.
        prepared: The plan and the live model.
        atol: Absolute tolerance for all dtypes; by default `engine.comparing.ATOL`.
        rtol: Relative tolerance for all dtypes; by default `engine.comparing.RTOL`.
        limits: Range of the axes that tracing found, for the findings.
        assumptions: What tracing took for granted of the sizes; where it breaks is tried too.

    Returns:
        The verdict. Nothing is raised for a broken graph: it is what was to be found out.
    """
    by_dtype = tolerances(atol, rtol)
    # PyTorch answers all cases before ONNX Runtime's threads exist: two idle pools spin, and slow each other down.
    asked, skipped = _references(prepared, cases(prepared.examples, assumptions))
    session, checks, findings = open_checked(path)
    findings += skipped
    tried: list[Tried] = []
    if session is not None:
        tried, refused = _run_cases(session, prepared, asked, by_dtype)
        findings += [*refused, *_right_when_left_alone(path, prepared, tried, by_dtype)]
    findings += judge(graph, prepared, tried, limits or {})
    order = {"failure": 0, "warning": 1, "note": 2}
    return Validation(
        comparisons=tuple(t.comparison for t in tried),
        findings=tuple(sorted(findings, key=lambda f: order[f.level])),
        checks=checks,
        atol=by_dtype[0],
        rtol=by_dtype[1],
    )


def open_checked(path: Path) -> tuple[Session | None, dict[str, bool], list[Finding]]:
    """Check a file and open it: the session (`None` when ONNX Runtime refuses it), the checks, what they found."""
    checks, findings = check_file(path)
    try:
        session = Session(open_session(path))
    except OnnxMagicError as error:
        # The file still lies in a folder that will be gone.
        refused = Finding("graph-refused", error.what.replace(str(path), path.name), fix=error.fix)
        return None, {**checks, "onnxruntime session": False}, [*findings, refused]
    return session, {**checks, "onnxruntime session": True}, findings


def check_file(path: Path) -> tuple[dict[str, bool], list[Finding]]:
    """`onnx.checker` and shape inference on the file itself, external data and all."""
    import onnx
    from onnx import checker, shape_inference

    checks = {"onnx.checker": True, "shape inference": True}
    try:
        checker.check_model(str(path), full_check=True)
    except shape_inference.InferenceError as error:
        checks["shape inference"] = False
        return checks, [Finding("graph-refused", f"shape inference finds a contradiction: {one_line(error)}")]
    except (checker.ValidationError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        checks["onnx.checker"] = False
        return checks, [Finding("graph-refused", f"the ONNX checker refuses the graph: {one_line(error)}")]
    return checks, []


@dataclass(frozen=True, eq=False)
class _Asked:
    """A case, what it feeds, and what PyTorch answered."""

    case: Case
    feed: Mapping[str, Array]
    expected: Mapping[str, Array]


def _references(prepared: Prepared, todo: Sequence[Case]) -> tuple[list[_Asked], list[Finding]]:
    """PyTorch's outputs at every case; a note for each size that the model itself refuses.

    At least OTHERS cases beside the traced one are left, with other values where a model takes few sizes.
    """
    asked: list[_Asked] = []
    skipped: list[Finding] = []
    for case in todo:
        emit(Progress("verify", len(asked), 2 * len(todo)))
        feed = _feed(prepared.examples, case)
        try:
            expected = prepared.probe.outputs if case.sizes is None else _eager(prepared.flat, feed)
        except Exception as error:  # the user's model may refuse a size in any way
            if not case.remote:
                sentence = f"the model itself does not run at {case.label}: {one_line(error)}"
                skipped.append(Finding("shape-illegal", sentence, level="note"))
            continue
        asked.append(_Asked(case, feed, expected))
    others = [one for one in asked if one.case.sizes is not None and not one.case.remote]
    for seed in range(40, 40 + OTHERS - len(others)):
        case = Case(f"other values {seed - 38}", {}, seed)
        feed = _feed(prepared.examples, case)
        asked.append(_Asked(case, feed, _eager(prepared.flat, feed)))
    return asked, skipped


def _run_cases(
    session: Session,
    prepared: Prepared,
    asked: Sequence[_Asked],
    by_dtype: tuple[Mapping[str, float], Mapping[str, float]],
) -> tuple[list[Tried], list[Finding]]:
    tried: list[Tried] = []
    refused: list[Finding] = []
    for done, (case, feed, expected) in enumerate(((a.case, a.feed, a.expected) for a in asked), start=1):
        emit(Progress("verify", len(asked) + done, 2 * len(asked)))
        one = _try(session, case, feed, expected, prepared, by_dtype)
        if case.remote and one.comparison.error is not None:
            # Far from what was traced, to refuse is no lie: only a wrong answer is.
            sentence = f"the graph does not run at {case.label}, where PyTorch does"
            refused.append(Finding("axis-range", sentence, level="note"))
            continue
        tried.append(one)
    return tried, refused


def _right_when_left_alone(
    path: Path,
    prepared: Prepared,
    tried: Sequence[Tried],
    by_dtype: tuple[Mapping[str, float], Mapping[str, float]],
) -> list[Finding]:
    """Whether what failed passes once ONNX Runtime does not rewrite the graph: then the file itself is right."""
    failed = [one for one in tried if one.actual and not one.comparison.passed]
    if not failed or len(failed) < len([one for one in tried if not one.comparison.passed]):
        return []
    plain = Session(open_session(path, optimized=False))
    for one in failed:
        feed = _feed(prepared.examples, one.case)
        if not _try(plain, one.case, feed, one.expected, prepared, by_dtype).comparison.passed:
            return []
    off = max(one.comparison.max_abs for one in failed)
    return [
        Finding(
            "runtime-rewrites",
            f"the file is right, ONNX Runtime's own graph optimisations move the outputs by {off:.1e}: "
            "with them off it agrees at every shape that failed",
            level="warning",
            fix=f"atol={10 ** math.ceil(math.log10(off)):g}  # or run with ORT_DISABLE_ALL",
        )
    ]


def feeds(examples: Examples) -> Iterator[dict[str, Array]]:
    """What the cases feed, the traced inputs first."""
    return (_feed(examples, case) for case in cases(examples))


def labelled_feeds(examples: Examples) -> list[tuple[str, dict[str, Array]]]:
    """The cases' labels and what they feed, for whoever proves another graph of the same model."""
    return [(case.label, _feed(examples, case)) for case in cases(examples)]


def _feed(examples: Examples, case: Case) -> dict[str, Array]:
    return dict(examples.traced) if case.sizes is None else examples.at(case.seed, **case.sizes)


def _eager(flat: FlatModel, feed: Mapping[str, Array]) -> dict[str, Array]:
    return to_arrays(flat.run(to_tensors(feed)))


def _try(
    session: Session,
    case: Case,
    feed: Mapping[str, Array],
    expected: Mapping[str, Array],
    prepared: Prepared,
    by_dtype: tuple[Mapping[str, float], Mapping[str, float]],
) -> Tried:
    actual: dict[str, Array] = {}
    try:
        actual = session.run({name: array for name, array in feed.items() if name in session.inputs})
    except OnnxMagicError as error:
        shapes = {name: tuple(array.shape) for name, array in feed.items()}
        return Tried(case, Comparison(case.label, shapes, error=error.what), expected, {})
    atol, rtol = by_dtype
    comparison = compare_outputs(case.label, expected, actual, feed, task=prepared.plan.task, atol=atol, rtol=rtol)
    return Tried(case, comparison, expected, actual)
