"""Answers of all backends as blocks: what differs is marked, what failed is said, no times in what is kept."""

from __future__ import annotations

import numpy as np

from onnx_magic.display.bundles import bundle
from onnx_magic.display.playing import panel_blocks
from onnx_magic.display.text import text
from onnx_magic.records.latency import BackendTime, Latency
from onnx_magic.records.playing import Played, PlayedAnswer, PlayView
from onnx_magic.records.results import Comparison, OutputDiff, RunResult

BAD = "<img src=x onerror=alert(1)>"


def answer(name: str, label: str, *, passed: bool | None = None) -> PlayedAnswer:
    """One backend's: a label for one sample; compared with the first where `passed` is said."""
    result = RunResult({"logits": np.zeros((1, 2), np.float32)}, [{"label": label, "score": 0.5}])
    if passed is None:
        return PlayedAnswer(name, result)
    diff = OutputDiff("logits", (1, 2), (1, 2), "float32", "float32", 0, 0, 1, 1e-4, 1e-3, True, passed)
    return PlayedAnswer(name, result, Comparison(name, {}, (diff,)))


def test_agreeing_answers_and_no_times() -> None:
    times = Latency((BackendTime("PyTorch", "cpu", 1, 0.001, 0.001, 0.002, 5),))
    played = Played("mini", (answer("PyTorch", "A"), answer("int8", "A", passed=True)), latency=times)
    kept = bundle(played)["text/plain"]
    assert kept.startswith("✓ agrees: int8 with PyTorch") and "ms" not in kept and "✗" not in kept
    parts = {name: text(blocks) for name, blocks in panel_blocks(played, PlayView()).items()}
    assert "1.00 ms" in parts["times"] and "logits" in parts["tensor"] and "int8" in parts["tensor"]


def test_what_differs_and_what_failed_come_first() -> None:
    broken = PlayedAnswer("q4", error="it does not load", fix="export it again")
    played = Played("mini", (answer("PyTorch", "A"), answer("int8", BAD, passed=False), broken), notes=("a note",))
    lines = bundle(played)["text/plain"].splitlines()
    assert lines[0].startswith("✗ differs: int8 from PyTorch")
    rest = "\n".join(lines[1:])
    assert "it does not load" in rest and "fix: export it again" in rest and "a note" in rest
    page = bundle(played)["text/html"]
    assert "<img" not in page
    assert "img src=x onerror=alert(1)&gt;" in page
    tensor = text(panel_blocks(played, PlayView())["tensor"])
    assert "✗ values differ" in tensor, "a comparison that failed is shown"


def test_one_backend_alone_shows_its_values() -> None:
    played = Played("mini", (answer("ONNX Runtime", "A"),))
    assert "agrees" not in bundle(played)["text/plain"]
    assert "0.000, 0.000" in text(panel_blocks(played, PlayView(output="nowhere"))["tensor"])
