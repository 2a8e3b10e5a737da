"""The worker's side of a benchmark: what it answers, and that a turn is what was asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from onnx_magic.runtime.taking_turns import peak_memory, read_feeds, timed, warm_up, write_feeds
from tests.graphs import chain


def test_a_turn_runs_at_least_so_often_and_so_long() -> None:
    calls: list[int] = []
    assert len(timed(lambda: calls.append(1), 3)) == 3 == len(calls)
    started = time.perf_counter()
    assert len(timed(lambda: time.sleep(0.01), 1, 0.05)) >= 3
    assert time.perf_counter() - started >= 0.05


def test_warming_up_ends_when_the_times_are_steady() -> None:
    seconds = iter([0.05] * 3 + [0.02] * 3 + [0.004] * 100)
    runs, steady = warm_up(lambda: time.sleep(next(seconds)))
    assert steady and runs >= 9, "two blocks that differ are not steady"


def test_warming_up_gives_up() -> None:
    times = iter(0.002 * 1.5**i for i in range(100))
    assert warm_up(lambda: time.sleep(next(times)), seconds=0.05)[1] is False


def test_the_peak_is_of_this_process() -> None:
    before = peak_memory()
    held = np.ones(30_000_000, np.uint8)
    after = peak_memory()
    assert before is not None and after is not None and after >= before and after >= held.nbytes


def test_a_worker_loads_runs_and_says_what_fails(tmp_path: Path) -> None:
    graph = chain(tmp_path / "model.onnx")
    write_feeds(tmp_path / "feeds.npz", [{"x": np.ones((2, 4), np.float32)}, {"x": np.ones((2, 4), np.int64)}])
    told = {
        "paths": {"model": str(graph)},
        "feeds": str(tmp_path / "feeds.npz"),
        "loads": ["model", "model"],
        "provider": None,
        "threads": 1,
        "inter_op": 1,
    }
    turns = [told, {"load": 0, "warm": True}, {"load": 0, "least": 3, "seconds": 0.0}, {"load": 1, "warm": True}]
    process = subprocess.Popen(
        [sys.executable, "-m", "onnx_magic.runtime.taking_turns"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None and process.stdout is not None
    answers = []
    for turn in turns:
        process.stdin.write(json.dumps(turn) + "\n")
        process.stdin.flush()
        answers.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGINT)  # the parent's to answer
    process.stdin.write(json.dumps({"memory": True}) + "\n")
    process.stdin.flush()
    answers.append(json.loads(process.stdout.readline()))
    process.stdin.close()
    assert process.wait(10) == 0
    loaded, warmed, measured, refused, memory = answers
    assert loaded["provider"] == "CPUExecutionProvider" and loaded["load_seconds"] > 0
    assert warmed["runs"] >= 6
    assert len(measured["seconds"]) == 3
    assert "int64" in refused["error"]
    assert memory["memory"] > 10_000_000


def test_feeds_keep_their_dtypes(tmp_path: Path) -> None:
    import ml_dtypes

    feed = {
        "a/b": np.ones((2, 1), ml_dtypes.bfloat16),
        "half": np.full((3,), 0.5, np.float16),
        "flag": np.array(True),
        "text": np.array(["é"]),
    }
    write_feeds(tmp_path / "feeds.npz", [{}, feed])
    empty, back = read_feeds(tmp_path / "feeds.npz", 2)
    assert empty == {} and list(back) == list(feed)
    for name, array in feed.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape and (back[name] == array).all()
