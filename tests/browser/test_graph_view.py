"""The graph view as a person sees it: in JupyterLab, and as a page that is opened from a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onnx_magic
from tests.browser.lab import Watched
from tests.graphs import HOSTILE, branching, chain, functional, save

LOAD = "%load_ext onnx_magic"


def test_it_is_drawn_in_jupyterlab_without_a_word_to_anyone(
    run_notebook: Callable[..., Watched], tmp_path: Path
) -> None:
    path = chain(tmp_path / "m.onnx")
    seen = run_notebook(LOAD, f"%onnx_view {path}", f"%onnx_view {path} highlight={{'node_b':2,'node_a':1}}")
    first, second = seen.frame(0), seen.frame(1)
    for frame in (first, second):
        assert frame.locator("[id^='node-name-node_']").count() == 3
    assert first.locator("[data-highlight]").count() == 0
    assert second.locator("[data-highlight='#a50026']").get_attribute("id") == "node-name-node_b"
    assert second.locator("[data-highlight]").count() == 2
    for theme in ("Light", "Dark"):  # one Lab serves all tests, and keeps the theme that another test left
        seen.theme(theme)
        first.locator(f"html[data-theme={theme.lower()}]").wait_for(state="attached")
        grounds = [place.evaluate("e => getComputedStyle(e).backgroundColor") for place in _grounds(seen, first)]
        assert grounds[0] == grounds[1] == {"Light": "rgb(255, 255, 255)", "Dark": "rgb(17, 17, 17)"}[theme]
        seen.shoot(f"graph_{theme.lower()}.png")
    assert seen.complaints() == []


def _grounds(seen: Watched, frame: Any) -> tuple[Any, Any]:
    """What the graph is drawn on, and what the notebook is."""
    return frame.locator("#target"), seen.page.locator(".jp-Notebook").first


def page_of(watched: Watched, model: Path, **options: object) -> Watched:
    written = onnx_magic.view(model, output=model.with_suffix(".html"), **options).output
    watched.page.goto(f"file://{written}")
    return watched


def test_a_page_opens_from_a_folder_and_a_node_tells_where_it_came_from(watched: Watched, tmp_path: Path) -> None:
    seen = page_of(watched, chain(tmp_path / "m.onnx"))
    frame = seen.frame()
    frame.locator("[id='node-name-node_b'] .node-item-type").dispatch_event("click")
    sidebar = frame.locator("#sidebar")
    sidebar.get_by_text("encoder.layer").wait_for()
    assert sidebar.get_by_text("net.py:9 in attend").count() == 1
    assert (seen.problems, seen.outside) == ([], [])


def test_names_run_no_script(watched: Watched, tmp_path: Path) -> None:
    seen = page_of(watched, chain(tmp_path / "m.onnx", HOSTILE), highlight=dict.fromkeys(HOSTILE, 1.0))
    frame = seen.frame()
    for name in HOSTILE[:3]:
        nodes = frame.locator("#canvas .graph-node")
        place = [nodes.nth(i).get_attribute("id") for i in range(nodes.count())].index(f"node-name-{name}")
        nodes.nth(place).locator(".node-item-type").dispatch_event("click")
        frame.locator("#sidebar").get_by_text(name).first.wait_for()
    for each in seen.page.frames:
        assert each.evaluate("() => [window.hacked, document.images.length]") == [None, 0]
    assert frame.locator("[data-highlight]").count() == len(HOSTILE)
    assert (seen.problems, seen.outside) == ([], [])


def test_subgraphs_are_drawn(watched: Watched, tmp_path: Path) -> None:
    seen = page_of(watched, branching(tmp_path / "m.onnx"))
    assert seen.frame().locator("[id='node-name-branch']").count() == 1
    assert seen.problems == []


def test_a_frame_that_fails_gives_way_to_the_tables(watched: Watched, tmp_path: Path) -> None:
    page = onnx_magic.view(chain(tmp_path / "m.onnx"), output=tmp_path / "m.html").output
    assert page is not None
    broken = page.read_text(encoding="utf-8").replace("id=&quot;om-model&quot;", "id=&quot;nothing&quot;")
    page.write_text(broken, encoding="utf-8")
    watched.page.goto(f"file://{page}")
    watched.page.get_by_text("The graph is not drawn").wait_for()
    assert watched.page.get_by_text("weight").or_(watched.page.get_by_text("Add", exact=True)).first.is_visible()


def impatient(page: Path, **changes: str) -> None:
    """The written page, with a clock of seconds in place of a minute, and its frame's document changed."""
    text = page.read_text(encoding="utf-8").replace("<iframe ", '<iframe data-patience="1 1" ', 1)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    page.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (('srcdoc="', 'srcdoc="&lt;p>nothing&lt;/p>" data-was="'), "the frame does not answer"),
        # the layout never comes back: what is waited for is a promise that nobody keeps
        (("await window.__view__.start();", "await new Promise(() =&gt; {});"), "no answer for 1 seconds"),
    ],
)
def test_a_frame_that_never_answers_gives_way_to_the_tables(
    watched: Watched, tmp_path: Path, broken: tuple[str, str], said: str
) -> None:
    page = onnx_magic.view(chain(tmp_path / "m.onnx"), output=tmp_path / "m.html").output
    assert page is not None
    impatient(page, frame=broken)
    watched.page.goto(f"file://{page}")
    watched.page.get_by_role("status").get_by_text(said).wait_for()
    assert watched.page.get_by_role("cell", name="batch_size").first.is_visible()
    assert watched.page.locator("iframe").evaluate("frame => getComputedStyle(frame).opacity") == "0"


def test_a_frame_that_answers_late_is_shown_after_all(watched: Watched, tmp_path: Path) -> None:
    page = onnx_magic.view(chain(tmp_path / "m.onnx"), output=tmp_path / "m.html").output
    assert page is not None
    late = "await new Promise((ok) =&gt; setTimeout(ok, 3000)); await window.__view__.start();"
    impatient(page, frame=("await window.__view__.start();", late))
    watched.page.goto(f"file://{page}")
    watched.page.get_by_role("status").get_by_text("no answer for 1 seconds").wait_for()
    frame = watched.frame()
    watched.page.wait_for_function("getComputedStyle(document.querySelector('iframe')).opacity === '1'")
    assert frame.locator("[id^='node-name-node_']").count() == 3
    assert not watched.page.get_by_text("The graph is not drawn").is_visible()


def test_a_function_is_drawn(watched: Watched, tmp_path: Path) -> None:
    seen = page_of(watched, functional(tmp_path / "m.onnx"))
    frame = seen.frame()
    assert frame.locator("[id^='node-name-call_']").count() == 2
    frame.locator("[id='node-name-call_1'] .node-item-type").first.dispatch_event("click")
    frame.locator("#sidebar").get_by_text("TwiceRelu").first.wait_for()
    assert (seen.problems, seen.outside) == ([], [])


def test_a_graph_without_nodes_is_its_tables(watched: Watched, tmp_path: Path) -> None:
    page = page_of(watched, save(tmp_path / "m.onnx", [], "x", [])).page
    page.get_by_text("the graph has no nodes").wait_for()
    assert page.locator("iframe").count() == 0 and page.get_by_role("cell", name="batch_size").first.is_visible()


@pytest.mark.slow
def test_a_real_encoder_is_drawn_in_seconds(watched: Watched, tmp_path: Path) -> None:
    model = onnx_magic.export("notebooks/models/sentiment-mini", output=tmp_path / "mini", validate=False).model_path
    started = time.perf_counter()
    frame = page_of(watched, model).frame()
    print(f"drawn after {time.perf_counter() - started:.1f} s")
    assert frame.locator("[id^='node-name-']").count() > 100
    assert watched.problems == []
