"""A person's way through the quickstart in a real JupyterLab, from the first cell to the page that is handed on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.lab import ROOT, Lab, Watched

OWN = (
    "table = %onnx_axes model",
    "view = %onnx_view exported\nprint(view.nodes, 'nodes in the file')",
)
"""What this journey adds to the quickstart; its last cell, which deletes the folder, is left out."""


@pytest.fixture
def quickstart(lab: Lab, watched: Watched) -> Any:
    """The quickstart in JupyterLab, every cell run."""
    shutil.copytree(ROOT / "notebooks" / "models", lab.root / "models", dirs_exist_ok=True)
    book = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)
    last = max(i for i, cell in enumerate(book.cells) if cell.cell_type == "code")
    assert "rmtree" in book.cells[last].source
    book.cells = [*book.cells[:last], *map(nbformat.v4.new_code_cell, OWN)]
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(book, lab.root / "quickstart.ipynb")
    watched.open(lab, "quickstart.ipynb")
    watched.theme("Light")
    watched.run_all()
    yield watched
    lab.stop_kernels()


def show(seen: Watched, index: int) -> Any:
    """Scroll to a cell; its output. Cells that are not seen are not in the page."""
    content = "window.jupyterapp.shell.currentWidget.content"
    count = seen.page.evaluate(f"() => {content}.widgets.length")
    place = index % count
    seen.page.evaluate(f"i => {{ {content}.activeCellIndex = i; return {content}.scrollToItem(i, 'start'); }}", place)
    return seen.page.locator(f".jp-Cell[data-windowed-list-index='{place}'] .jp-Cell-outputArea")


def tab_to(page: Any, target: Any) -> None:
    for _ in range(20):
        if target.evaluate("e => e === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the keyboard does not get there")


def test_the_quickstart_from_the_first_cell_to_the_page_handed_on(
    quickstart: Watched, lab: Lab, tmp_path: Path
) -> None:
    seen, page = quickstart, quickstart.page
    cells = json.loads((lab.root / "quickstart.ipynb").read_text())["cells"]
    code = {"".join(cell["source"]): index for index, cell in enumerate(cells) if cell["cell_type"] == "code"}
    export, run = (
        next(index for source, index in code.items() if source.startswith(start))
        for start in ("exported = %onnx_export", "%%onnx_run")
    )

    verdict = show(seen, export).get_by_text("verified").first
    verdict.wait_for()
    verdict.scroll_into_view_if_needed()
    seen.shoot("quickstart_lab_light.png")
    answers = show(seen, run)
    answers.get_by_role("columnheader", name="PyTorch").first.wait_for()
    answers.get_by_role("columnheader", name="ONNX Runtime").first.wait_for()

    drawn = show(seen, -1)
    [told] = [int(text.split()[0]) for text in drawn.get_by_text("nodes in the file").all_inner_texts()]
    frame = seen.frame()
    assert frame.locator("#canvas [id^='node-name-']").count() == told > 100

    # by keyboard alone: an axis is renamed, and exported again
    table = show(seen, -2).locator(".onnx-magic-axes")
    length = table.get_by_label("input_ids, axis 1")
    table.locator("[role=region]").first.focus()
    tab_to(page, length)
    page.keyboard.press("Control+a")
    page.keyboard.type("tokens")
    page.keyboard.press("Enter")
    table.get_by_text("1: 'tokens'}}").wait_for()
    tab_to(page, table.get_by_role("button", name="Export again"))
    page.keyboard.press("Enter")
    verdict = table.locator(".verdict")
    verdict.get_by_text("verified").first.wait_for()
    verdict.get_by_role("cell", name="tokens (you)").first.wait_for()

    # dark, and in a cell of 500 pixels
    seen.theme("Dark")
    seen.command("application:toggle-left-area")
    page.set_viewport_size({"width": 600, "height": 900})
    for index, name in ((export, "export"), (run, "run"), (-2, "axes"), (-1, "graph")):
        place = show(seen, index)
        place.wait_for()
        overflow = place.evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert overflow[0] <= overflow[1] + 2, f"{name}: only tables scroll, each in its own region"
        if name == "graph":
            seen.frame()
        seen.shoot(f"quickstart_lab_dark_narrow_{name}.png")
    assert seen.complaints() == []

    # saved, the kernel gone, opened again: the static form stands, as edited, whatever the widget's place says
    seen.save()
    lab.stop_kernels()
    handed_on(seen, lab.root / "quickstart.ipynb", tmp_path / "quickstart.html")


def handed_on(seen: Watched, book: Path, target: Path) -> None:
    """`jupyter nbconvert --to html` of the saved notebook, opened from its folder without a network."""
    from nbconvert import HTMLExporter

    target.write_text(HTMLExporter().from_filename(str(book))[0], encoding="utf-8")
    page = seen.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"file://{target}", wait_until="domcontentloaded")
    for words in ("verified", "POSITIVE 0.9", "tokens (you)"):
        page.locator(".jp-OutputArea").get_by_text(words, exact=False).first.wait_for()
    assert seen.frame().locator("[id^='node-name-']").count() > 100
    seen.shoot("quickstart_nbconvert.png")


def test_opened_again_after_its_kernel_the_static_form_stands(quickstart: Watched, lab: Lab) -> None:
    quickstart.save()
    lab.stop_kernels()
    quickstart.open(lab, "quickstart.ipynb")
    quickstart.theme("Light")
    place = show(quickstart, -2)
    place.get_by_role("cell", name="sequence_length (probe)").first.wait_for()
    quickstart.page.wait_for_timeout(1000)
    quickstart.shoot("quickstart_lab_reopened.png")
    assert place.locator("table").first.is_visible()
    show(quickstart, -1)
    quickstart.frame()
