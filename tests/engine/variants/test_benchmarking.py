"""Turns, ratios, what drops out, what an interrupt leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from onnx_magic.engine.variants.benchmarking import Entry, measure
from onnx_magic.engine.variants.workers import HereWorker, ProcessWorker
from onnx_magic.records.benchmarks import PYTORCH, Contender, Load
from onnx_magic.runtime.taking_turns import Contestant

LOADS = (Load("batch 1", {"batch_size": 1}), Load("batch 4", {"batch_size": 4}, 4))


def entry(name: str, *seconds: float, facts: Mapping[str, Any] | None = None) -> Entry:
    runs = tuple(lambda pause=pause: time.sleep(pause) for pause in seconds)
    known = {"provider": "cpu", "threads": 1, "load_seconds": 0.1} | dict(facts or {})
    return Entry(Contender(name, "pytorch"), HereWorker(lambda: Contestant(runs, known)))


def failing(name: str, error: BaseException) -> Entry:
    def run() -> None:
        raise error

    facts = {"provider": "cpu", "threads": 1, "load_seconds": 0.1}
    return Entry(Contender(name, "pytorch"), HereWorker(lambda: Contestant((run, run), facts)))


def test_the_slower_one_is_told_from_the_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_magic.engine.variants.benchmarking.SLICE", 0.02)
    bench = measure("m", [entry(PYTORCH, 0.008, 0.016), entry("ONNX Runtime", 0.002, 0.002)], LOADS, 2)
    assert bench.complete and [len(t.rounds) for t in bench.timings] == [2] * 4
    one, four = (bench.speed_up("ONNX Runtime", load.label) for load in LOADS)
    # Sleeping is never shorter than asked for and rarely twice as long: 4 and 8 within that.
    assert one is not None and four is not None and 2 < one < 8 and one < four
    assert bench.speed_up(PYTORCH, "batch 1") == 1
    row = bench.rows()[1]
    assert row["p10 ms"] <= row["median ms"] <= row["p90 ms"] and row["samples/s"] == pytest.approx(
        4000 / row["median ms"]
    )
    assert len(bench.to_frame()) == 4


def test_who_raises_drops_out_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_magic.engine.variants.benchmarking.SLICE", 0.0)
    bench = measure("m", [failing(PYTORCH, ValueError("no such shape")), entry("int8", 0.001, 0.001)], LOADS, 1)
    assert bench.contenders[0].error == "ValueError: no such shape"
    assert [t.contender for t in bench.timings] == ["int8", "int8"]
    assert bench.baseline == "int8", "without PyTorch the first that ran is what ratios are against"


def test_an_interrupt_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_magic.engine.variants.benchmarking.SLICE", 0.0)
    calls = iter(range(1000))

    def run() -> None:
        # Two warm-ups of each load, a first round of each; the second round is cut off.
        if next(calls) == 20:
            raise KeyboardInterrupt

    facts = {"provider": "cpu", "threads": 1, "load_seconds": 0.0}
    cut = Entry(Contender(PYTORCH, "pytorch"), HereWorker(lambda: Contestant((run, run), facts)))
    monkeypatch.setattr("onnx_magic.runtime.taking_turns.STEADY", 1e9)
    bench = measure("m", [cut], LOADS, 50)
    assert not bench.complete
    assert bench.timings and all(len(t.rounds) < 50 for t in bench.timings)


def test_another_provider_than_asked_for_is_said_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_magic.engine.variants.benchmarking.SLICE", 0.0)
    asked = entry("ONNX Runtime", 0.0, 0.0, facts={"provider": "CPUExecutionProvider"})
    asked.contender = Contender("ONNX Runtime", "onnxruntime", asked="CUDAExecutionProvider")
    right = entry("int8", 0.0, 0.0, facts={"provider": "CPUExecutionProvider"})
    right.contender = Contender("int8", "onnxruntime", asked="CPUExecutionProvider")
    bench = measure("m", [asked, right], LOADS, 1)
    said = [note for note in bench.notes if "asked for" in note]
    assert said == ["ONNX Runtime: CUDAExecutionProvider was asked for, CPUExecutionProvider answered"]


def test_a_process_that_dies_says_its_last_words() -> None:
    worker = ProcessWorker("onnx_magic.no_such_worker", {"threads": 1})
    answer = worker.start()
    worker.stop()
    assert "No module named onnx_magic.no_such_worker" in answer["error"]
