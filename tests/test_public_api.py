"""What outsiders rely on: the public names, export's signature, a quick import, a docstring on everything public."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_magic

PACKAGE = Path(__file__).parents[1] / "onnx_magic"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

PUBLIC = {
    "functions": {"compare", "export", "load", "optimize", "plan", "quantize", "run", "tasks", "view"},
    "hooks": {"load_ipython_extension", "unload_ipython_extension"},
    "errors": {"OnnxMagicError"},
    "records": {
        "Agreement",
        "Answers",
        "Comparison",
        "Decision",
        "ExportPlan",
        "ExportedModel",
        "Finding",
        "GraphChange",
        "GraphFile",
        "GraphView",
        "KeptLayer",
        "OutputDiff",
        "RunResult",
        "SideBySide",
        "Stage",
        "TaskInfo",
        "TensorSpec",
        "Validation",
        "VariantRecord",
    },
    "version": {"__version__"},
}
"""A name that is added or taken away is a decision: it is written here, in README's table and in the changelog."""

EXPORT_CONTRACT = {
    "output": None,
    "opset": None,
    "dynamic": None,
    "inputs": None,
    "exporter": "auto",
    "optimize": None,
    "quantize": None,
    "validate": True,
    "atol": None,
    "rtol": None,
    "overwrite": False,
    "trust_remote_code": False,
}
"""export's keyword-only options that outsiders rely on, in their order, with their defaults."""

SLOW_LIBRARIES = (
    "torch transformers onnx onnx_ir onnxruntime onnxscript netron pandas ipywidgets anywidget PIL tokenizers".split()
)


def test_the_public_names_are_the_documented_ones() -> None:
    assert sorted(onnx_magic.__all__) == sorted(set.union(*PUBLIC.values()))
    assert list(onnx_magic.__all__) == sorted(onnx_magic.__all__), "__all__ is sorted, and holds no name twice"
    assert dir(onnx_magic) == sorted(onnx_magic.__all__)


@pytest.mark.parametrize("name", sorted(set.union(*PUBLIC.values())))
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(onnx_magic, name) is not None


@pytest.mark.parametrize("name", sorted(PUBLIC["records"] | PUBLIC["errors"]))
def test_public_classes_say_where_people_find_them(name: str) -> None:
    cls = getattr(onnx_magic, name)
    assert isinstance(cls, type)
    assert cls.__module__ == "onnx_magic"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'exprot'"):
        onnx_magic.exprot  # noqa: B018  # reading it is the test


@pytest.mark.parametrize("name", sorted(PUBLIC["functions"]))
def test_a_verb_is_named_like_its_file(name: str) -> None:
    function = getattr(onnx_magic, name)
    assert function is getattr(importlib.import_module(f"onnx_magic.verbs.{name}"), name)


def test_export_takes_what_was_promised() -> None:
    parameters = inspect.signature(onnx_magic.export).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["model", "task"]
    assert parameters["model"].default is inspect.Parameter.empty
    assert parameters["task"].default is None
    options = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert {name: default for name, default in options.items() if name in EXPORT_CONTRACT} == EXPORT_CONTRACT
    assert [name for name in options if name in EXPORT_CONTRACT] == list(EXPORT_CONTRACT)


def test_the_verbs_on_an_exported_model_take_what_the_functions_take() -> None:
    from onnx_magic.exported import VERBS, verb_signature

    for verb in VERBS:
        assert callable(getattr(onnx_magic.ExportedModel, verb))
        assert verb_signature(verb) == inspect.signature(getattr(onnx_magic, verb))


def _fresh(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=PACKAGE.parent).stdout


_TIMED = """
import json, sys, time
{before}
known = set(sys.modules)
started = time.perf_counter()
{code}
seconds = time.perf_counter() - started
print(json.dumps([sorted({{name.split(".")[0] for name in set(sys.modules) - known}}), seconds]))
"""


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ("", "import onnx_magic"),
        ("", "import onnx_magic; onnx_magic.OnnxMagicError, onnx_magic.ExportedModel, onnx_magic.export"),
        (
            "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()",
            "shell.run_line_magic('load_ext', 'onnx_magic')",
        ),
    ],
    ids=["import", "names", "load_ext"],
)
def test_importing_and_loading_bring_no_slow_library(before: str, code: str) -> None:
    modules, seconds = json.loads(_fresh(_TIMED.format(before=before, code=code)).splitlines()[-1])
    print(f"{code}: {seconds:.3f} s")  # shown by -rP; a busy machine must not fail it
    assert "onnx_magic" in modules
    assert set(modules) & set(SLOW_LIBRARIES) == set()


def test_the_import_test_would_see_a_slow_library() -> None:
    modules, _ = json.loads(_fresh(_TIMED.format(before="", code="import onnxruntime")).splitlines()[-1])
    assert "onnxruntime" in modules


def test_the_console_script_names_a_function() -> None:
    import tomllib

    scripts = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = scripts["onnx-magic"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def undocumented(source: str) -> list[str]:
    """Public things of a module whose docstring is missing, or whose first line is no sentence."""
    return [
        f"line {getattr(node, 'lineno', 1)}: {name}"
        for name, node in _public(ast.parse(source), "module")
        if not re.search(r"[.?!]$", (ast.get_docstring(node) or "").partition("\n")[0])
    ]


def _public(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """The module, its public classes and functions, and those classes' public methods; nothing inside a function."""
    yield name, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            if not {"overload", "override"} & {ast.unparse(d).split(".")[-1] for d in child.decorator_list}:
                yield from _public(child, child.name)


@pytest.mark.parametrize("path", FILES)
def test_everything_public_has_a_docstring_that_starts_with_a_sentence(path: str) -> None:
    assert undocumented((PACKAGE / path).read_text(encoding="utf-8")) == []


def test_the_docstring_check_catches() -> None:
    assert undocumented('"""A module."""\ndef f():\n    pass\n') == ["line 2: f"]
    assert undocumented('"""A module"""') == ["line 1: module"]
    assert undocumented(
        '"""A module."""\nclass A:\n    """A."""\n    def b(self):\n        """no full stop\n\n        x."""'
    )
    assert undocumented('"""A module."""\ndef _f():\n    pass\n') == []
