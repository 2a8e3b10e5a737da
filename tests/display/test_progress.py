"""The board: pure, fed by events, empty at both ends."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_magic.display.progress import EMPTY, StageBoard
from onnx_magic.display.wording import width
from onnx_magic.events import LogLine, Progress, StageDone, StageStarted, Token
from onnx_magic.records.findings import Finding


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(board: StageBoard, *names: str) -> None:
    for name in names:
        board.feed(StageStarted(name))
        board.feed(StageDone(name, True, 0.5))


def test_begins_and_ends_empty(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    assert board.bundle() == dict(EMPTY) == {"text/plain": "", "text/html": ""} and board.line() == ""
    run(board, "source")
    assert board.bundle() != EMPTY
    board.close()
    assert board.bundle() == EMPTY


def test_the_running_stage_its_steps_and_its_seconds(clock: Clock, page: Any) -> None:
    board = StageBoard(("source", "plan", "verify", "store"), clock)
    run(board, "source", "plan")
    board.feed(StageStarted("verify"))
    board.feed(Progress("verify", 3, 6))
    clock.now += 2.04
    assert board.line() == "✓ source  ✓ plan  ▸ verify 3/6  2.0 s"
    markup = board.bundle()["text/html"]
    parsed = page(markup)
    assert "width:50%" in markup and markup.count("width:100%") == 2 and markup.count("flex:1") == 4
    assert "verify 3/6" in parsed.words and "2.0 s" in parsed.words
    assert not {"style", "script", "svg"} & set(parsed.tags)


def test_a_stage_that_has_just_begun_has_no_seconds(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    board.feed(StageStarted("capture"))
    assert board.line() == "▸ capture" and "0.00 s" not in board.bundle()["text/html"]
    clock.now += 0.5
    assert board.line() == "▸ capture  0.50 s"


def test_a_bar_without_a_known_end_grows(clock: Clock) -> None:
    """A bar of equal parts would be full from the first stage on, and its pieces would shrink."""
    board = StageBoard(clock=clock)
    for count in (1, 2, 3):
        run(board, f"stage {count}")
        markup = board.bundle()["text/html"]
        assert markup.count("flex:0 1 66px") == count and "flex:1" not in markup


def test_a_failed_stage_stays_to_be_seen(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    run(board, "source")
    board.feed(StageStarted("capture"))
    board.feed(StageDone("capture", False, 3.25))
    assert board.line() == "✓ source  ✗ capture failed  3.2 s" and board.failed == "capture"
    board.close()
    assert "✗ capture failed" in board.line()
    run(board, *(f"a stage with a long name {n}" for n in range(9)))
    assert "✗ capture failed" in board.line() and board.failed is None


def test_a_stage_entered_again_is_one_stage(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    run(board, "source", "plan", "source", "plan")
    assert board.line() == "✓ source  ✓ plan  0.50 s"


def test_nested_stages_end_each_on_its_own(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    board.feed(StageStarted("outer"))
    clock.now += 1
    board.feed(StageStarted("inner"))
    clock.now += 1
    assert board.line() == "▸ outer  ▸ inner  1.0 s"
    board.feed(StageDone("inner", True, 1.0))
    assert board.line() == "▸ outer  ✓ inner  2.0 s"


@pytest.mark.parametrize("name", ["a", "stage-of-work", "输入张量", "x" * 10_000, "a\nb\x1b[31m"])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_the_line_fits_and_is_one_line(clock: Clock, name: str, count: int) -> None:
    board = StageBoard(clock=clock)
    for number in range(count):
        board.feed(StageStarted(f"{name}{number}"))
        board.feed(StageDone(f"{name}{number}", number % 7 != 3, 1e5))
    board.feed(StageStarted(name))
    line = board.line()
    assert width(line) <= 79 and "\n" not in line and "\x1b" not in line
    assert "▸" in line, "the running stage is always there"


def test_names_are_escaped(clock: Clock, page: Any) -> None:
    board = StageBoard(clock=clock)
    board.feed(StageStarted("<img src=x onerror=alert(1)>"))
    assert "img" not in page(board.bundle()["text/html"]).tags


def test_other_events_and_ends_of_unknown_stages_change_nothing(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    for event in (
        LogLine("x"),
        Token("y"),
        Finding("fallback", "z"),
        StageDone("never", True, 1.0),
        Progress("n", 1, 2),
    ):
        board.feed(event)
    assert board.bundle() == EMPTY
    board.feed(StageStarted("verify"))
    board.feed(Progress("verify", 1, 0))
    board.feed(Progress("verify", 9, 6))
    assert "width:100%" in board.bundle()["text/html"], "never beyond its end"


def test_a_stopped_run_is_not_seen_running_and_has_no_times(clock: Clock, page: Any) -> None:
    board = StageBoard(clock=clock)
    run(board, "load")
    board.feed(StageStarted("dynamo"))
    board.feed(StageDone("dynamo", False, 9.0))
    board.feed(StageStarted("benchmark"))
    board.feed(StageStarted("int8"))
    board.feed(Progress("int8", 20, 80))
    board.feed(StageDone("int8", False, 3.0))
    clock.now += 3
    board.stop(["int8"])
    assert board.line() == "✓ load  ✗ dynamo failed  ■ benchmark stopped  ■ int8 stopped at 20/80" and board.closed
    markup = board.bundle()["text/html"]
    assert "▸" not in markup and "3.0" not in markup and "width:25%" in markup
    assert "int8 stopped at 20/80" in page(markup).words
    clock.now += 60
    assert board.bundle()["text/html"] == markup, "it does not go on"
    board.close()
    assert board.bundle() == EMPTY


def test_any_verb_may_have_stages_of_its_own(clock: Clock) -> None:
    board = StageBoard(clock=clock)
    for name in ("optimize", "quantize int8", "calibrate", "generate", "校准"):
        board.feed(StageStarted(name))
        board.feed(Progress(name, 1, 4))
        assert f"▸ {name} 1/4" in board.line() and f"{name} 1/4" in board.bundle()["text/html"]
        board.feed(StageDone(name, True, 0.5))
