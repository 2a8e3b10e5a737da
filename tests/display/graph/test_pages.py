"""The frame and its tables: the same bytes on every run, and nothing of a name that is markup."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.display.graph import bundler, pages
from onnx_magic.display.graph.bundler import NetronChangedError, frontend, module_function, operator_metadata
from onnx_magic.display.graph.document import colours, document
from onnx_magic.display.graph.pages import page_path
from onnx_magic.errors import StorageError, UsageError
from onnx_magic.records.views import GraphView
from tests.graphs import HOSTILE, chain, functional, save


@pytest.fixture
def view(tmp_path: Path) -> GraphView:
    return onnx_magic.view(chain(tmp_path / "m.onnx"))


def test_the_same_bytes_on_every_run_and_under_400_kb(view: GraphView) -> None:
    shown = bundle(view)
    frontend.cache_clear()
    assert bundle(view) == shown
    assert len(shown["text/html"]) < 400_000
    assert "3 nodes" in shown["text/plain"] and "iframe" not in shown["text/plain"]
    assert shown["text/html"].count("<iframe") == 1
    assert 'sandbox="allow-scripts allow-downloads allow-popups"' in shown["text/html"]


@pytest.mark.parametrize("kind", ["chain", "function", "no_nodes"])
def test_its_tables_are_the_golden_ones(kind: str, workdir: Path, golden: Callable[[str, str], None]) -> None:
    path = Path("m.onnx")
    make = {"chain": chain, "function": functional, "no_nodes": lambda path: save(path, [], "x", [])}[kind]
    seen = onnx_magic.view(make(path), highlight={"node_a": 0.25, "node_c": 2} if kind == "chain" else None)
    shown = bundle(seen)
    golden(f"{kind}.txt", shown["text/plain"] + "\n")
    # what is in the frame changes with Netron's version, and is looked at in a browser
    markup = re.sub(r'srcdoc="[^"]*"', 'srcdoc="..."', shown["text/html"]).partition("<script>")[0]
    golden(f"{kind}.html", markup + "\n")


def test_the_document_carries_the_notice_and_the_policy(view: GraphView) -> None:
    page = document(view)
    assert "MIT License" in page and "Copyright (c) Lutz Roeder" in page
    assert "default-src 'none'" in page


def test_names_are_escaped(tmp_path: Path) -> None:
    seen = onnx_magic.view(chain(tmp_path / "m.onnx", HOSTILE), highlight=dict.fromkeys(HOSTILE, 1.0))
    assert "<img src=x" not in document(seen) and "window.hacked=1</script>" not in document(seen)
    assert "<img src=x" not in bundle(seen)["text/html"]


@pytest.mark.parametrize(("nodes", "why"), [(5001, "5,001 nodes are too many"), (0, "the graph has no nodes")])
def test_what_is_not_drawn_is_a_table_and_says_so(view: GraphView, nodes: int, why: str) -> None:
    shown = bundle(dataclasses.replace(view, nodes=nodes))
    assert all(why in text for text in shown.values())
    assert "<iframe" not in shown["text/html"] and "Add" in shown["text/html"]


def test_20_000_nodes_are_a_table(tmp_path: Path) -> None:
    seen = onnx_magic.view(chain(tmp_path / "m.onnx", tuple(f"n{i}" for i in range(20_000))))
    assert "20,000 nodes are too many" in bundle(seen)["text/html"]


def test_a_netron_that_changed_is_a_table_with_the_reason(view: GraphView, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(_: GraphView) -> str:
        raise NetronChangedError("netron's view.js has a line that is not understood")

    monkeypatch.setattr(pages, "document", changed)
    assert "view.js has a line that is not understood" in bundle(view)["text/html"].replace("&#x27;", "'")


@pytest.mark.parametrize("source", ["import x from 'y';", "export default 1;", "let a = import.meta.url;"])
def test_a_module_of_another_form_is_refused(source: str) -> None:
    with pytest.raises(NetronChangedError, match=r"view\.js"):
        module_function("view", source)


def test_a_netron_without_its_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundler, "_root", lambda: tmp_path)
    frontend.cache_clear()
    with pytest.raises(NetronChangedError, match=r"index\.html is not there"):
        frontend()


def test_descriptions_are_of_the_operators_and_the_opset() -> None:
    assert '"Add"' in operator_metadata({"Add"}, 20) and '"Sub"' not in operator_metadata({"Add"}, 20)
    assert '"version":13' in operator_metadata({"Add"}, 13)
    assert operator_metadata({"Mine"}, 20) == "[]"


def test_colours() -> None:
    assert colours({}) == {}
    assert colours({"a": 3.0}) == {"a": ("#a50026", "#fff")}
    assert len(colours({"a": -1e308, "b": 1e308, "c": 0.0})) == 3


def test_pages(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.onnx")
    seen = onnx_magic.view(path, output=tmp_path)
    assert seen.output == tmp_path / "m.html" and "<iframe" in seen.output.read_text(encoding="utf-8")
    assert page_path(tmp_path / "a.HTM", "x").name == "a.HTM"
    with pytest.raises(UsageError, match="no HTML file"):
        onnx_magic.view(path, output=path)
    with pytest.raises(StorageError, match="cannot be written"):
        onnx_magic.view(path, output=tmp_path / "nowhere" / "a.html")
