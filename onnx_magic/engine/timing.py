"""How long a backend takes for one input: the median of a few runs behind one that does not count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

from onnx_magic.records.playing import Timing

Answer = TypeVar("Answer")

RUNS = 5
BUDGET = 0.4
"""Seconds that the runs behind the first may take in all: a person waits for them."""


def timed(run: Callable[[], Answer], *, threads: int = 0, budget: float = BUDGET) -> tuple[Answer, Timing]:
    """Call `run` once for its answer, then again as often as the budget allows (at most `RUNS` times) for its time.

    An answer that took longer than the budget is not asked for again: its own time counts, and `warm` says so.

    Example:
        >>> answer, timing = timed(lambda: 42)
        >>> answer, timing.runs, timing.warm
        (42, 5, True)
    """
    started = time.perf_counter()
    answer = run()
    first = time.perf_counter() - started
    if first > budget:
        return answer, Timing(first, threads=threads)
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < budget:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return answer, Timing(statistics.median(seconds), len(seconds), True, threads)
