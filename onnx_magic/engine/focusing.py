"""One output of one sample, looked at closely: where it differs, in a small picture and a few values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from onnx_magic.engine.comparing import compare_outputs
from onnx_magic.records.closeups import Spot
from onnx_magic.records.results import Array, OutputDiff


def focused(
    output: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    feed: Mapping[str, Array],
    sample: int,
    atol: Mapping[str, float],
    rtol: Mapping[str, float],
) -> OutputDiff | None:
    """How far one output is off at one sample, with a closeup; padded positions do not count.

    An output whose first axis does not count the samples is looked at whole. The places that are named are those in
    the whole output.

    Args:
        output: The output.
        expected: All outputs of the first backend.
        actual: All outputs of the other one.
        feed: What both were fed.
        sample: Which sample.
        atol: Absolute tolerance by dtype.
        rtol: Relative tolerance by dtype.

    Returns:
        `None` where one of the two has no such output.
    """
    if output not in expected or output not in actual:
        return None
    samples = max((array.shape[0] for array in feed.values() if array.ndim), default=1)
    splits = samples > 1 and all(a.ndim and a.shape[0] == samples for a in (expected[output], actual[output]))
    part = slice(sample, sample + 1) if splits else slice(None)
    parts = {name: a[part] if splits and a.ndim and a.shape[0] == samples else a for name, a in feed.items()}
    sides = [{output: side[output][part] if splits else side[output]} for side in (expected, actual)]
    (diff,) = compare_outputs(output, sides[0], sides[1], parts, atol=atol, rtol=rtol, closeup=True).diffs
    return _moved(diff, sample) if splits else diff


def _moved(diff: OutputDiff, sample: int) -> OutputDiff:
    """The diff of a part that began at `sample`, its places those of the whole."""

    def spot(found: Spot) -> Spot:
        return dataclasses.replace(found, index=(sample, *found.index[1:]))

    close = diff.closeup
    if close is not None:
        worst = None if close.worst is None else spot(close.worst)
        close = dataclasses.replace(close, first=tuple(map(spot, close.first)), worst=worst)
    worst_at = None if diff.worst is None else (sample, *diff.worst[1:])
    return dataclasses.replace(diff, worst=worst_at, closeup=close)
