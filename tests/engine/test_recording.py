"""What a run did and said."""

from __future__ import annotations

import pytest

from onnx_magic.engine.recording import Recorder
from onnx_magic.errors import ExportError
from onnx_magic.events import LogLine, StageDone


def test_a_stage_that_came_twice_counts_with_both_times() -> None:
    record = Recorder(("plan", "convert", "store"))
    for event in (StageDone("convert", False, 1.0), StageDone("other", True, 9.0), StageDone("convert", True, 2.0)):
        record.see(event)
    assert [(s.name, s.ok, s.seconds) for s in record.stages] == [
        ("plan", None, 0.0),
        ("convert", True, 3.0),
        ("store", None, 0.0),
    ]


def test_without_a_list_every_stage_is_kept_as_it_comes() -> None:
    record = Recorder()
    record.see(StageDone("calibrate", True, 1.0))
    assert [s.name for s in record.stages] == ["calibrate"]


def test_an_error_of_ours_takes_the_log_along() -> None:
    record = Recorder()
    record.see(LogLine("torch said so"))
    with pytest.raises(ExportError) as refused, record.explaining():
        raise ExportError("it failed", fix="try again")
    assert refused.value.log == "torch said so"
    with pytest.raises(ValueError, match="not ours"), record.explaining():
        raise ValueError("not ours")
