"""Formatters in a real IPython shell: put there, found by the shell, taken away, and theirs put back."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from onnx_magic.display import formatters
from onnx_magic.display.bundles import FORMATTED, bundle
from onnx_magic.errors import OnnxMagicError, UnknownTaskError
from onnx_magic.records.results import RunResult, Validation


class Holder:
    """Stands for ExportedModel, which display does not know."""

    def __init__(self, report: object) -> None:
        self.report = report


EXTRA = {Holder: lambda holder: holder.report}


@pytest.fixture
def shell() -> Any:
    from IPython.core.formatters import DisplayFormatter

    return SimpleNamespace(display_formatter=DisplayFormatter())


def printers(shell: Any) -> list[dict[Any, Any]]:
    display = shell.display_formatter
    return [dict(display.mimebundle_formatter.type_printers), dict(display.formatters["text/plain"].type_printers)]


def test_every_record_is_drawn_by_the_shell(shell: Any, sample: tuple[str, object]) -> None:
    formatters.register(shell, EXTRA)
    data, metadata = shell.display_formatter.format(sample[1])
    assert data == bundle(sample[1]) and metadata == {}


def test_a_terminal_asks_for_text_alone(shell: Any, build: Callable[[str], object]) -> None:
    formatters.register(shell, EXTRA)
    data, _ = shell.display_formatter.format(build("stages"), include=["text/plain"])
    assert data == {"text/plain": bundle(build("stages"))["text/plain"]}


def test_what_the_caller_names_is_drawn_by_its_record(shell: Any, build: Callable[[str], object]) -> None:
    formatters.register(shell, EXTRA)
    report = build("verified")
    assert shell.display_formatter.format(Holder(report))[0] == bundle(report)


def test_unregister_leaves_the_shell_as_it_was(shell: Any, build: Callable[[str], object]) -> None:
    before = printers(shell)
    formatters.register(shell, EXTRA)
    assert printers(shell) != before
    formatters.unregister(shell)
    assert printers(shell) == before
    assert "text/html" not in shell.display_formatter.format(build("verified"))[0]


def test_twice_is_once(shell: Any) -> None:
    before = printers(shell)
    formatters.register(shell, EXTRA)
    formatters.register(shell, EXTRA)
    formatters.unregister(shell)
    assert printers(shell) == before
    formatters.unregister(shell)
    assert printers(shell) == before


def test_a_formatter_of_somebody_else_is_put_back(shell: Any, build: Callable[[str], Any]) -> None:
    bundles = shell.display_formatter.mimebundle_formatter

    def theirs(value: object) -> dict[str, str]:
        return {"text/plain": "theirs"}

    bundles.for_type(Validation, theirs)
    bundles.for_type(Exception, theirs)
    formatters.register(shell, EXTRA)
    validation = build("verified").validation
    assert shell.display_formatter.format(validation)[0] == bundle(validation)
    formatters.unregister(shell)
    assert bundles.for_type(Validation) is theirs
    assert OnnxMagicError not in bundles.type_printers, "that of a base class is not pinned to ours"


def test_a_formatter_put_over_ours_is_left_alone(shell: Any) -> None:
    def theirs(value: object) -> dict[str, str]:
        return {"text/plain": "theirs"}

    formatters.register(shell, EXTRA)
    shell.display_formatter.mimebundle_formatter.for_type(RunResult, theirs)
    formatters.unregister(shell)
    assert shell.display_formatter.mimebundle_formatter.type_printers == {RunResult: theirs}


class Drawn(tuple[int, ...]):
    """A tuple that draws itself."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": "<b>itself</b>"}


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    "value", [(), (1, 2), (1,), Pair(1, [2]), [(1, 2)], Drawn((1,)), (ValueError("x"),), ValueError("x")]
)
def test_other_tuples_and_errors_are_shown_as_before(shell: Any, value: object) -> None:
    before = shell.display_formatter.format(value)
    formatters.register(shell, EXTRA)
    assert shell.display_formatter.format(value) == before


def test_other_tuples_go_to_the_formatter_that_was_there(shell: Any) -> None:
    shell.display_formatter.mimebundle_formatter.for_type(tuple, lambda value: {"text/html": "theirs"})
    formatters.register(shell, EXTRA)
    assert shell.display_formatter.format((1, 2))[0]["text/html"] == "theirs"


def test_a_subclass_of_our_error_is_drawn(shell: Any) -> None:
    formatters.register(shell)
    data, _ = shell.display_formatter.format(UnknownTaskError("no such task", fix="task=ner"))
    assert data["text/plain"] == "✗ error: no such task\n  fix: task=ner" and "no such task" in data["text/html"]


def test_in_a_whole_shell(raising_shell: Any, build: Callable[[str], object]) -> None:
    formatters.register(raising_shell, EXTRA)
    raising_shell.user_ns["record"] = build("verified")
    raising_shell.run("record")
    assert raising_shell.shown[-1] == bundle(build("verified"))
    assert len(FORMATTED) == 15
