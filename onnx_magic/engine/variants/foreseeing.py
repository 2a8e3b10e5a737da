"""What a variant's answers on a few samples say of samples that nobody has tried: a finer measure than counting them.

Of a few hundred labels a good variant changes none or one, and many sets of layers look alike. How far each answer
leads its runner-up, and by how much quantising shifts that lead, are known of every sample; an answer changes where the
shift is larger than the lead. Every lead crossed with every shift gives n * n cases in the place of n: of 10,659
unseen snippets sentiment-mini's static int8 changes 16, and 13.1 are computed so. The shift is taken to be independent
of the lead; on samples that the ranges were not measured on it is larger, so what is computed is a little too good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.records.variants import Answers
from onnx_magic.runtime.agreeing import lead_changes

Array: TypeAlias = np.ndarray[Any, Any]
Outputs: TypeAlias = Mapping[str, Array]
Run: TypeAlias = tuple[Outputs, Outputs, Mapping[str, Array]]

SPARE = math.log(1.5)
"""So many changed answers more than allowed may be expected among as many samples: of a rare event that is expected so
often, none is twice as likely as any."""


def expected_rate(runs: Sequence[Run], task: str | None) -> float | None:
    """The share of answers to be expected the same on other samples of the kind; `None` without answers to count.

    Args:
        runs: (expected, actual, feed) of each feed.
        task: Canonical task.
    """
    found = [pair for expected, actual, feed in runs if (pair := lead_changes(task, expected, actual, feed))]
    if not found:
        return None
    leads, shifts = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(leads):
        return None
    below = np.searchsorted(np.sort(shifts), -leads, side="left")
    return float(1 - below.mean() / len(shifts))


def mean_drift(runs: Sequence[Run]) -> float | None:
    """Root mean square of the first float output's difference, as a share of that output's own; `None` without one."""
    off = size = 0.0
    for expected, actual, _ in runs:
        name = next((n for n, array in expected.items() if array.dtype.kind == "f" and array.size), None)
        if name is None or name not in actual or actual[name].shape != expected[name].shape:
            continue
        wanted, found = expected[name].astype(np.float64), actual[name].astype(np.float64)
        keep = np.isfinite(wanted) & np.isfinite(found)
        off += float(np.sum((found[keep] - wanted[keep]) ** 2))
        size += float(np.sum(wanted[keep] ** 2))
    return float(np.sqrt(off / size)) if size else None


def reaches(answers: Answers | None, target: float) -> bool:
    """Whether samples speak for a target: by what is to be expected of as many others, and by their own count.

    The count is rounded to whole answers: one of 256 that changes does not speak against 0.999.

    Args:
        answers: What the answers are worth; `None`: it does not run.
        target: The share that must be the same, or the mean cosine.
    """
    if answers is None:
        return False
    if answers.expected is None or answers.kind == "cosine":
        return answers.rate >= target
    few = answers.changed <= math.ceil(answers.total * (1 - target))
    return few and answers.total * (target - answers.expected) <= SPARE


def rate_of(parts: Sequence[Answers | None]) -> float:
    """The share that is the same over several parts of the data; the mean cosine where there is no answer to count."""
    found = [part for part in parts if part is not None]
    return sum(part.rate * part.total for part in found) / max(sum(part.total for part in found), 1)


def worth(answers: Answers | None) -> tuple[float, float]:
    """What is better sorts higher: by the share to be expected (else counted), then by the mean drift."""
    if answers is None:
        return 0.0, -np.inf
    share = answers.rate if answers.expected is None else answers.expected
    return share, -(answers.drift if answers.drift is not None else np.inf)
