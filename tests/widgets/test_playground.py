"""The panel as its view sees it: what the browser sends, what it is sent, what a notebook keeps."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_magic.errors import FeedError, OnnxMagicError
from onnx_magic.records.results import SideBySide
from onnx_magic.widgets.play_draft import PlayDraft
from onnx_magic.widgets.playground import VIEW, Playground

from .fakes import FakeBackends


@pytest.fixture
def backends() -> FakeBackends:
    return FakeBackends()


@pytest.fixture
def panel(backends: FakeBackends) -> Playground:
    draft = PlayDraft(backends, eval)
    draft.run_filled({})
    made = Playground(draft)
    made.widget.send = lambda content, buffers=None: sent.append(content)
    sent: list[Any] = made.__dict__.setdefault("sent", [])
    return made


def send(panel: Playground, kind: str, **content: Any) -> None:
    """What the view does; it is told when that is done."""
    buffers = content.pop("buffers", [])
    panel.widget._handle_custom_msg({"type": kind, "number": "v-7", **content}, buffers)
    assert panel.__dict__["sent"][-1] == {"type": "done", "number": "v-7"} and panel.widget.busy == ""


def test_a_text_reaches_the_backends_and_the_answers_the_view(panel: Playground, backends: FakeBackends) -> None:
    assert backends.ran == [["one", "two"]]
    send(panel, "run", values={"text": "I loved it"})
    assert backends.ran[-1] == panel.inputs == "I loved it"
    assert "GOOD" in panel.widget.parts["answers"] and panel.widget.choices["samples"] == 1
    assert "ms" in panel.widget.parts["times"] and "logits" in panel.widget.parts["tensor"]
    assert isinstance(panel.result, SideBySide) and list(panel.results) == ["PyTorch", "ONNX Runtime"]
    assert panel.widget.values["text"] == "I loved it"


def test_looking_at_something_else_runs_nothing(panel: Playground, backends: FakeBackends) -> None:
    send(panel, "look", name="top_k", value="2")
    assert "other" in panel.widget.parts["answers"] and panel.top_k == 2
    send(panel, "look", name="sample", value="1")
    assert "&lt;img" in panel.widget.parts["answers"] and panel.sample == 1
    send(panel, "look", name="output", value="state")
    send(panel, "look", name="atol", value="1e-9")
    assert (panel.output, panel.atol, len(backends.ran)) == ("state", 1e-9, 1)
    assert panel.widget.look == {"output": "state", "sample": "1", "top_k": "2", "atol": "1e-9", "rtol": ""}
    send(panel, "look", name="top_k", value="")
    assert panel.top_k is None
    send(panel, "run", values={"text": "one alone"})
    assert panel.sample == 0, "there is no sample 1 any more"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("top_k", "0", "expected 1 or more"),
        ("top_k", "many", "not a whole number"),
        ("top_k", "99", "too large"),
        ("atol", "-1", "not a tolerance"),
        ("rtol", "nan", "not a tolerance"),
        ("sample", "5", "there is no sample 5"),
        ("output", "<b>", "there is no output '<b>'"),
    ],
)
def test_a_wrong_choice_is_said_at_its_place(panel: Playground, name: str, value: str, what: str) -> None:
    before = dict(panel.widget.look)
    send(panel, "look", name=name, value=value)
    assert what in panel.widget.problem["what"] and panel.widget.problem["fix"]
    assert panel.widget.look == before and not panel.widget.stale
    if name != "top_k" or value != "99":
        assert panel.widget.problem["place"] == name
    send(panel, "look", name=name, value=before[name])
    assert panel.widget.problem == {}


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (FeedError("too many tokens", fix="a shorter text"), "too many tokens", "a shorter text"),
        (ValueError("anything"), "ValueError: anything", "exported.run(panel.inputs)"),
        (KeyboardInterrupt(), "Interrupted", "press Run"),
        (MemoryError(), "MemoryError", "exported.run(panel.inputs)"),
    ],
)
def test_a_failing_input_never_kills_the_panel(
    panel: Playground, backends: FakeBackends, error: BaseException, what: str, fix: str
) -> None:
    first, drawn = panel.played, panel.widget.parts
    backends.fail = error
    send(panel, "run", values={"text": "bad"})
    assert what in panel.widget.problem["what"] and fix in panel.widget.problem["fix"]
    assert panel.widget.stale and panel.widget.parts == drawn and panel.played is first
    assert panel.widget.values["text"] == "bad", "what was typed stays"
    send(panel, "look", name="top_k", value="2")
    assert panel.widget.stale, "these are still the answers of the input before"
    with pytest.raises(type(error)):
        panel.inputs = "bad"
    backends.fail = None
    send(panel, "run", values={"text": "good"})
    assert panel.widget.problem == {} and not panel.widget.stale


def test_what_no_view_sends_is_shown_and_not_lost(panel: Playground) -> None:
    send(panel, "run")
    assert "KeyError" in panel.widget.problem["what"]
    send(panel, "look", name="nothing", value="1")
    assert "KeyError" in panel.widget.problem["what"]


def test_options_are_set_from_python_too(panel: Playground, backends: FakeBackends) -> None:
    panel.inputs = ["a", "b", "c"]
    panel.top_k, panel.sample, panel.output, panel.atol, panel.rtol = 2, 2, "state", 1e-3, 0.0
    assert panel.widget.values["text"] == "a\nb\nc" and panel.widget.look["sample"] == "2"
    assert backends.looked[-1] == panel.draft.view
    panel.inputs = {"x": [1]}
    assert panel.widget.by_code == "panel.inputs is x: [1]"
    panel.run(text="typed")
    assert panel.widget.by_code == "" and panel.inputs == "typed"
    with pytest.raises(OnnxMagicError, match="expected 1 or more"):
        panel.top_k = 0
    assert panel.top_k == 2


def test_a_text_that_grows_is_shown_while_it_grows(panel: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_magic.widgets.playground._PIECES", -1.0)
    seen: list[str] = []
    busy: list[str] = []
    panel.widget.observe(lambda change: seen.append(change["new"]), "stream")
    panel.widget.observe(lambda change: busy.append(change["new"]), "busy")
    send(panel, "run", values={"text": "go on"})
    assert seen == ["PyTorch says ", "PyTorch says so", "ONNX Runtime says ", "ONNX Runtime says so", ""]
    assert busy == ["running", "running PyTorch", "running ONNX Runtime", ""]


def test_what_a_notebook_keeps(panel: Playground) -> None:
    assert repr(panel) == "Playground(<b>mini</b>)"
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/plain", "text/html"}
    assert "GOOD" in bundle["text/plain"] and "GOOD" in bundle["text/html"]
    assert " ms" not in bundle["text/plain"], "no times: they differ on every run"
    assert "<img" not in bundle["text/html"] and "&lt;img" in bundle["text/html"]
    assert bundle[VIEW]["model_id"] == panel.widget.model_id


def test_the_static_form_stands_above_the_view_and_follows_it(panel: Playground, raising_shell: Any) -> None:
    raising_shell.user_ns["panel"] = panel
    assert raising_shell.run("panel") is panel
    assert [set(data) for data in raising_shell.shown] == [{"text/plain", "text/html"}, {VIEW, "text/plain"}]
    send(panel, "look", name="top_k", value="2")
    (update,) = raising_shell.display_pub.outputs[2:]
    assert (
        update["update"]
        and "other" in update["data"]["text/html"]
        and set(update["data"]) == set(raising_shell.shown[0])
    )
    send(panel, "look", name="output", value="state")
    send(panel, "look", name="top_k", value="0")
    assert len(raising_shell.shown) == 3, "the answers are the same: nothing is drawn again"


def test_a_panel_whose_first_input_failed_says_why(backends: FakeBackends) -> None:
    backends.fail = FeedError("no such thing", fix="another")
    draft = PlayDraft(backends, eval)
    assert not draft.attempt(lambda: draft.run_filled({}))
    panel = Playground(draft)
    assert panel.widget.problem["what"] == "no such thing" and panel.result is None and panel.results == {}
    assert panel._bundle()["text/plain"] == "✗ error: no such thing\n  fix: another"


def test_an_upload_travels_beside_the_message() -> None:
    backends = FakeBackends("image")
    panel = Playground(PlayDraft(backends, eval))
    panel.widget.send = lambda content, buffers=None: None
    panel.widget._handle_custom_msg({"type": "run", "number": "1", "values": {}}, [memoryview(b"png")])
    assert backends.ran == [("image", b"png")]
    assert "png" not in str(panel.widget.get_state()["values"]), "no image in a notebook's widget state"
