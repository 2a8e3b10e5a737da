"""Exported folders to make variants of: the real sample model, and small modules made in code."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onnx_magic

PARTS = (
    ("the film", "this story", "every minute", "the acting"),
    ("was", "is not", "is very"),
    ("great", "dull and lifeless", "a waste of time", "moving", "bad"),
)
TEXTS = [" ".join(words) for words in itertools.product(*PARTS)]
"""60 short reviews; the sample model answers both ways."""


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """60 short reviews."""
    return TEXTS


@pytest.fixture(scope="session")
def sample_export(tmp_path_factory: pytest.TempPathFactory, sample_checkpoint: Path) -> Path:
    """sentiment-mini, exported once; copy it before a variant is made."""
    folder = tmp_path_factory.mktemp("sample") / "sentiment-mini-onnx"
    onnx_magic.export(str(sample_checkpoint), output=folder).release()
    return folder


@pytest.fixture
def sample(sample_export: Path, tmp_path: Path, sample_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """sentiment-mini in a folder of its own, loaded; PyTorch is found again by the path that the manifest names."""
    folder = tmp_path / "sentiment-mini-onnx"
    shutil.copytree(sample_export, folder)
    monkeypatch.chdir(Path(__file__).parents[3])
    return onnx_magic.load(folder)


@pytest.fixture
def export_module(tmp_path: Path) -> Callable[..., Any]:
    """`export_module(module, inputs)`: exported and live."""

    def make(module: Any, *inputs: Any, name: str = "module-onnx") -> Any:
        return onnx_magic.export(module.eval(), inputs=inputs, output=tmp_path / name)

    return make
