"""Stages while they run."""

from __future__ import annotations

import io

import pytest

from onnx_magic.display.progress import EMPTY, StageBoard
from onnx_magic.events import Progress, emit, stage
from onnx_magic.frontends.progress import Watch, line_on, watching


class Terminal(io.StringIO):
    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self.name_of_encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.name_of_encoding

    def isatty(self) -> bool:
        return True


def test_begins_and_ends_empty() -> None:
    seen: list[str] = []

    def draw(board: StageBoard) -> None:
        seen.append(board.bundle()["text/plain"])

    with watching(draw), stage("capture"):
        pass
    assert "capture" in seen[0] and seen[-1] == EMPTY["text/plain"]
    seen.clear()
    with pytest.raises(ValueError), watching(draw), stage("capture"):
        raise ValueError
    assert seen[-1] == EMPTY["text/plain"], "also when the run fails"


def test_steps_are_not_all_drawn() -> None:
    now = [0.0]
    drawn: list[str] = []
    watch = Watch(lambda board: drawn.append(board.bundle()["text/plain"]), clock=lambda: now[0])
    from onnx_magic.events import StageStarted

    watch.hear(StageStarted("verify"))
    for done in range(100):
        now[0] += 0.01
        watch.hear(Progress("verify", done, 100))
    assert 8 <= len(drawn) <= 12


def test_knows_the_stage_of_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), watching(None) as watch, stage("convert"):
        with stage("inner"):
            raise KeyboardInterrupt
    assert watch.stage == "inner"
    with watching(None) as watch, stage("convert"):
        pass
    assert watch.stage is None and watch.ended == ["convert"]


def test_a_terminal_has_one_line_that_goes_away() -> None:
    terminal = Terminal()
    draw = line_on(terminal)
    with watching(draw), stage("convert"):
        emit(Progress("convert", 1, 2))
    assert "convert" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_terminal_without_the_signs() -> None:
    terminal = Terminal("ascii")
    with watching(line_on(terminal)), stage("convert"):
        pass
    assert "? convert" in terminal.getvalue()


def test_a_file_gets_nothing() -> None:
    assert line_on(io.StringIO()) is None
