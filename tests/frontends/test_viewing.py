"""`%onnx_view` and `onnx-magic view`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.errors import OnnxMagicError
from onnx_magic.frontends.cli import main
from tests.graphs import chain


def test_the_magic_takes_a_path_and_numbers(shell: Any, tmp_path: Path) -> None:
    path = chain(tmp_path / "m.onnx")
    shell.user_ns["numbers"] = {"node_a": 1.0, "node_b": 2.0}
    shell.run(f"seen = %onnx_view {path} highlight=numbers")
    assert shell.user_ns["seen"].highlight == {"node_a": 1.0, "node_b": 2.0}
    assert any("<iframe" in output["data"].get("text/html", "") for output in shell.display_pub.outputs)


def test_the_command_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = chain(tmp_path / "m.onnx")
    assert main(["view", str(path), "--highlight", '{"node_a": 1}']) == 0
    assert "written · m.html" in capsys.readouterr().out
    assert "<iframe" in (tmp_path / "m.html").read_text(encoding="utf-8")
    path.write_bytes(b"garbage")
    assert main(["view", str(path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_was_exported_is_viewed_by_itself_by_its_folder_and_by_its_file(
    tiny_bert: Callable[..., Any], workdir: Path
) -> None:
    exported = onnx_magic.export(tiny_bert(), output="out", validate=False)
    seen = exported.view()
    assert seen == onnx_magic.view("out") == onnx_magic.view(exported.model_path)
    assert seen.nodes > 50 and seen.graph.inputs == exported.inputs
    first = next(iter(_names(seen.model)))
    assert exported.view(highlight={first: 2}).highlight == {first: 2.0}
    page = onnx_magic.view("out", output=".").output
    assert page is not None and page.name.endswith(".html") and "<iframe" in page.read_text(encoding="utf-8")
    notes = {entry.key for node in onnx.ModelProto.FromString(seen.model).graph.node for entry in node.metadata_props}
    assert {"PyTorch module", "source line"} <= notes, "a node tells where it came from"


def test_a_drawn_view_stands_when_its_model_is_deleted_and_a_new_one_is_two_lines(shell: Any, tmp_path: Path) -> None:
    path = chain(tmp_path / "m.onnx")
    seen = shell.run(f"seen = %onnx_view {path}\nseen")
    before = bundle(seen)
    path.unlink()
    assert bundle(seen) == before
    for line, said in ((f"%onnx_view {path}", "there is no"), (f"%onnx_view {tmp_path}", "fix: ")):
        with pytest.raises(OnnxMagicError):
            shell.run(line)
        assert len(shell.error_text.splitlines()) == 2 and said in shell.error_text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%onnx_view {path} highlight={{'nowhere':1}}", "highlight names 'nowhere', which is no node of m.onnx"),
        ("%onnx_view {other}", "is no ONNX model"),
    ],
)
def test_what_cannot_be_viewed_is_two_lines(shell: Any, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "other.onnx").write_text("{}")
    with pytest.raises(OnnxMagicError):
        shell.run(line.format(path=chain(tmp_path / "m.onnx"), other=tmp_path / "other.onnx"))
    assert said in shell.error_text and len(shell.error_text.splitlines()) == 2


def _names(model: bytes) -> list[str]:
    return [node.name for node in onnx.ModelProto.FromString(model).graph.node if node.name]
