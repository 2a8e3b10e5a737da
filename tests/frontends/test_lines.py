"""A line → words."""

from __future__ import annotations

import pytest

from onnx_magic.errors import UsageError
from onnx_magic.frontends.lines import insert_values, split_line, unquoted


@pytest.mark.parametrize(
    ("line", "words", "silent"),
    [
        ("model task=ner", ("model", "task=ner"), False),
        ('model dynamic={"x": {0: "a b"}} opset=18', ("model", 'dynamic={"x": {0: "a b"}}', "opset=18"), False),
        ("f(a, [1, 2]) output='my folder'", ("f(a, [1, 2])", "output='my folder'"), False),
        ("model;", ("model",), True),
        ("model ;  # shown below", ("model",), True),
        ("model # task=ner", ("model",), False),
        ("model output=a#b", ("model", "output=a#b"), False),
        ("f('# no comment;')", ("f('# no comment;')",), False),
        (r"f('it\'s') x", (r"f('it\'s')", "x"), False),
        ("  ", (), False),
        (";", (), True),
    ],
)
def test_split(line: str, words: tuple[str, ...], silent: bool) -> None:
    split = split_line(line)
    assert (split.words, split.silent) == (words, silent)


@pytest.mark.parametrize("line", ["model inputs=(1, 2", "model output='x", "model {"])
def test_what_is_not_closed_is_said(line: str) -> None:
    with pytest.raises(UsageError, match="is not closed") as caught:
        split_line(line)
    assert caught.value.fix


def test_values_are_inserted() -> None:
    scope = {"name": "mini", "sizes": {"a": 3}}
    assert insert_values("m/{name}-{sizes['a']:02d}", scope) == "m/mini-03"
    assert insert_values("{{name}}", scope) == "{name}"
    assert insert_values("plain", scope) == "plain"
    with pytest.raises(NameError):
        insert_values("{nowhere}", scope)
    with pytest.raises(SyntaxError):
        insert_values("{name", scope)


def test_quotes_are_taken_off_once() -> None:
    assert unquoted("'a b'") == "a b"
    assert unquoted("\"'a'\"") == "'a'"
    assert unquoted("'a'+'b'") == "'a'+'b'"
