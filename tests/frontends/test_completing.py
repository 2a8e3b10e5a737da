"""Tab in a magic's line."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_magic.frontends.completing import complete_magic

from .conftest import Module

SCOPE = {"model": Module(), "text": "x", "_hidden": Module()}


def texts(line: str) -> tuple[str, ...]:
    found = complete_magic(line, SCOPE)
    assert found is not None
    return found.texts


@pytest.mark.parametrize("line", ["print(", "%timeit f", "x = %other m", "%onnx_nothing ", "%onnx_run m", "# %onnx"])
def test_other_lines_are_left_alone(line: str) -> None:
    assert complete_magic(line, SCOPE) is None


def test_option_names_that_were_not_given_yet() -> None:
    assert "task=" in texts("%onnx_export model ")
    assert texts("%onnx_export model ta") == ("task=",)
    assert texts("x = %onnx_export model va") == ("validate=",)
    assert "task=" not in texts("%onnx_export model task=ner ")
    assert texts("%onnx_export model --trust") == ("--trust-remote-code",)
    assert "as=" in texts("%%onnx_export model ")
    assert "as=" not in texts("%onnx_export model ")
    assert "inputs=" not in texts("%%onnx_export model "), "the cell's calls are the inputs"


def test_values() -> None:
    assert "token-classification" in texts("%onnx_export model task=")
    assert texts("%onnx_export model task=sentim") == ("sentiment-analysis",)
    assert texts("%onnx_export model --exporter ") == ("auto", "dynamo", "torchscript")
    assert texts("%onnx_export model validate=n") == ("no",)
    assert texts("%onnx_export model nonsense=") == ()


def test_models_and_folders(workdir: Path) -> None:
    (workdir / "models").mkdir()
    (workdir / "models" / "mini").mkdir()
    (workdir / "models" / "a.onnx").touch()
    (workdir / "models" / "notes.txt").touch()
    assert texts("%onnx_export ") == ("model", "models/")
    assert texts("%onnx_export mod") == ("model", "models/")
    assert texts("%onnx_load models/") == ("models/a.onnx", "models/mini/")
    assert texts("%onnx_export model output=models/m") == ("models/mini/",)


def test_what_is_within_brackets_is_left_to_python() -> None:
    found = complete_magic("%onnx_export model inputs=(te", SCOPE)
    assert found is not None and not found.texts and not found.closed
