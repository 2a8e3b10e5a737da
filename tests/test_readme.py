"""README's commands and snippets are run, its tables and links are held to the tree."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TALES = ROOT / "notebooks" / "models" / "fairy-tales-mini"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def after(marker: str) -> str:
    """The code block below `<!-- marker -->`."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)\n```", README, flags=re.DOTALL)
    assert found, f"README.md has no block below <!-- {marker} -->"
    return found.group(1)


def blocks(language: str) -> list[str]:
    """All code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)\n```$", README, flags=re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """The text between a heading and the next."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, sample_checkpoint: Path) -> Path:
    """A folder where README's relative paths hold, and where nothing is written into the repository."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "notebooks" / "models").mkdir(parents=True)
    (folder / "notebooks" / "models" / "sentiment-mini").symlink_to(sample_checkpoint, target_is_directory=True)
    (folder / "notebooks" / "models" / TALES.name).symlink_to(TALES, target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def by_command_line(desk: Path) -> subprocess.CompletedProcess[str]:
    """README's headless line, as a person types it."""
    words = shlex.split(after("headless command"))
    script = Path(sys.executable).with_name("onnx-magic")
    command = [str(script)] if _installed() else [sys.executable, "-m", "onnx_magic"]
    assert words[0].endswith(f"/{script.name}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([*command, *words[1:]], cwd=desk, env=environment, capture_output=True, text=True)


def _installed() -> bool:
    """Whether this environment has the package with its console script, or only finds it on the path."""
    try:
        importlib.metadata.version("onnx-magic")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.slow
def test_the_headless_line_writes_a_verified_folder(
    by_command_line: subprocess.CompletedProcess[str], desk: Path
) -> None:
    assert by_command_line.returncode == 0, by_command_line.stderr
    assert "verified" in by_command_line.stdout
    written = desk / "sentiment-mini-onnx"
    assert {"onnx_magic.json", "config.json", "tokenizer.json"} <= {file.name for file in written.iterdir()}
    assert [file.name for file in (written / "onnx").iterdir()] == ["model.onnx"]


@pytest.mark.slow
def test_the_python_sample_does_what_it_says(desk: Path, by_command_line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names: dict[str, Any] = {}
    exec(compile(after("sample: python"), "README.md", "exec"), names)
    assert bool(names["exported"].validation)
    [answer] = names["exported"].run("I loved every minute of it").decoded
    assert answer["label"] == "POSITIVE"
    assert names["loaded"].run(["I loved it", "A dull, lifeless mess"]).outputs["logits"].shape == (2, 2)
    assert digest(desk / "reviews-onnx/onnx/model.onnx") == digest(desk / "sentiment-mini-onnx/onnx/model.onnx")

    exec(compile(after("sample: variants"), "README.md", "exec"), names)
    _same_variants(bundle(names["exported"].variants.table)["text/plain"].partition("\n\n")[2], after("variants table"))
    assert names["exported"].variants["int8"].run("I loved it").decoded[0]["label"] == "POSITIVE"
    assert onnx_magic.load("reviews-onnx", variant="int8").variant == "int8"
    names["exported"].release()


def _same_variants(shown: str, told: str) -> None:
    """The same names, sizes and verdicts; how far 8 bits are off depends on the processor."""

    def rows(text: str) -> dict[str, tuple[str, ...]]:
        table = [line.split() for line in text.splitlines() if line.endswith("verified")]
        return {words[0]: (*words[1:3], *words[-2:]) for words in table}

    assert rows(shown) == rows(told)
    assert set(rows(told)) == {"float32", "fp16", "optimized", "q4", "int8"}


@pytest.mark.slow
def test_the_sample_of_generation_does_what_it_says(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names: dict[str, Any] = {"onnx_magic": onnx_magic}
    exec(compile(after("sample: generation"), "README.md", "exec"), names)
    tales = names["tales"]
    assert tales.validation.status == "verified"
    [told] = re.findall(r"'generated_text': '(.*?) \.\.\.'", after("sample: generation"))
    [answer] = tales.run("Once upon a time", max_new_tokens=40).decoded
    assert answer["generated_text"].startswith(told)
    assert list(tales.generate(input_ids=[[1, 2, 3]], max_new_tokens=20, num_beams=4).shape) == [1, 23]
    tales.release()


def test_the_command_lines_are_those_that_there_are() -> None:
    from onnx_magic.frontends.arguments import VERBS

    lines = [shlex.split(line) for line in section("On the command line").split("```")[1].splitlines()[1:]]
    assert {words[1] for words in lines} == {row.command for row in VERBS.values() if row.command}
    for _, command, *words in lines:
        row = next(row for row in VERBS.values() if row.command == command)
        flags = {word for word in words if word.startswith("--")}
        assert flags <= {field.flag for field in row.arguments.fields}


def test_the_table_of_magics_names_all_of_them() -> None:
    from onnx_magic.frontends.arguments import VERBS

    told = set(re.findall(r"^\| `[^`]*?(%%?onnx_\w+)", section("In a notebook"), flags=re.MULTILINE))
    lines = {f"%{row.line_magic}" for row in VERBS.values() if row.line_magic}
    assert told == lines | {f"%%{row.cell_magic}" for row in VERBS.values() if row.cell_magic}


@pytest.mark.slow
def test_the_first_screen_runs_in_a_shell(
    raising_shell: Any, by_command_line: Any, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").symlink_to(desk / "notebooks", target_is_directory=True)
    raising_shell.run("from transformers import pipeline")
    raising_shell.run("model = pipeline('text-classification', model='notebooks/models/sentiment-mini')")
    first, second = blocks("python")[:2]
    for line in first.splitlines():
        raising_shell.run(line)
    exported = raising_shell.user_ns["exported"]
    assert exported.validation.status == "verified"
    raising_shell.run("exported.validation")
    assert raising_shell.shown[-1]["text/plain"] == after("result")
    assert digest(exported.model_path) == digest(desk / "sentiment-mini-onnx/onnx/model.onnx")
    raising_shell.run(second)
    drawn = raising_shell.shown[-1]["text/plain"]
    assert "POSITIVE" in drawn and "NEGATIVE" in drawn
    exported.release()


def test_ci_runs_the_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    [assignment] = [line for line in script.splitlines() if line.startswith("command=")]
    shown = subprocess.run(
        ["bash", "-c", f'{assignment}; printf %s "$command"'], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert shown.stdout == after("test command")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_test_command_runs_the_notebooks_too() -> None:
    assert after("test command").endswith("&& .venv/bin/python -m pytest")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert settings["testpaths"] == ["tests", "notebooks"]
    assert {"--nbval", "--nbval-current-env"} <= set(settings["addopts"])


def test_both_commands_set_up_alike() -> None:
    set_up = after("test command").rpartition(" && ")[0]
    assert after("quickstart command") == f"{set_up} && .venv/bin/jupyter lab notebooks/01_quickstart.ipynb"
    assert set_up in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert (ROOT / "notebooks" / "01_quickstart.ipynb").exists()


def test_binder_uses_the_same_pins_and_postbuild_runs() -> None:
    script = ROOT / "binder" / "postBuild"
    assert "-c binder/requirements.txt" in script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    for shell in (script, ROOT / ".ci" / "run"):
        assert subprocess.run(["bash", "-n", str(shell)], capture_output=True).returncode == 0
    # with environment.yml there, repo2docker leaves requirements.txt, and its CUDA build of torch, alone
    assert (ROOT / "binder" / "environment.yml").exists()


def test_code_organization_names_every_file_and_no_other() -> None:
    listed = re.search(r"<!-- code organization -->\n(.*?)\n<!-- end -->", README, flags=re.DOTALL)
    assert listed
    named = re.findall(r"^\| `([^`]+)` \| \S.*\|$", listed.group(1), flags=re.MULTILINE)
    there = [path.relative_to(ROOT / "onnx_magic").as_posix() for path in (ROOT / "onnx_magic").rglob("*.py")]
    told = {path for path in there if path != "__init__.py" and not path.endswith("/__init__.py")} | {"__init__.py"}
    assert len(named) == len(set(named))
    assert set(named) == told


def test_the_python_table_names_every_public_function_and_exports_options() -> None:
    for name in onnx_magic.__all__:
        if inspect.isfunction(getattr(onnx_magic, name)) and not name.endswith("_ipython_extension"):
            assert re.search(rf"`{name}\(", README), f"README.md says nothing of onnx_magic.{name}"
    row = re.search(r"`export\(model, task=None, \*, ([^)]*)\)`", README)
    assert row
    keywords = [p.name for p in inspect.signature(onnx_magic.export).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert row.group(1).split(", ") == keywords


def test_the_task_table_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]*)\|", section("Tasks"), flags=re.MULTILINE)
    told = {name: set(re.findall(r"`([a-z0-9-]+)`", aliases)) for name, aliases in rows}
    for info in onnx_magic.tasks():
        assert info.name in told, f"README.md says nothing of {info.name}"
        assert told[info.name] <= set(info.aliases)
    assert set(told) == {info.name for info in onnx_magic.tasks()}


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_broken(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), f"{page} points to {target}, which is not there"


def test_contributing_is_short() -> None:
    assert (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").count("\n") <= 120


def test_only_what_belongs_lies_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip("not a git checkout with files in it")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    allowed = "pyproject.toml onnx_magic notebooks tests binder README.md CONTRIBUTING.md CHANGELOG.md LICENSE"
    assert {name for name in top if not name.startswith(".")} <= set(allowed.split())
