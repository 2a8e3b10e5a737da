"""What a saved notebook still shows: in a page from a folder, offline, in JupyterLab without its kernel, stripped."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest

from onnx_magic.widgets.axes_table import VIEW
from tests.browser.lab import Lab, Watched

CELLS = {
    "load": "%load_ext onnx_magic",
    "model": "model = 'sentiment-mini'",
    "export": "exported = %onnx_export model task=sentiment-analysis output=out",
    "run": '%%onnx_run exported\n["I loved every minute of it", "A dull, lifeless mess"]',
    "axes": "table = %onnx_axes model",
    "plan": "exported.plan.edit()",
    "view": "%onnx_view exported",
    "widget": "table.edit('input_ids', 1, 'tokens')",
}
SHOWN = {"export": "verified", "run": "POSITIVE", "axes": "tokens", "plan": "sequence_length", "view": "MatMul"}
"""A word that the static form of each cell holds; the axes table's is the edited one."""


@pytest.fixture(scope="module")
def executed(sample_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook, run in a real kernel, with the widgets' state in it; the model and the export are gone since."""
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("saved")
    shutil.copytree(sample_checkpoint, folder / "sentiment-mini")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    shutil.rmtree(folder / "out")
    assert book.metadata.widgets, "the state of the widgets is saved"
    return book


def outputs_of(book: nbformat.NotebookNode, cell: str) -> list[dict[str, Any]]:
    outputs = book.cells[list(CELLS).index(cell)].outputs
    return [output.data for output in outputs if output.get("data", {}).get("text/plain")]


def page_of(book: nbformat.NotebookNode, path: Path, *, state: bool = True, sanitized: bool = False) -> Path:
    """`jupyter nbconvert --to html`."""
    from nbconvert import HTMLExporter

    kept = copy.deepcopy(book)
    if not state:
        del kept.metadata["widgets"]
    exporter = HTMLExporter(sanitize_html=sanitized)
    path.write_text(exporter.from_notebook_node(kept)[0], encoding="utf-8")
    return path


def stands(place: Any, cell: str) -> None:
    """Wait until the static form of a cell is seen: in its output, not in its source."""
    outputs = place.locator(".jp-OutputArea")
    if cell == "view":  # its tables are folded above the frame
        outputs.locator("summary").filter(has_text="nodes").first.wait_for(state="visible")
    else:
        outputs.get_by_text(SHOWN[cell]).first.wait_for(state="visible")
        outputs.locator("table").first.wait_for(state="visible")


def test_no_record_has_a_view_in_its_bundle_and_a_view_stands_below_its_static_form(
    executed: nbformat.NotebookNode,
) -> None:
    for cell, word in SHOWN.items():
        static, *live = outputs_of(executed, cell)
        assert set(static) == {"text/plain", "text/html"} and word in static["text/html"] + static["text/plain"]
        assert [set(data) for data in live] == ([{VIEW, "text/plain"}] if cell in ("axes", "plan") else [])


@pytest.mark.parametrize("state", [True, False], ids=["with widget state", "without widget state"])
def test_a_page_that_is_opened_offline_shows_every_static_form(
    executed: nbformat.NotebookNode, watched: Watched, tmp_path: Path, state: bool
) -> None:
    page = watched.page
    page.goto(f"file://{page_of(executed, tmp_path / 'page.html', state=state)}", wait_until="domcontentloaded")
    for cell in SHOWN:
        place = page.locator(".jp-Cell").nth(list(CELLS).index(cell))
        place.scroll_into_view_if_needed()
        stands(place, cell)
    frame = watched.frame()
    assert frame.locator("[id^='node-name-']").count() > 50
    assert watched.page.get_by_text("Error displaying widget").count() == 0
    page.locator(".jp-Cell").nth(list(CELLS).index("axes")).scroll_into_view_if_needed()
    watched.shoot(f"nbconvert_{'with' if state else 'without'}_state.png")
    page.locator(".jp-Cell").nth(list(CELLS).index("export")).scroll_into_view_if_needed()
    watched.shoot("nbconvert_page.png")
    # what the page asks of others are the CDNs of nbconvert's own template; nothing of ours needs them
    assert all("cdnjs" in url or "jsdelivr" in url or "unpkg" in url for url in watched.outside)


def test_a_sanitized_page_shows_the_tables(executed: nbformat.NotebookNode, watched: Watched, tmp_path: Path) -> None:
    page = page_of(executed, tmp_path / "page.html", sanitized=True)
    watched.page.goto(f"file://{page}", wait_until="domcontentloaded")
    for cell in ("export", "run", "axes", "plan"):
        place = watched.page.locator(".jp-Cell").nth(list(CELLS).index(cell))
        stands(place, cell)
    assert watched.page.locator("iframe").count() == 0


class Stripped(HTMLParser):
    """HTML as GitHub shows it: no scripts, frames and styles, no attributes; what is in tables stays in tables."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.text, self.rows = 0, "", 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.hidden += tag in ("script", "style", "iframe")
        self.rows += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style", "iframe")
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += "" if self.hidden else data


@pytest.mark.parametrize("cell", SHOWN)
def test_without_scripts_and_styles_the_table_is_there(executed: nbformat.NotebookNode, cell: str) -> None:
    parsed = Stripped()
    parsed.feed(outputs_of(executed, cell)[0]["text/html"])
    assert SHOWN[cell] in parsed.text and parsed.rows > 1
    assert "function" not in parsed.text and len(parsed.text) < 6000, "nothing of a script is left as text"


@pytest.fixture
def reopened(executed: nbformat.NotebookNode, watched: Watched, lab: Lab) -> Iterator[Callable[..., Watched]]:
    """The saved notebook opened in JupyterLab, nothing run: the kernel that drew it is long gone."""

    def open_it(state: bool) -> Watched:
        kept = copy.deepcopy(executed)
        if not state:
            del kept.metadata["widgets"]
        nbformat.write(kept, lab.root / "saved.ipynb")
        watched.open(lab, "saved.ipynb")
        return watched

    yield open_it
    lab.stop_kernels()


@pytest.mark.parametrize("state", [True, False], ids=["with widget state", "without widget state"])
def test_reopened_in_jupyterlab_the_static_form_stands(reopened: Callable[..., Watched], state: bool) -> None:
    seen = reopened(state)
    book = seen.page.locator(".jp-Notebook")
    for cell in SHOWN:
        index = list(CELLS).index(cell)
        seen.page.evaluate("i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i)", index)
        place = book.locator(f".jp-Cell[data-windowed-list-index='{index}']")
        stands(place, cell)
    axes = list(CELLS).index("axes")
    seen.page.evaluate("i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i)", axes)
    seen.shoot(f"lab_reopened_{'with' if state else 'without'}_state.png")
    assert seen.outside == []


def test_a_trusted_notebook_that_is_opened_without_its_kernel_shows_the_static_form_alone(
    run_notebook: Callable[..., Watched], watched: Watched, lab: Lab, sample_checkpoint: Path
) -> None:
    """The views' models are gone with the kernel: empty ones that JupyterLab finds in the notebook stand for them."""
    run_notebook("%load_ext onnx_magic", f"model = {str(sample_checkpoint)!r}", "table = %onnx_axes model")
    page, live = watched.page, watched.page.locator(".onnx-magic-axes")
    live.wait_for()
    watched.save()
    watched.open(lab, "test.ipynb")
    live.wait_for()  # the kernel lives, and so does the table
    lab.stop_kernels()
    path = lab.root / "test.ipynb"
    book = nbformat.read(path, as_version=4)
    error = page.get_by_text("Error displaying widget")
    for kept in (True, False):
        if not kept:  # what jupyterlab_widgets does by itself: once this fails, assets/reopened.js can go
            del book.metadata["widgets"]
        nbformat.write(book, path)
        lab.ask("contents/test.ipynb/trust", "POST")
        watched.open(lab, "test.ipynb")
        page.locator(".jp-OutputArea table").first.wait_for()
        if kept:
            gone = page.locator(".onnx-magic-gone")
            gone.wait_for(state="attached")
            assert gone.is_hidden(), "nor the sign for a lost kernel"
            watched.shoot("lab_reopened_trusted.png")
        else:
            error.wait_for()
        assert error.count() == (0 if kept else 1) and live.count() == 0
