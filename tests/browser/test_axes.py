"""The axes table in JupyterLab: edited by keyboard alone, exported again, explained at the cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import WAIT


@pytest.fixture
def axes(run_notebook: Callable[..., Any], sample_checkpoint: Path, tmp_path: Path) -> Any:
    """The table of the sample model: `(watched page, table)`."""
    watched = run_notebook(
        "%load_ext onnx_magic",
        f"table = %onnx_axes {str(sample_checkpoint)!r} output={str(tmp_path / 'live')!r}",
        "print(table.plan.dynamic['input_ids'], table.exported)",
    )
    table = watched.page.locator(".onnx-magic-axes")
    table.locator("input").first.wait_for(timeout=WAIT)
    return watched, table


def test_edit_by_keyboard_and_export_again(axes: Any) -> None:
    watched, table = axes
    page = watched.page
    batch, length = table.get_by_label("input_ids, axis 0"), table.get_by_label("input_ids, axis 1")
    mask = table.get_by_label("attention_mask, axis 1")
    assert length.input_value() == "sequence_length"
    batch.focus()
    page.keyboard.press("Tab")
    assert length.evaluate("e => e === document.activeElement")
    page.keyboard.press("Control+a")
    page.keyboard.type("dd_x0")  # d d, x and 0 0 are commands of the notebook
    assert mask.input_value() == "dd_x0", "what moves together is seen at once"
    page.keyboard.press("Enter")
    table.locator(".who", has_text="you").first.wait_for()
    table.get_by_text("dynamic={'input_ids': {0: 'batch_size', 1: 'dd_x0'}}").wait_for()
    button = table.get_by_role("button", name="Export again")
    for _ in range(12):
        page.keyboard.press("Tab")
        if button.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    table.locator(".verdict", has_text="verified").wait_for(timeout=WAIT)
    table.locator("button[aria-disabled=false]").wait_for()
    table.scroll_into_view_if_needed()
    watched.shoot("axes_lab_light.png")
    last = "() => { const book = window.jupyterapp.shell.currentWidget.content; book.activeCellIndex = 2; }"
    page.evaluate(last)
    watched.command("notebook:run-cell")
    page.get_by_text("1: 'dd_x0'} <ExportedModel").wait_for()
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    assert page.evaluate(count) == 3, "no key was taken for a command"
    assert watched.complaints() == []


def test_a_wrong_edit_is_explained_at_the_cell(axes: Any) -> None:
    watched, table = axes
    page = watched.page
    cell = table.get_by_label("input_ids, axis 0")
    for typed, said in (("", "is empty"), ("-2", "cannot be -2"), ("7", "size of the example inputs")):
        cell.fill(typed)
        cell.press("Enter")
        table.locator(".who[data-error=true]", has_text=said).wait_for()
        assert cell.get_attribute("aria-invalid") == "true" and cell.input_value() == typed
    table.get_by_role("button", name="Export again").click()
    table.get_by_role("alert").get_by_text("correct the marked cells").wait_for()
    watched.command("application:toggle-left-area")
    page.set_viewport_size({"width": 560, "height": 900})  # leaves the cell about 500
    watched.shoot("axes_lab_narrow_error.png")
    cell.fill("<img src=x onerror=alert(1)>")
    cell.press("Enter")
    table.locator(".who[data-error=true]", has_text="cannot be called").wait_for()
    assert table.locator("img").count() == 0
    cell.fill("n")
    cell.press("Escape")
    cell.fill("items")
    cell.press("Enter")
    table.get_by_text("{0: 'items', 1: 'sequence_length'}").wait_for()
    assert cell.get_attribute("aria-invalid") == "false"
    assert watched.complaints() == []


def test_dark_narrow_and_what_is_saved(axes: Any, lab: Any) -> None:
    watched, table = axes
    page = watched.page
    watched.theme("Dark")
    colours = table.locator("input").first.evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert colours[0] != colours[1]
    watched.command("application:toggle-left-area")
    page.set_viewport_size({"width": 560, "height": 900})
    box = table.locator(".scroll")
    table.get_by_role("button", name="Export again").scroll_into_view_if_needed()
    box.evaluate("e => e.scrollIntoView({block: 'center'})")
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "only the table's own region scrolls"
    watched.shoot("axes_lab_dark_500.png")
    table.get_by_label("input_ids, axis 1").fill("tokens")
    table.get_by_label("input_ids, axis 1").press("Enter")
    table.get_by_text("1: 'tokens'}}").wait_for()
    watched.save()
    saved = json.loads((lab.root / "test.ipynb").read_text())
    kinds = [sorted(output["data"]) for output in saved["cells"][1]["outputs"] if output["data"].get("text/html")]
    assert kinds == [["text/html", "text/plain"]], "the static form is kept, without a view in it"
    assert "tokens" in json.dumps(saved["cells"][1]["outputs"]), "and it is the edited one"
