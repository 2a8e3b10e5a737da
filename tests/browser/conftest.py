"""One JupyterLab and one Chromium per session, a page per test.

Without Playwright or a Chromium the tests are skipped and say so; where `CI=true` they must run.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.lab import CHROMIUM, Lab, Watched, started_browser, started_lab, watched_page


def _missing(what: str) -> None:
    told = f"{what}: what is drawn in a browser was not tested (apt-get install chromium; pip install playwright)"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    if importlib.util.find_spec("playwright") is None:
        _missing("Playwright is not installed")
    if not CHROMIUM:
        _missing("there is no Chromium")
    with started_browser() as started:
        yield started


@pytest.fixture(scope="session")
def lab(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab."""
    with started_lab(tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """A page that may reach loopback and files alone."""
    with watched_page(browser) as seen:
        yield seen


@pytest.fixture
def run_notebook(watched: Watched, lab: Lab) -> Iterator[Callable[..., Watched]]:
    """`run_notebook(cell, cell, ...)`: a notebook of these cells in JupyterLab, every cell run."""

    def run(*cells: str) -> Watched:
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab.root / "test.ipynb")
        watched.open(lab, "test.ipynb")
        watched.run_all()
        return watched

    yield run
    lab.stop_kernels()
