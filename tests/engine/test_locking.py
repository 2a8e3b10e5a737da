"""One export at a time: a second thread waits and says so, the same thread is refused."""

from __future__ import annotations

import threading

import pytest

from onnx_magic.engine.locking import WAITING, export_lock
from onnx_magic.errors import ExportError
from onnx_magic.events import Event, LogLine, StageDone, StageStarted, listening


def test_the_first_takes_it_silently_and_gives_it_back() -> None:
    events: list[Event] = []
    for _ in range(2):
        with listening(events.append), export_lock():
            pass
    assert events == []


def test_a_second_thread_waits_and_says_so() -> None:
    order: list[str] = []
    events: list[Event] = []
    waits = threading.Event()

    def see(event: Event) -> None:
        events.append(event)
        waits.set()

    def second() -> None:
        with listening(see), export_lock():
            order.append("second")

    thread = threading.Thread(target=second)
    with export_lock():
        thread.start()
        assert waits.wait(10)
        assert order == []
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert [type(event) for event in events] == [LogLine, StageStarted, StageDone]
    assert isinstance(events[1], StageStarted) and events[1].name == WAITING


def test_a_nested_export_is_refused_not_deadlocked() -> None:
    with export_lock():
        with pytest.raises(ExportError, match="cannot be nested"), export_lock():
            pass
    with export_lock():
        pass


def test_an_error_or_an_interrupt_gives_it_back() -> None:
    with pytest.raises(KeyboardInterrupt), export_lock():
        raise KeyboardInterrupt
    with export_lock():
        pass


def test_an_interrupt_at_the_checkpoint_of_the_wait_gives_it_back() -> None:
    """The sink raises when the wait is over: the lock is held by then, and must not stay so."""
    begun, interrupted = threading.Event(), threading.Event()

    def stop(event: Event) -> None:
        begun.set()
        if isinstance(event, StageDone):
            raise KeyboardInterrupt

    def second() -> None:
        try:
            with listening(stop), export_lock():
                pass
        except KeyboardInterrupt:
            interrupted.set()

    thread = threading.Thread(target=second)
    with export_lock():
        thread.start()
        assert begun.wait(10)
    thread.join(10)
    assert interrupted.is_set()
    with export_lock():
        pass
