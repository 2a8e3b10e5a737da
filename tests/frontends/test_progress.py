"""Stages while they run."""

from __future__ import annotations

import contextlib
import contextvars
import io
import threading

import pytest

from onnx_magic.display.progress import EMPTY, StageBoard
from onnx_magic.events import Progress, StageStarted, emit, stage
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
    watch.hear(StageStarted("verify"))
    for done in range(100):
        now[0] += 0.01
        watch.hear(Progress("verify", done, 100))
    assert 8 <= len(drawn) <= 12


def test_a_stage_without_steps_is_seen_to_be_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_magic.frontends.progress._TICK", 0.01)
    drawings: list[int] = []
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell")
    cell.set("this one")
    cells: set[str] = set()
    enough = threading.Event()

    def draw(board: StageBoard) -> None:
        drawings.append(threading.get_ident())
        cells.add(cell.get())
        if len(set(drawings)) == 2:
            enough.set()

    with watching(draw), stage("convert"):
        assert enough.wait(10), "nothing was drawn while the stage ran"
    assert cells == {"this one"}, "ipykernel finds the cell of an output in its context"
    assert "onnx_magic-progress" not in {thread.name for thread in threading.enumerate()}
    assert drawings[-1] == threading.get_ident(), "the empty board is drawn last"


def test_no_tick_before_a_stage_or_after_the_end() -> None:
    drawings: list[str] = []
    watch = Watch(lambda board: drawings.append(board.line()), clock=lambda: 0.0)
    watch.tick()
    assert drawings == []
    watch.hear(StageStarted("verify"))
    watch.drawn = float("-inf")
    watch.tick()
    assert len(drawings) == 2
    watch.close()
    watch.drawn = float("-inf")
    watch.tick()
    assert len(drawings) == 3


def test_knows_the_stage_of_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), watching(None) as watch, stage("convert"):
        with stage("inner"):
            raise KeyboardInterrupt
    assert watch.stage == "inner"
    with watching(None) as watch, stage("convert"):
        pass
    assert watch.stage is None and watch.ended == ["convert"]
    with pytest.raises(KeyboardInterrupt), watching(None) as watch:
        with stage("outer"), contextlib.suppress(ValueError), stage("a way that failed"):
            raise ValueError
        raise KeyboardInterrupt
    assert watch.stage is None, "what was got over was not interrupted"


def test_an_interrupt_leaves_a_bar_that_has_stopped() -> None:
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt), watching(lambda board: seen.append(board.bundle()["text/plain"])):
        with stage("source"):
            pass
        with stage("benchmark"), stage("int8"):
            emit(Progress("int8", 3, 8))
            raise KeyboardInterrupt
    assert seen[-1] == "✓ source  ■ benchmark stopped  ■ int8 stopped at 3/8"
    assert "onnx_magic-progress" not in {thread.name for thread in threading.enumerate()}


def test_an_interrupt_leaves_no_line_in_a_terminal() -> None:
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), watching(line_on(terminal)), stage("convert"):
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\r\x1b[K") and "stopped" not in terminal.getvalue()


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
