"""Expected (PyTorch) against actual (ONNX Runtime): in numbers, and in meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.tensors import dtype_name
from onnx_magic.records.results import Comparison, OutputDiff
from onnx_magic.runtime.agreeing import agreement

Array: TypeAlias = np.ndarray[Any, Any]

ATOL: Mapping[str, float] = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
RTOL: Mapping[str, float] = {"float64": 1e-3, "float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""By dtype. float32: two orders above what another order of summation gives over 12 layers; half precisions: ten times
their spacing at 1 (2^-10 and 2^-7). Integers and booleans must be equal."""


def tolerances(atol: float | None, rtol: float | None) -> tuple[dict[str, float], dict[str, float]]:
    """Tolerances by dtype: the user's for all where given, else the tables above."""
    return (
        dict(ATOL) if atol is None else dict.fromkeys(ATOL, atol),
        dict(RTOL) if rtol is None else dict.fromkeys(RTOL, rtol),
    )


def diff_output(
    name: str,
    expected: Array,
    actual: Array,
    *,
    atol: Mapping[str, float] = ATOL,
    rtol: Mapping[str, float] = RTOL,
    counted: Array | None = None,
) -> OutputDiff:
    """Compare one output.

    Args:
        counted: Boolean mask over the leading axes: positions that count. Padded positions hold what no reader may use.

    Example:
        >>> bool(diff_output("y", np.float32([1.0]), np.float32([1.5])))
        False
    """
    dtype = dtype_name(expected)
    at, rt = atol.get(dtype, 0.0), rtol.get(dtype, 0.0)
    same_kind = expected.shape == actual.shape and dtype == dtype_name(actual)
    nan = float("nan")
    if expected.shape != actual.shape:
        return OutputDiff(
            name, expected.shape, actual.shape, dtype, dtype_name(actual), nan, nan, nan, at, rt, True, False
        )
    wide: Any = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = expected.astype(wide), actual.astype(wide)
    weight = np.ones(expected.shape, bool)
    if counted is not None:
        weight &= counted.reshape(counted.shape + (1,) * (expected.ndim - counted.ndim))
    with np.errstate(invalid="ignore", over="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        gap = np.where(same | ~weight, 0.0, np.abs(b - a))
        finite = bool(np.all(np.isfinite(b) | ~np.isfinite(a) | ~weight))
        within = bool(np.all(gap <= at + rt * np.where(np.isfinite(a), np.abs(a), 0.0)))
        relative = gap / (np.where(np.isfinite(a), np.abs(a), 0.0) + max(at, np.finfo(np.float64).tiny))
    worst = None
    if gap.size and np.nanmax(gap, initial=0.0) > 0:
        worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.nan_to_num(gap, nan=np.inf))), gap.shape))
    return OutputDiff(
        name=name,
        expected_shape=expected.shape,
        actual_shape=actual.shape,
        expected_dtype=dtype,
        actual_dtype=dtype_name(actual),
        max_abs=float(np.max(gap, initial=0.0)),
        max_rel=float(np.max(relative, initial=0.0)),
        cosine=_cosine(a[weight], b[weight]),
        atol=at,
        rtol=rt,
        finite=finite,
        passed=same_kind and finite and within,
        worst=worst,
    )


def _cosine(a: Array, b: Array) -> float:
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = np.ravel(a[keep]), np.ravel(b[keep])
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(np.real(np.vdot(a, b)) / norms)


def counted_positions(array: Array, mask: Array | None) -> Array | None:
    """Which positions of a per-token output count: those that are no padding; `None` where all do."""
    if mask is None or mask.ndim < 2 or array.ndim < mask.ndim or array.shape[: mask.ndim] != mask.shape:
        return None
    return mask.astype(bool)


def compare_outputs(
    label: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    feed: Mapping[str, Array],
    *,
    task: str | None = None,
    atol: Mapping[str, float] = ATOL,
    rtol: Mapping[str, float] = RTOL,
) -> Comparison:
    """Compare all outputs of one run. Padded positions of per-token outputs do not count."""
    mask = feed.get("attention_mask")
    diffs = []
    for name, array in expected.items():
        if name not in actual:
            continue
        diffs.append(
            diff_output(name, array, actual[name], atol=atol, rtol=rtol, counted=counted_positions(array, mask))
        )
    same_shapes = all(d.expected_shape == d.actual_shape for d in diffs)
    margin = max((d.atol for d in diffs), default=0.0)
    agreed = agreement(task, expected, actual, feed, margin) if task and same_shapes else None
    shapes = {name: tuple(array.shape) for name, array in feed.items()}
    missing = [name for name in expected if name not in actual]
    error = f"the graph has no output {', '.join(missing)}" if missing else None
    return Comparison(label, shapes, tuple(diffs), agreed, error)
