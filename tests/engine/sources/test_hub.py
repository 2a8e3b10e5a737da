"""Hub ids: from the cache without a network, and the sentence when there is neither."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_magic.engine.sources import resolve_source
from onnx_magic.engine.sources.files import is_path_like
from onnx_magic.engine.sources.hub import cached_folder
from onnx_magic.errors import SourceError

ROOT = str(Path(__file__).parents[3])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache; tests/conftest.py has switched the Hub off."""
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def fill(cache: Path, checkpoint: Path) -> None:
    home = cache / "models--org--tiny"
    shutil.copytree(checkpoint, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)


def test_a_cached_model_loads_without_the_network(cache: Path, tiny_checkpoint: Path) -> None:
    fill(cache, tiny_checkpoint)
    source = resolve_source("org/tiny")
    assert (source.name, source.origin, source.task) == ("tiny", "org/tiny", "text-classification")
    assert source.tokenizer is not None
    assert source.model.config._name_or_path == "org/tiny"


def test_a_live_model_from_the_hub_finds_its_cached_tokenizer(cache: Path, tiny_checkpoint: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(str(tiny_checkpoint))
    model.config._name_or_path = "org/tiny"
    assert resolve_source(model).tokenizer is None
    fill(cache, tiny_checkpoint)
    source = resolve_source(model)
    assert source.tokenizer is not None and source.name == "tiny" and source.origin is None


@pytest.mark.parametrize("given", ["no-such-model", "no-such/model"])
def test_neither_folder_nor_cached_and_no_network(given: str, cache: Path, workdir: Path) -> None:
    with pytest.raises(SourceError) as caught:
        resolve_source(given)
    assert caught.value.what == (f"{given!r} is neither a folder nor in the Hub's cache, and the Hub cannot be reached")
    assert caught.value.fix.startswith("hf download")
    assert caught.value.__cause__ is not None


def test_the_fix_names_the_nearest_folder(cache: Path, workdir: Path) -> None:
    (workdir / "sentiment-mini").mkdir()
    with pytest.raises(SourceError) as caught:
        resolve_source("sentimnet-mini")
    assert caught.value.fix == "%onnx_export sentiment-mini"


def test_what_cannot_be_an_id(cache: Path, workdir: Path) -> None:
    with pytest.raises(SourceError, match="neither a folder nor a Hub id"):
        resolve_source("no such")
    assert cached_folder("no such") is None
    assert all(map(is_path_like, ("./a", "~/a", "a/b/c", "a/")))
    assert not any(map(is_path_like, ("org/name", "name")))


def test_a_network_that_does_not_answer(tmp_path: Path) -> None:
    """In a process of its own: the Hub is switched on, at an address where nobody listens."""
    code = (
        "from onnx_magic.engine.sources.hub import hub_folder\n"
        "from onnx_magic.errors import SourceError\n"
        "try: hub_folder('org/name')\n"
        "except SourceError as error: print(error.what)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    env = {**kept, "PYTHONPATH": ROOT, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert "the Hub cannot be reached" in done.stdout, done.stderr


def test_a_hub_that_answers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A small Hub in a process of its own: only the files of the PyTorch model are fetched, and nothing is shown."""
    wanted = sorted(file.name for file in tiny_checkpoint.iterdir())
    (tiny_checkpoint / "onnx").mkdir()
    for other in ("onnx/model.onnx", "onnx/config.json", "pytorch_model.bin", "tf_model.h5", "README.md"):
        (tiny_checkpoint / other).write_text("not wanted")
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_OFFLINE", "_PROGRESS_BARS"))}
    server = Path(__file__).with_name("serve_hub.py")
    command = [sys.executable, str(server), str(tiny_checkpoint), str(tmp_path / "hf")]
    done = subprocess.run(command, env={**kept, "PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        f"org/tiny {wanted}",
        "'org/none' is neither a folder nor a model on the Hub (or it is private)",
        "'org/gated' is gated: its authors must grant you access",
        "'org/broken' is neither a folder nor in the Hub's cache, and the Hub cannot be reached",
        f"{wanted}",
    ], done.stderr
    assert "%|" not in done.stderr and "\r" not in done.stderr  # no progress bar
