"""The table as its view sees it: what the browser sends, what it is sent, what a notebook keeps."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from onnx_magic.errors import ExportError
from onnx_magic.events import stage
from onnx_magic.records.plan import TensorSpec
from onnx_magic.widgets.axes_table import VIEW, AxesTable, missing


class Exporter:
    """Exports at once; `calls` holds what it was asked, `fail` is raised when it is set."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fail: BaseException | None = None
        self.heard: list[str] = []

    def __call__(self, dynamic: Any) -> TensorSpec:
        self.calls.append(dynamic)
        with stage("convert"):
            if self.fail is not None:
                raise self.fail
        return TensorSpec(f"<b>x{len(self.calls)}</b>", "int64", ("n",))


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
def table(draft: Any, exporter: Exporter) -> AxesTable:
    return AxesTable(draft, export=exporter, line=lambda dynamic: f"%onnx_export model dynamic={dynamic}")


def send(table: AxesTable, tensor: str, axis: int, text: str) -> None:
    """What the view does when a cell is left."""
    number = table.widget.done + 1
    table.widget.set_state({"edit": {"tensor": tensor, "axis": axis, "text": text, "number": number}})
    assert table.widget.done == number and table.widget.busy == ""


def ask(table: AxesTable) -> None:
    """What the view does when "Export again" is pressed."""
    table.widget.set_state({"asked": table.widget.asked + 1})
    assert table.widget.busy == ""


def test_an_edit_reaches_the_plan_and_the_rows(table: AxesTable) -> None:
    assert table.widget.line == "", "nothing was edited: there is nothing to repeat"
    send(table, "input_ids", 0, "items")
    assert table.plan.dynamic["attention_mask"] == {0: "items", 1: "sequence_length"}
    assert [row["cells"][0]["text"] for row in table.widget.rows] == ["items", "items", "3", "items"]
    assert table.line == table.widget.line == f"%onnx_export model dynamic={table.dynamic}"


def test_export_again_gives_the_verdict_in_place(table: AxesTable, exporter: Exporter) -> None:
    assert table.exported is None
    send(table, "input_ids", 0, "items")
    ask(table)
    assert exporter.calls == [{"input_ids": {0: "items", 1: "sequence_length"}}]
    assert table.exported.name == "<b>x1</b>"
    assert "&lt;b&gt;x1" in table.widget.verdict and "<b>x" not in table.widget.verdict
    ask(table)
    assert table.exported.name == "<b>x2</b>" and "x2" in table.widget.verdict


def test_stages_are_seen_while_it_exports(table: AxesTable) -> None:
    seen: list[str] = []
    table.widget.observe(lambda change: seen.append(change["new"]), "busy")
    ask(table)
    assert seen == ["exporting", "exporting: convert", ""]


def test_a_wrong_cell_is_marked_and_nothing_is_exported(table: AxesTable, exporter: Exporter) -> None:
    send(table, "input_ids", 0, "")
    assert "is empty" in table.widget.rows[0]["cells"][0]["error"]
    ask(table)
    assert exporter.calls == [] and "correct the marked cells" in table.widget.error
    send(table, "input_ids", 0, "items")
    assert table.widget.error == "" and table.widget.rows[0]["cells"][0]["error"] == ""
    ask(table)
    assert len(exporter.calls) == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ExportError("no exporter could do it", fix="opset=18"), "no exporter could do it\nfix: opset=18"),
        (ValueError("anything"), "ValueError: anything"),
        (KeyboardInterrupt(), "Interrupted"),
    ],
)
def test_what_an_export_raises_is_shown(table: AxesTable, exporter: Exporter, error: BaseException, says: str) -> None:
    ask(table)
    first = table.exported
    exporter.fail = error
    ask(table)
    assert says in table.widget.error
    assert table.widget.verdict == "", "the old verdict is not this export's"
    assert table.exported is first
    with pytest.raises(type(error)):
        table.export_again()


def test_what_planning_raises_is_shown(table: AxesTable, planner: Any) -> None:
    planner.fail = RuntimeError("the model broke")
    send(table, "input_ids", 0, "items")
    assert table.widget.error == "RuntimeError: the model broke"
    assert table.widget.rows[0]["cells"][0]["text"] == "batch_size"


def test_what_no_view_sends_is_shown_and_not_lost(table: AxesTable) -> None:
    table.widget.set_state({"edit": {"tensor": "nothing", "axis": 0, "text": "x", "number": 1}})
    assert "KeyError" in table.widget.error
    table.widget.set_state({"edit": {"number": "many"}})
    assert "expected an int" in table.widget.error


def test_what_a_notebook_keeps(table: AxesTable) -> None:
    assert repr(table) == "AxesTable(mini)"
    bundle = table._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/plain", "text/html"}
    assert "sequence_length" in bundle["text/plain"] and "sequence_length" in bundle["text/html"]
    assert bundle[VIEW]["model_id"] == table.widget.model_id


def test_the_static_form_stands_above_the_view(table: AxesTable, raising_shell: Any) -> None:
    raising_shell.user_ns["table"] = table
    assert raising_shell.run("table") is table
    assert [set(data) for data in raising_shell.shown] == [{"text/plain", "text/html"}, {VIEW, "text/plain"}]
    send(table, "input_ids", 0, "items")
    (update,) = raising_shell.display_pub.outputs[2:]
    assert update["update"] and "items" in update["data"]["text/html"]
    assert update["transient"] == raising_shell.display_pub.outputs[0]["transient"]
    send(table, "input_ids", 0, "")
    assert len(raising_shell.shown) == 3, "the plan is the same: nothing is drawn again"


def test_a_records_own_bundle_holds_no_view(table: AxesTable) -> None:
    from onnx_magic.display.bundles import bundle

    assert set(bundle(table.plan)) == {"text/plain", "text/html"}


def test_names_travel_as_text(table: AxesTable) -> None:
    from onnx_magic.widgets.axes_draft import AxesDraft

    bad = "<img src=x onerror=alert(1)>" + "长" * 10_000
    base = table.draft.base
    specs = (TensorSpec(bad, "int64", ("batch_size", 19)),)
    plan = base.replace(inputs=specs, examples={bad: base.examples["input_ids"]}, decisions=())
    row = AxesDraft(plan, plan, lambda wish: plan).rows()[0]
    assert len(row["name"]) <= 48 and row["key"] == bad


@pytest.mark.parametrize("name", ["anywidget", "ipywidgets"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert missing() == ()
    monkeypatch.setitem(sys.modules, name, None)
    assert missing() == (name,)
