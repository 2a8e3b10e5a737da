"""Errors in lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onnx_magic.display.failures import error_text
from onnx_magic.errors import ExportError, OnnxMagicError, SourceError


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    for outer, inner in zip((error, *causes), causes, strict=False):
        outer.__cause__ = inner
    return error


def test_an_error_of_ours_is_two_lines_whatever_it_holds() -> None:
    error = SourceError("the weights\nare broken\x1b[31m", fix="one\ntwo")
    assert error_text(caused(error, ValueError("inner"))).splitlines() == [
        "the weights\\nare broken\\x1b[31m",
        "fix: one\\ntwo",
    ]
    assert error_text(OnnxMagicError("no fix")) == "no fix"


def test_verbose_tells_each_way_and_each_cause(build: Callable[[str], ExportError]) -> None:
    error = caused(build("export_error"), KeyError("x"))
    assert len(error_text(error).splitlines()) == 2
    assert error_text(error, verbose=True).splitlines()[2:] == [
        "tried dynamo: RuntimeError: line one\\nline two",
        "tried torchscript: ValueError",
        "caused by KeyError: 'x'",
    ]


def test_any_other_error_is_its_class_its_message_and_its_causes() -> None:
    error = caused(ValueError("outer"), TypeError(), OnnxMagicError("inner", fix="do"))
    assert error_text(error).splitlines() == [
        "ValueError: outer",
        "caused by TypeError",
        "caused by OnnxMagicError: inner",
    ]
    assert error_text(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_causes_that_loop_or_never_end_stop() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(error_text(first).splitlines()) == 2
    deep = caused(ValueError("0"), *(ValueError(str(n)) for n in range(1, 40)))
    assert len(error_text(deep).splitlines()) < 10


@pytest.mark.parametrize("name", ["error", "export_error"])
def test_a_shown_error_is_never_green(build: Callable[[str], object], name: str) -> None:
    from onnx_magic.display.bundles import bundle

    assert bundle(build(name))["text/plain"].startswith("✗ error: ")
