"""The live panel in JupyterLab: a text typed by keyboard alone, wrong inputs, dark and narrow, hostile labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BAD = "<img src=x onerror=window.pwned=1>"


def shoot(page: Any, name: str) -> None:
    """A picture for the eye, where SHOTS names a folder."""
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=Path(folder) / name)


def complaints(watched: Any) -> list[str]:
    return [problem for problem in watched.problems if "favicon" not in problem] + watched.outside


def command(page: Any, name: str, **arguments: Any) -> None:
    page.evaluate("([name, given]) => window.jupyterapp.commands.execute(name, given)", [name, arguments])


def narrow(page: Any) -> None:
    """A cell of about 500 pixels."""
    command(page, "application:toggle-left-area")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.set_viewport_size({"width": 560, "height": 1100})


def settled(panel: Any) -> None:
    """Nothing is running, and nothing waits."""
    panel.and_(panel.page.locator("[aria-busy=false]")).wait_for(timeout=30_000)


@pytest.fixture
def play(run_notebook: Callable[..., Any], sample_checkpoint: Path, tmp_path: Path) -> Any:
    """The panel of the sample model: `(watched page, panel)`."""
    watched = run_notebook(
        "%load_ext onnx_magic",
        f"exported = %onnx_export {str(sample_checkpoint)!r} output={str(tmp_path / 'play')!r} validate=no;",
        "panel = %onnx_play exported",
        "print(panel.inputs, type(panel.result).__name__, panel.top_k, panel.output, panel.atol)",
    )
    panel = watched.page.locator(".onnx-magic-play")
    panel.locator(".answers table").wait_for(timeout=60_000)
    return watched, panel


def test_type_a_text_by_keyboard_alone(play: Any, lab: Any) -> None:
    watched, panel = play
    page = watched.page
    text = panel.get_by_label("text", exact=True)
    assert panel.locator(".answers thead th").all_inner_texts() == ["sample", "rank", "PyTorch", "ONNX Runtime"]
    assert page.locator("[data-onnx-magic=play]").first.is_hidden(), "the live panel stands in its place"
    text.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("dd I loved every minute of it, it was great")  # d d is a command of the notebook
    panel.locator(".answers", has_text="POSITIVE").wait_for(timeout=10_000)  # by itself, after a pause
    settled(panel)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("A dull, lifeless mess")
    page.keyboard.press("Enter")
    sample = panel.get_by_label("sample", exact=True)
    sample.wait_for()
    for _ in range(9):
        page.keyboard.press("Tab")
        if panel.get_by_label("top-k").evaluate("e => e === document.activeElement"):
            break
    page.keyboard.type("2")
    page.keyboard.press("Tab")
    panel.locator(".answers td", has_text="NEGATIVE 0.0").first.wait_for()
    page.keyboard.press("ArrowDown")  # the sample
    panel.locator(".answers tbody tr").nth(0).get_by_text("NEGATIVE 0.9").first.wait_for()
    assert panel.locator(".times tbody tr").count() == 2 and "ms" in panel.locator(".times").inner_text()
    assert "logits of sample 1" in panel.locator(".tensor").inner_text()
    panel.get_by_label("atol").fill("1e-9")
    panel.get_by_label("rtol").fill("0")
    panel.get_by_label("rtol").press("Enter")
    panel.locator(".answers", has_text="differs").wait_for()
    panel.scroll_into_view_if_needed()
    shoot(page, "play_light.png")
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 3; }")
    command(page, "notebook:run-cell")
    page.get_by_text("'A dull, lifeless mess'] SideBySide 2 logits 1e-09").wait_for(timeout=10_000)
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    assert page.evaluate(count) == 4, "no key was taken for a command"
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
    kept = json.loads((lab.root / "test.ipynb").read_text())["cells"][2]["outputs"]
    assert sorted(kept[0]["data"]) == ["text/html", "text/plain"], "the static form is kept, without a view in it"
    assert "NEGATIVE 0.9" in "".join(kept[0]["data"]["text/plain"]), "and it has the last answers"
    assert complaints(watched) == []
