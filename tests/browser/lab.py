"""A real JupyterLab on loopback and a page of a real Chromium: what the browser tests and README's picture stand on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)
WAIT = 90_000
"""Milliseconds; long, for the machine may be busy: a test that fails waits so long, one that passes does not."""


@dataclass
class Lab:
    """The server."""

    base: str
    token: str
    root: Path

    def ask(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"{self.base}/api/{path}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def stop_kernels(self) -> None:
        for kernel in json.loads(self.ask("kernels")):
            self.ask(f"kernels/{kernel['id']}", "DELETE")


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

    def complaints(self) -> list[str]:
        """What the console said, and who else was asked."""
        return [problem for problem in self.problems if "favicon" not in problem] + self.outside

    def command(self, name: str, **arguments: Any) -> None:
        """Execute a command of JupyterLab."""
        self.page.evaluate("([name, given]) => window.jupyterapp.commands.execute(name, given)", [name, arguments])

    def theme(self, name: str) -> None:
        """JupyterLab's `Light` or `Dark`."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name}")
        light = "true" if name == "Light" else "false"
        self.page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light, timeout=WAIT)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=WAIT)

    def open(self, lab: Lab, name: str) -> None:
        """Open a notebook that lies in the server's folder, and wait for its kernel."""
        page = self.page
        page.goto(f"{lab.base}/lab/tree/{name}?token={lab.token}&reset", wait_until="domcontentloaded", timeout=WAIT)
        page.locator(".jp-Notebook").wait_for(timeout=WAIT)
        ready = "() => { const w = window.jupyterapp?.shell.currentWidget; return w?.context?.isReady"
        page.wait_for_function(f"{ready} && w.sessionContext.session?.kernel?.status === 'idle'; }}", timeout=WAIT)

    def run_all(self) -> None:
        """Run every cell."""
        run = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.evaluate(f"() => {{ window.ran = false; {run}.then(() => {{ window.ran = true; }}); }}")
        self.page.wait_for_function("() => window.ran", timeout=2 * WAIT)

    def save(self) -> None:
        """Save the notebook."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")

    def shoot(self, name: str) -> None:
        """A picture for the eye, where SHOTS names a folder."""
        if folder := os.environ.get("SHOTS"):
            self.page.screenshot(path=Path(folder) / name)


@contextlib.contextmanager
def started_browser() -> Iterator[Any]:
    """Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=WAIT)
        yield browser
        browser.close()


@contextlib.contextmanager
def watched_page(browser: Any, **options: Any) -> Iterator[Watched]:
    """A page that may reach loopback and files alone."""
    given = {"viewport": {"width": 1280, "height": 900}, "accept_downloads": True, **options}
    context = browser.new_context(**given)
    context.set_default_timeout(WAIT)
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
    try:
        yield seen
    finally:
        context.close()


@contextlib.contextmanager
def started_lab(home: Path) -> Iterator[Lab]:
    """JupyterLab with folders of its own in `home`, and without news, updates and terminals."""
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
    end = time.monotonic() + WAIT / 1000
    while True:
        try:
            lab.ask("status")
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.2)
