"""A benchmark: contenders in processes of their own, warmed up, then timed in turns, round by round.

Idle thread pools spin: eight ONNX Runtime sessions and torch in one process on two cores made torch look twelve times
slower than it is. So each contender has a process, one of them runs at a time, and a ratio is taken within a round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx_magic.engine.variants.workers import Worker
from onnx_magic.events import Progress, emit, stage
from onnx_magic.records.benchmarks import Benchmark, Contender, Load, Timing

SLICE = 0.2
"""Seconds for which a contender runs one load in one round, if it is quick enough to run LEAST times in them."""
LEAST = 3


@dataclass(eq=False)
class Entry:
    """One contender while it is measured.

    Args:
        contender: What is known of it so far.
        worker: How it is spoken to.
    """

    contender: Contender
    worker: Worker

    @property
    def runs(self) -> bool:
        """Whether it is still in."""
        return self.contender.error is None

    def told(self, answer: Mapping[str, Any]) -> bool:
        """Take in an answer; False when it says that the contender is out."""
        if "error" in answer:
            self.contender = replace(self.contender, error=str(answer["error"]))
        return self.runs


def measure(
    name: str,
    entries: Sequence[Entry],
    loads: Sequence[Load],
    rounds: int,
    loaded: Callable[[], object] | None = None,
) -> Benchmark:
    """Start all, warm each up, let them take turns; what was measured before an interrupt is kept.

    Args:
        name: The model's name.
        entries: The contenders, PyTorch first.
        loads: What each runs, in the order of the workers' feeds.
        rounds: How often each has its turn.
        loaded: Called once all have loaded.
    """
    times: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    complete = True
    try:
        with stage("load") as row:
            _start(entries)
            row.detail = f"{sum(e.runs for e in entries)} of {len(entries)} contenders"
        if loaded is not None:
            loaded()
        with stage("warm up"):
            _warm_up(entries, loads)
        with stage("measure"):
            _take_turns(entries, loads, rounds, times)
    except KeyboardInterrupt:
        complete = False
    finally:
        for entry in entries:
            entry.worker.stop()
    order = {entry.contender.name: i for i, entry in enumerate(entries)}
    labels = [load.label for load in loads]
    timings = sorted(
        (Timing(who, load, tuple(found)) for (who, load), found in times.items()),
        key=lambda t: (labels.index(t.load), order[t.contender]),
    )
    return Benchmark(
        name, tuple(e.contender for e in entries), tuple(loads), tuple(timings), rounds, complete, _notes(entries)
    )


def _start(entries: Sequence[Entry]) -> None:
    for done, entry in enumerate(entries, start=1):
        facts = entry.worker.start()
        entry.contender = replace(entry.contender, own_process=entry.worker.own_process)
        if entry.told(facts):
            provider = str(facts["provider"])
            asked = entry.contender.asked if entry.contender.asked not in ("", provider) else ""
            entry.contender = replace(
                entry.contender, provider=provider, asked=asked, load_seconds=float(facts["load_seconds"])
            )
        emit(Progress("load", done, len(entries)))


def _warm_up(entries: Sequence[Entry], loads: Sequence[Load]) -> None:
    steps = [(entry, i) for entry in entries for i in range(len(loads))]
    for done, (entry, i) in enumerate(steps, start=1):
        if entry.runs:
            answer = entry.worker.ask({"load": i, "warm": True})
            if entry.told(answer):
                entry.contender = replace(entry.contender, steady=entry.contender.steady and bool(answer["steady"]))
        emit(Progress("warm up", done, len(steps)))


def _take_turns(
    entries: Sequence[Entry],
    loads: Sequence[Load],
    rounds: int,
    times: dict[tuple[str, str], list[tuple[float, ...]]],
) -> None:
    total, done = rounds * len(loads) * len(entries), 0
    for turn in range(rounds):
        for i, load in enumerate(loads):
            # Who is first changes, so that nobody always runs behind the same neighbour.
            for entry in (*entries[turn % len(entries) :], *entries[: turn % len(entries)]):
                if entry.runs:
                    answer = entry.worker.ask({"load": i, "least": LEAST, "seconds": SLICE})
                    if entry.told(answer):
                        times.setdefault((entry.contender.name, load.label), []).append(tuple(answer["seconds"]))
                done += 1
                emit(Progress("measure", done, total))
    for entry in entries:
        if entry.runs:
            entry.contender = replace(entry.contender, memory=entry.worker.ask({"memory": True})["memory"])


def _notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    found = []
    for entry in entries:
        who = entry.contender
        if who.asked:
            found.append(f"{who.name}: {who.asked} was asked for, {who.provider} answered")
        if who.runs_here:
            found.append(f"{who.name} ran in this process: its class is defined in the notebook")
        if not who.steady:
            found.append(f"{who.name}: its times had not settled when the warm-up ended")
    return tuple(found)
