"""The worker's side of a benchmark: loads one contender, warms up, and measures when it is its turn.

Several workers live at once and one of them runs at a time: they are told so over stdin, a JSON line a turn, and answer
over stdout. Whatever a library prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.records.results import Array

Run: TypeAlias = Callable[[], object]

STEADY = 0.1
"""Two blocks of warm-up runs whose medians differ by less than this share are steady."""
BLOCK = 3
LONGEST_WARM_UP = 20.0


@dataclass(frozen=True, eq=False)
class Contestant:
    """A contender, loaded: a callable per load, and what is known of it.

    Args:
        runs: What is timed, in the order of the loads.
        facts: What the answer to the start says: provider, threads, seconds of loading.
    """

    runs: tuple[Run, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def warm_up(run: Run, seconds: float = LONGEST_WARM_UP) -> tuple[int, bool]:
    """Run until the times are steady, at most `seconds`.

    Returns:
        How many runs it took, and whether the last two blocks of three had medians within 10 %.

    Example:
        >>> warm_up(lambda: sum(range(20000)))[0] >= 6
        True
    """
    started, before, count = time.perf_counter(), 0.0, 0
    while True:
        now = median(timed(run, BLOCK))
        count += BLOCK
        if before and abs(now - before) <= STEADY * before:
            return count, True
        if time.perf_counter() - started > seconds:
            return count, False
        before = now


def timed(run: Run, least: int, seconds: float = 0.0) -> list[float]:
    """Seconds of each run: at least so many runs, and until `seconds` are spent."""
    found: list[float] = []
    ended = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < ended:
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return found


def peak_memory() -> int | None:
    """Peak resident memory of this process in bytes; `None` where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    # macOS counts in bytes; the systems that count in kilobytes have /proc.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write_feeds(path: Path, feeds: Sequence[Mapping[str, Array]]) -> None:
    """The feeds of all loads in one .npz file: arrays called `<load>/<dtype>/<input>`."""
    arrays: dict[str, Any] = {}
    for load, feed in enumerate(feeds):
        for name, array in feed.items():
            # NumPy writes its own dtypes alone: bfloat16 and float8 go as the integers of their bits.
            foreign = array.dtype.isbuiltin != 1 and array.dtype.kind not in "US"
            stored = np.ascontiguousarray(array).reshape(array.shape).view(f"u{array.itemsize}") if foreign else array
            arrays[f"{load}/{array.dtype.name if foreign else ''}/{name}"] = stored
    np.savez(path, **arrays)


def read_feeds(path: Path, count: int) -> list[dict[str, Array]]:
    """What `write_feeds` wrote, a feed per load."""
    feeds: list[dict[str, Array]] = [{} for _ in range(count)]
    with np.load(path) as arrays:
        for key in arrays.files:
            load, dtype, name = key.split("/", 2)
            array = arrays[key]
            if dtype:
                import ml_dtypes

                array = array.view(getattr(ml_dtypes, dtype))
            feeds[int(load)][name] = array
    return feeds


def serve(make: Callable[[Mapping[str, Any]], Contestant]) -> None:
    """Be a worker: the first line of stdin says what to load, each further one a turn; ends with stdin.

    A turn `{"load": 0, "warm": true}` is answered with `{"runs", "steady"}`, `{"load": 0, "least", "seconds"}` with
    `{"seconds": [...]}`, `{"memory": true}` with `{"memory"}`; what raises, with `{"error"}`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt of the notebook is the parent's to answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(record: Mapping[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")
        answers.flush()

    contestant: Contestant | None = None
    for line in sys.stdin:
        told = json.loads(line)
        try:
            if contestant is None:
                contestant = make(told)
                answer(dict(contestant.facts))
            else:
                answer(_turn(contestant, told))
        except Exception as error:  # whatever a model raises is an answer too: the others go on
            answer({"error": told_error(error)})


def told_error(error: Exception) -> str:
    """What was raised, on one line of at most 300 characters.

    Example:
        >>> told_error(ValueError("no such\\n  shape"))
        'ValueError: no such shape'
    """
    text = str(getattr(error, "what", "")) or f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 300 else f"{text[:297]}..."


def _turn(contestant: Contestant, told: Mapping[str, Any]) -> dict[str, Any]:
    if told.get("memory"):
        return {"memory": peak_memory()}
    run = contestant.runs[told["load"]]
    if told.get("warm"):
        runs, steady = warm_up(run)
        return {"runs": runs, "steady": steady}
    return {"seconds": timed(run, told["least"], told["seconds"])}


def load_graph(told: Mapping[str, Any]) -> Contestant:
    """A contender that ONNX Runtime runs: `{"paths", "feeds", "loads", "provider", "threads", "inter_op"}`.

    `paths` are the graphs by role, `loads` the role that each load runs.
    """
    import onnxruntime  # noqa: F401  # its import is not the model's loading

    from onnx_magic.runtime.sessions import open_graph

    started = time.perf_counter()
    sessions = {
        role: open_graph(Path(path), told["provider"], told["threads"], inter_op=told["inter_op"])
        for role, path in told["paths"].items()
    }
    seconds = time.perf_counter() - started
    feeds = read_feeds(Path(told["feeds"]), len(told["loads"]))

    def run_of(role: str, feed: dict[str, Array]) -> Run:
        session = sessions[role]
        fed = {name: array for name, array in feed.items() if name in session.inputs}
        return lambda: session.run(fed)

    provider = next(iter(sessions.values())).provider
    facts = {"provider": provider, "threads": told["threads"], "load_seconds": seconds}
    return Contestant(tuple(run_of(role, feed) for role, feed in zip(told["loads"], feeds, strict=True)), facts)


if __name__ == "__main__":
    serve(load_graph)
