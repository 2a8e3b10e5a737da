"""README's picture: the quickstart's four lines in a real JupyterLab. `python -m tests.browser.picture` makes it anew.

It needs what the browser tests need: Playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import nbformat

from tests.browser.lab import ROOT, Lab, Watched, started_browser, started_lab, watched_page

PICTURE = ROOT / "notebooks" / "images" / "quickstart.png"
LIMIT = 300_000
"""Bytes that the picture may have."""

SETUP = """from transformers import pipeline
from transformers.utils import logging

logging.disable_progress_bar()
model = pipeline("text-classification", model="models/sentiment-mini")"""
CELLS = (
    "%load_ext onnx_magic\nexported = %onnx_export model task=sentiment-analysis",
    '%%onnx_run exported\n["I loved every minute of it", "A dull, lifeless mess"]',
)
"""README's four lines of usage; the model is loaded in a cell above the picture."""

WIDTH, HEIGHT = 1190, 1600
"""So wide that the tables stand beside each other."""


def take(seen: Watched, lab: Lab) -> None:
    """Run the notebook and cut the picture out: from the first of the cells to the end of the last."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SETUP, *CELLS)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, lab.root / "quickstart.ipynb")
    page = seen.page
    seen.open(lab, "quickstart.ipynb")
    seen.theme("Light")
    seen.command("application:toggle-left-area")
    seen.run_all()
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    for index, word in ((1, "verified"), (2, "POSITIVE")):
        cells.nth(index).locator(".jp-OutputArea").get_by_text(word).first.wait_for()
    # nothing is selected, no toolbar of a cell stands in the picture, and the pointer is elsewhere
    page.add_style_tag(content=".jp-cell-toolbar, .jp-Collapser, .jp-Notebook-footer { visibility: hidden !important }")
    page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; document.activeElement.blur(); }"
    )
    page.locator(".jp-NotebookPanel-toolbar").hover()
    page.wait_for_timeout(500)
    first, last = cells.nth(1).bounding_box(), cells.nth(2).locator(".jp-OutputArea table").last.bounding_box()
    top, bottom = first["y"] - 1, last["y"] + last["height"] + 14
    assert bottom <= HEIGHT, f"the cells end at {bottom:.0f}, below the page of {HEIGHT}"
    clip = {"x": first["x"], "y": top, "width": first["width"], "height": bottom - top}
    PICTURE.parent.mkdir(exist_ok=True)
    page.screenshot(path=PICTURE, clip=clip)


def main() -> None:
    """Make the picture."""
    with tempfile.TemporaryDirectory() as home, started_browser() as browser, started_lab(Path(home)) as lab:
        shutil.copytree(ROOT / "notebooks" / "models", lab.root / "models")
        with watched_page(browser, viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5) as seen:
            take(seen, lab)
            assert not seen.complaints(), seen.complaints()
        lab.stop_kernels()
    size = PICTURE.stat().st_size
    assert size < LIMIT, f"{PICTURE} has {size} bytes, at most {LIMIT}"
    print(f"{PICTURE.relative_to(ROOT)}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
