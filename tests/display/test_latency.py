"""Bars."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_magic.display.bundles import bundle
from onnx_magic.display.latency import duration
from onnx_magic.records.latency import BackendTime, Latency


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.00 µs"),
        (4.2e-7, "0.42 µs"),
        (9.9996e-4, "1.00 ms"),
        (0.01234, "12.3 ms"),
        (0.9996, "1.00 s"),
        (75.0, "75.0 s"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_provider_and_threads_stand_beside_each_time(build: Any) -> None:
    rows = bundle(build("latency"))["text/plain"].splitlines()[2:5]
    assert [row.split("  ")[0] for row in rows] == ["PyTorch", "ONNX Runtime", "int8"]
    assert "CPUExecutionProvider" in rows[1] and "10.1 ms" in rows[1] and "2.11×" in rows[1]
    assert "–" in rows[2], "no threads on a GPU"
    assert [row.count("█") for row in rows] == [20, 9, 1]


def test_nothing_and_no_time_at_all() -> None:
    assert "nothing was timed" in bundle(Latency(()))["text/plain"]
    assert "PyTorch" in bundle(Latency((BackendTime("PyTorch", "cpu", 1, 0.0, 0.0, 0.0, 1),)))["text/plain"]
