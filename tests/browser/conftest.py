"""A real JupyterLab on loopback and a real Chromium: one server and one browser per session, a page per test.

Without Playwright or a Chromium the tests are skipped and say so; where `CI=true` they must run.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)
WAIT = 60_000


@dataclass
class Lab:
    """The server."""

    base: str
    token: str
    root: Path

    def ask(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"{self.base}/api/{path}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bytes(answer.read())


@dataclass
class Watched:
    """A page, with what it complained of and what it asked of anyone but the server."""

    page: Any
    problems: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def frame(self, index: int = 0) -> Any:
        """The frame of a graph view, once it is drawn."""
        self.page.locator("iframe[data-onnx-magic=graph]").nth(index).scroll_into_view_if_needed(timeout=WAIT)
        frame = self.page.frame_locator("iframe[data-onnx-magic=graph]").nth(index)
        frame.locator("html[data-state=drawn]").wait_for(state="attached", timeout=WAIT)
        return frame


def _missing(what: str) -> None:
    told = f"{what}: what is drawn in a browser was not tested (apt-get install chromium; pip install playwright)"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright is not installed")
    if not CHROMIUM:
        _missing("there is no Chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def lab(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab with folders of its own, and without news, updates and terminals."""
    home = tmp_path_factory.mktemp("lab")
    root, settings = home / "root", home / "settings" / "@jupyterlab" / "apputils-extension"
    root.mkdir()
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Lab(f"http://127.0.0.1:{port}", os.urandom(8).hex(), root)
    folders = {"CONFIG": "config", "DATA": "data", "RUNTIME": "run"}
    environment = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(home / folder) for name, folder in folders.items()},
        **{"HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "OMP_NUM_THREADS": "1"},
        **{"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    }
    options = (
        *("--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={found.token}", f"--ServerApp.root_dir={root}"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly", "--LabApp.news_url=None"),
        *("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--ServerApp.terminals_enabled=False"),
        *(f"--LabApp.workspaces_dir={home}/ws", f"--LabApp.user_settings_dir={home}/settings"),
    )
    log = home / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(found, server, log)
            yield found
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while True:
        try:
            lab.ask("status")
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.2)


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """A page that may reach loopback and files alone."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    seen = Watched(context.new_page())
    seen.page.on("console", lambda m: seen.problems.append(m.text[:300]) if m.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.problems.append(str(error)[:300]))

    def route(route: Any) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:", "file:")):
            route.continue_()
        else:
            seen.outside.append(url)
            route.abort()

    seen.page.route("**/*", route)
    yield seen
    context.close()


@pytest.fixture
def run_notebook(watched: Watched, lab: Lab) -> Iterator[Callable[..., Watched]]:
    """`run_notebook(cell, cell, ...)`: a notebook of these cells in JupyterLab, every cell run."""

    def run(*cells: str) -> Watched:
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab.root / "test.ipynb")
        page = watched.page
        page.goto(f"{lab.base}/lab/tree/test.ipynb?token={lab.token}&reset", wait_until="domcontentloaded")
        page.locator(".jp-Notebook").wait_for(timeout=WAIT)
        ready = "() => { const w = window.jupyterapp?.shell.currentWidget; return w?.context?.isReady"
        page.wait_for_function(f"{ready} && w.sessionContext.session?.kernel?.status === 'idle'; }}", timeout=WAIT)
        run_all = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
        page.evaluate(f"() => {{ window.ran = false; {run_all}.then(() => {{ window.ran = true; }}); }}")
        page.wait_for_function("() => window.ran", timeout=WAIT)
        return watched

    yield run
    for kernel in json.loads(lab.ask("kernels")):
        lab.ask(f"kernels/{kernel['id']}", "DELETE")
