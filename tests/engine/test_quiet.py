"""None of the libraries' noise reaches the cell."""

from __future__ import annotations

import logging
import sys
import threading
import warnings

import pytest

from onnx_magic.engine.quiet import Log, quiet


def make_noise() -> None:
    print("printed")
    sys.stderr.write("to stderr\rover it\n")
    warnings.warn("warned", UserWarning, stacklevel=1)
    logging.getLogger("torch.onnx.somewhere").warning("logged %s", "here")
    logging.getLogger("transformers.models").error("advised")


def test_all_of_it_is_kept_and_none_of_it_shown(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    with quiet(log):
        make_noise()
    assert capfd.readouterr() == ("", "")
    for part in ("printed", "over it", "UserWarning: warned", "torch.onnx.somewhere: logged here", "advised"):
        assert part in log.text
    assert "to stderr" not in log.text, "what a carriage return overwrites was never to be read"


def test_the_same_noise_shows_without(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_noise()
    assert "printed" in capfd.readouterr().out


def test_streams_handlers_and_filters_are_given_back_after_an_exception() -> None:
    logger = logging.getLogger("torch")
    before = (sys.stdout, sys.stderr, logger.handlers[:], logger.propagate, warnings.filters[:])
    with pytest.raises(RuntimeError), quiet(Log()):
        print("half a line", end="")
        raise RuntimeError
    assert (sys.stdout, sys.stderr, logger.handlers[:], logger.propagate, warnings.filters[:]) == before


def test_other_threads_keep_their_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    with quiet(log):
        thread = threading.Thread(target=print, args=("from another thread",))
        thread.start()
        thread.join()
    assert "from another thread" in capfd.readouterr().out and log.text == ""


def test_the_last_half_line_is_kept() -> None:
    log = Log()
    with quiet(log):
        sys.stdout.write("no newline")
    assert log.text == "no newline"


def test_the_root_logger_gets_no_handler_for_good() -> None:
    """ONNX Runtime's quantizers call `logging.warning`, which sets one up where there is none."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    heard: list[str] = []

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    for handlers in ([], [Hears()]):
        root.handlers[:] = handlers
        log = Log()
        try:
            with quiet(log):
                logging.warning("from a tool")
                other = threading.Thread(target=lambda: logging.getLogger("user").warning("from a user's thread"))
                other.start()
                other.join()
            assert root.handlers == handlers and "root: from a tool" in log.text
        finally:
            root.handlers[:] = before
            root.setLevel(level)
    assert heard == ["from a user's thread"] and "user's thread" not in log.text
