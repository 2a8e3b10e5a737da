"""`%onnx_view` and `onnx-magic view`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
