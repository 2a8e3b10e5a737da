"""What the front ends are tested with: quick verbs in the place of slow ones, and outputs as a notebook holds them."""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import onnx_magic
from onnx_magic import events
from onnx_magic.records.plan import TensorSpec


class Module:
    """Quacks like a torch module; torch itself is not needed here."""

    def forward(self) -> None: ...

    def parameters(self) -> Iterator[int]:
        return iter(())


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`verbs.export` with its own signature that answers at once with a record: `calls` holds what it was given.

    `fail` is raised in the stage `convert` when it is set.
    """
    home = importlib.import_module("onnx_magic.verbs.export")
    state = SimpleNamespace(calls=[], fail=None)

    @functools.wraps(home.export)
    def export(**given: Any) -> TensorSpec:
        state.calls.append(given)
        with events.stage("source"):
            pass
        with events.stage("convert"):
            if state.fail is not None:
                raise state.fail
        return TensorSpec(f"x{len(state.calls)}", "int64", ("batch_size",))

    monkeypatch.setattr(home, "export", export)
    return state


@pytest.fixture
def shell(raising_shell: Any) -> Any:
    """A shell with the extension loaded and `model` in its namespace."""
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns["model"] = Module()
    return raising_shell


@pytest.fixture
def drawn(shell: Any) -> Callable[[str], list[str]]:
    """`drawn(cell)`: run a cell; the text of each output as a notebook holds it in the end, empty ones left out."""

    def run(cell: str) -> list[str]:
        shell.display_pub.outputs.clear()
        shell.run(cell)
        return final_texts(shell.display_pub.outputs)

    return run


def final_texts(outputs: list[dict[str, Any]]) -> list[str]:
    """The text of each output after all updates, empty ones left out."""
    texts: dict[Any, str] = {}
    for number, output in enumerate(outputs):
        key = (output.get("transient") or {}).get("display_id", number)
        assert not output.get("update") or key in texts, "an update of a display that was never shown"
        texts[key] = output["data"]["text/plain"]
    return [text for text in texts.values() if text]


@pytest.fixture(scope="session")
def exported_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net, exported."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)).eval()
    folder = tmp_path_factory.mktemp("net") / "net-onnx"
    onnx_magic.export(net, inputs=(torch.randn(4, 8),), output=folder).release()
    return folder


@pytest.fixture
def net(exported_net: Path, workdir: Path) -> Path:
    """The exported net in the current folder."""
    shutil.copytree(exported_net, workdir / "net-onnx")
    return Path("net-onnx")
