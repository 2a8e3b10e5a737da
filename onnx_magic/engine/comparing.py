"""Expected (PyTorch) against actual (ONNX Runtime): in numbers, and in meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.differences import closeup_of, differences
from onnx_magic.engine.tensors import dtype_name
from onnx_magic.records.results import Comparison, OutputDiff
from onnx_magic.runtime.agreeing import agreement

Array: TypeAlias = np.ndarray[Any, Any]

ATOL: Mapping[str, float] = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
RTOL: Mapping[str, float] = {"float64": 1e-3, "float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""By dtype. float32: two orders above what another order of summation gives over 12 layers. float16: PyTorch's own
logits are off by up to 0.011 from those of the same weights in float32 (tiny llama and bloom; a test measures it), ONNX
Runtime's by as much, and the two are held against each other. bfloat16: twelve times its spacing at 1 (2^-7). Integers
and booleans must be equal."""

LARGEST_SCALE = 16.0
_PIECE = 2**17
FILLED = 1e6
"""A root mean square beyond this is that of masks (-3.4e38), not of values."""
ROUNDING = 1e-5
"""Outputs of a variant that are smaller than this are rounding: they are not asked to be the same."""


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
    closeup: bool = False,
) -> OutputDiff:
    """Compare one output, block by block: beside the two arrays no memory is needed, however large they are.

    Args:
        name: The output.
        expected: PyTorch's values.
        actual: ONNX Runtime's values.
        atol: Absolute tolerance by dtype; one by the output's name goes before it. ATOL's is for values around 1, and
            grows with larger outputs (`noise_scale`).
        rtol: Relative tolerance, likewise.
        counted: Boolean mask over the leading axes: positions that count. Padded positions hold what no reader may use.
        closeup: Whether to keep a small picture of the difference and a few values.

    Example:
        >>> bool(diff_output("y", np.float32([1.0]), np.float32([1.5])))
        False
    """
    dtype = dtype_name(expected)
    at, rt = atol.get(name, atol.get(dtype, 0.0)), rtol.get(name, rtol.get(dtype, 0.0))
    if name not in atol and at == ATOL.get(dtype):
        at *= noise_scale(expected)
    same_kind = expected.shape == actual.shape and dtype == dtype_name(actual)
    nan = float("nan")
    if expected.shape != actual.shape:
        return OutputDiff(
            name, expected.shape, actual.shape, dtype, dtype_name(actual), nan, nan, nan, at, rt, True, False
        )
    found = differences(expected, actual, at, rt, counted, closeup=closeup)
    return OutputDiff(
        name=name,
        expected_shape=expected.shape,
        actual_shape=actual.shape,
        expected_dtype=dtype,
        actual_dtype=dtype_name(actual),
        max_abs=found.max_abs,
        max_rel=found.max_rel,
        cosine=found.cosine,
        atol=at,
        rtol=rt,
        finite=found.finite,
        passed=same_kind and found.finite and not found.beyond,
        worst=None if found.farthest is None else _index(found.farthest, expected.shape),
        closeup=closeup_of(found, expected, actual, at, rt) if closeup else None,
    )


def noise_scale(expected: Array) -> float:
    """By how much the absolute tolerance of an output is larger than that of values around 1: 1, 2, 4, 8 or 16.

    What another order of summation changes is a share of the largest terms, not of the sum: the values near 0 among
    logits around 20 are off by as much as their neighbours. So the output's root mean square counts, rounded up to a
    power of two (the same on every machine).

    Example:
        >>> noise_scale(np.float32([0.5, -0.5])), noise_scale(np.float32([0.0, 8.0]))
        (1.0, 8.0)
    """
    if expected.dtype.kind != "f" or not expected.size:
        return 1.0
    flat = expected.reshape(-1)
    squares = sum(
        float(np.square(flat[at : at + _PIECE], dtype=np.float64).sum()) for at in range(0, flat.size, _PIECE)
    )
    size = math.sqrt(squares / flat.size)
    if not 1 < size < FILLED:  # NaN is not larger either
        return 1.0
    return min(2.0 ** math.ceil(math.log2(size)), LARGEST_SCALE)


def _index(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(at) for at in np.unravel_index(position, shape))


def counted_positions(array: Array, mask: Array | None) -> Array | None:
    """Which positions of a per-token output count: those that are no padding; `None` where all do."""
    if mask is None or mask.ndim < 2 or array.ndim < mask.ndim or array.shape[: mask.ndim] != mask.shape:
        return None
    return mask.astype(bool)


def root_mean_square(array: Array) -> float:
    """The size of an output: of its finite values; 0 of integers, which may not drift."""
    if dtype_name(array) not in ATOL or not array.size:
        return 0.0
    wide = array.astype(np.float64)
    kept = wide[np.isfinite(wide)]
    return float(np.sqrt(np.mean(kept**2))) if kept.size else 0.0


def compare_outputs(
    label: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    feed: Mapping[str, Array],
    *,
    task: str | None = None,
    atol: Mapping[str, float] = ATOL,
    rtol: Mapping[str, float] = RTOL,
    closeup: bool = False,
) -> Comparison:
    """Compare all outputs of one run. Padded positions of per-token outputs do not count.

    Args:
        label: What was tried.
        expected: PyTorch's outputs.
        actual: ONNX Runtime's outputs.
        feed: What both were fed.
        task: The task, where it has an answer to compare.
        atol: Absolute tolerance by dtype; one by an output's name goes before it.
        rtol: Relative tolerance, likewise.
        closeup: Whether each OutputDiff keeps a closeup: for what a person looks at, not for the verdict's tables.
    """
    mask = feed.get("attention_mask")
    diffs = []
    for name, array in expected.items():
        if name not in actual:
            continue
        counted = counted_positions(array, mask)
        diffs.append(diff_output(name, array, actual[name], atol=atol, rtol=rtol, counted=counted, closeup=closeup))
    same_shapes = all(d.expected_shape == d.actual_shape for d in diffs)
    margin = max((d.atol for d in diffs), default=0.0)
    agreed = agreement(task, expected, actual, feed, margin) if task and same_shapes else None
    shapes = {name: tuple(array.shape) for name, array in feed.items()}
    missing = [name for name in expected if name not in actual]
    error = f"the graph has no output {', '.join(missing)}" if missing else None
    return Comparison(label, shapes, tuple(diffs), agreed, error)
