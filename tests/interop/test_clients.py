"""Folders that onnx_magic exports load as they are in optimum-onnx and transformers.js, and give PyTorch's answers.

Neither is among our dependencies: say where they are, or the tests are skipped::

    OPTIMUM_PYTHON=/tmp/optimum/bin/python TRANSFORMERS_JS=/tmp/js python -m pytest tests/interop

The programs beside this file say how they are installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.interop import cases

HERE = Path(__file__).parent
SCORES = 1e-4  # float32 of two versions of ONNX Runtime against PyTorch
CLIENTS = {"optimum-onnx": "OPTIMUM_PYTHON", "transformers.js": "TRANSFORMERS_JS"}

REFUSED = {
    ("optimum-onnx", "qwen3"): "optimum-onnx 0.1.0 makes Qwen3's empty cache hidden_size / heads wide, not head_dim",
}
"""What a client cannot do with any export of the model, its own included."""


def command(client: str) -> list[str]:
    """How to ask a client; skips the test where it is not installed."""
    where = os.environ.get(CLIENTS[client])
    if not where:
        pytest.skip(f"{CLIENTS[client]} does not say where {client} is: see tests/interop/test_clients.py")
    if client == "optimum-onnx":
        return [where, str(HERE / "answer_with_optimum.py")]
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    return [node, str(HERE / "answer_with_transformers_js.mjs")]


def ask(client: str, folder: Path) -> dict[str, Any]:
    """What a client answers from a folder, in a process of its own that does not see this project."""
    ours = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run([*command(client), str(folder)], env=ours, capture_output=True, text=True, timeout=300)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    assert lines, run.stderr
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports made so far: both clients read the same."""
    return {"": tmp_path_factory.mktemp("interop")}


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_folder_loads_as_it_is_and_gives_the_same(
    client: str, name: str, folders: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    command(client)
    if (client, name) in REFUSED:  # strict: once it is mended there, the row must go
        request.applymarker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=REFUSED[client, name]))
    if name not in folders:
        folders[name] = cases.make(name, folders[""])
    asked = json.loads((folders[name] / "interop.json").read_text())
    answer = ask(client, folders[name])
    assert "error" not in answer, answer["error"]
    if asked["task"] == "text-classification":
        for (label, score), (theirs, its_score) in zip(asked["answers"], answer["answers"], strict=True):
            assert theirs == label and its_score == pytest.approx(score, abs=SCORES)
    else:
        assert answer["answers"] == asked["answers"]
        assert len({tuple(row) for row in asked["answers"]}) > 1  # the answers depend on the texts


@pytest.mark.parametrize("client", CLIENTS)
def test_a_folder_without_its_graph_is_refused(client: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """The negative control: what is compared comes out of the graph."""
    command(client)
    if "sentiment-mini" not in folders:
        folders["sentiment-mini"] = cases.make("sentiment-mini", folders[""])
    copy = tmp_path / "sentiment-mini-onnx"
    shutil.copytree(folders["sentiment-mini"], copy)
    (copy / "onnx" / "model.onnx").unlink()
    assert "error" in ask(client, copy)
