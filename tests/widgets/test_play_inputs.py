"""A form that was filled in → what the backends are asked; what is empty or wrong is said at its field."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_magic.errors import FeedError
from onnx_magic.widgets.play_draft import PlayDraft
from onnx_magic.widgets.play_inputs import FieldError, filled_of, inputs_of

from .fakes import FORMS, FakeBackends


def evaluate(text: str) -> Any:
    return eval(text, {"x": [1, 2]})


@pytest.mark.parametrize(
    ("kind", "filled", "inputs"),
    [
        ("texts", {"text": " I loved it \n\n"}, "I loved it"),
        ("texts", {"text": "one\ntwo"}, ["one", "two"]),
        ("texts", {"text": "one", "second": "uno"}, ("one", "uno")),
        ("texts", {"text": "one\ntwo", "second": "uno\ndos"}, [("one", "uno"), ("two", "dos")]),
        ("question", {"question": "Who?", "context": "Ada\ndid."}, {"question": "Who?", "context": "Ada\ndid."}),
        ("choices", {"prompt": "It fell and", "choices": "broke\nflew"}, ("It fell and", ["broke", "flew"])),
        ("image", {"image": "cat.png"}, "cat.png"),
        ("image", {"image": ""}, "noise"),
        ("sound", {"sound": "hello.wav"}, "hello.wav"),
        ("sound", {"sound": " "}, "noise"),
        ("arrays", {}, {"given": {}, "sizes": {"n": 2}, "seed": 0}),
        (
            "arrays",
            {"array:x": "x * 2", "size:n": "7", "seed": "3"},
            {"given": {"x": [1, 2] * 2}, "sizes": {"n": 7}, "seed": 3},
        ),
    ],
)
def test_what_is_filled_in_becomes_an_input(kind: str, filled: dict[str, str], inputs: Any) -> None:
    assert inputs_of(FakeBackends(kind), filled, evaluate) == inputs
    back = filled_of(FORMS[kind], inputs)
    if kind != "arrays" and inputs != "noise":
        assert back is not None and inputs_of(FakeBackends(kind), back, evaluate) == inputs


@pytest.mark.parametrize(
    ("kind", "filled", "place", "what"),
    [
        ("texts", {"text": " \n"}, "text", "the text is empty"),
        ("texts", {"text": "one", "second": "a\nb"}, "second", "1 text and 2 second texts"),
        ("question", {"question": "Who?", "context": ""}, "context", "the context is empty"),
        ("choices", {"prompt": "It", "choices": " "}, "choices", "the choices is empty"),
        ("arrays", {"array:x": "nothing"}, "array:x", "nothing raises NameError"),
        ("arrays", {"array:x": "1 +"}, "array:x", "SyntaxError"),
        ("arrays", {"size:n": "-2"}, "size:n", "n cannot be '-2'"),
        ("arrays", {"seed": "1e99999999999"}, "seed", "seed cannot be"),
        ("arrays", {"size:n": "٣" * 20}, "size:n", "whole number"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(kind: str, filled: dict[str, str], place: str, what: str) -> None:
    with pytest.raises(FieldError) as caught:
        inputs_of(FakeBackends(kind), filled, evaluate)
    assert caught.value.place == place and what in caught.value.what and caught.value.fix
    assert "\n" not in caught.value.what


def test_an_upload_is_read_as_an_image() -> None:
    backends = FakeBackends("image")
    assert inputs_of(backends, {"image": "ignored.png"}, evaluate, b"png") == ("image", b"png")
    with pytest.raises(FeedError, match="no image"):
        inputs_of(backends, {}, evaluate, b"broken")


def test_an_upload_is_read_as_a_sound() -> None:
    assert inputs_of(FakeBackends("sound"), {"sound": "ignored.wav"}, evaluate, b"wav") == ("sound", b"wav")


@pytest.mark.parametrize("inputs", [{"x": 1}, ["a", 1], "two\nlines", [], [""], None, ("a", 1)])
def test_what_the_form_cannot_hold_is_not_put_in_it(inputs: Any) -> None:
    assert filled_of(FORMS["texts"], inputs) is None


def test_options_are_read_as_run_reads_them() -> None:
    backends = FakeBackends("generated")
    draft = PlayDraft(backends, eval)
    draft.run_filled({"temperature": "0.5", "seed": " 7 "})
    assert backends.ran == ["Once"] and backends.options == {"max_new_tokens": 8, "temperature": 0.5, "seed": 7}
    draft.run_inputs({"input_ids": [[1]]})
    assert backends.options["seed"] == 7, "they hold for what Python runs too"
    draft.run_filled({"temperature": "", "seed": "", "max_new_tokens": ""})
    assert backends.options == {"max_new_tokens": None, "temperature": None, "seed": None}


@pytest.mark.parametrize(("name", "text"), [("max_new_tokens", "many"), ("temperature", "hot"), ("seed", "1.5")])
def test_an_option_that_cannot_be_read_is_said_at_its_place(name: str, text: str) -> None:
    backends = FakeBackends("generated")
    with pytest.raises(FieldError) as caught:
        PlayDraft(backends, eval).run_filled({name: text})
    assert caught.value.place == name and caught.value.fix.startswith(f"{name}=") and not backends.ran
