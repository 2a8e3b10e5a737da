"""The magics: loading, unloading, options, `%config`, the cell forms."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from onnx_magic.errors import UsageError
from onnx_magic.frontends.magics import MAGIC_ROWS
from onnx_magic.records.plan import TensorSpec

HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "netron",
    "anywidget",
    "ipywidgets",
)


def state(shell: Any) -> dict[str, Any]:
    """All that loading the extension changes."""
    return {
        "line": dict(shell.magics_manager.magics["line"]),
        "cell": dict(shell.magics_manager.magics["cell"]),
        "registry": set(shell.magics_manager.registry),
        "configurables": list(map(id, shell.configurables)),
        "callbacks": {name: list(called) for name, called in shell.events.callbacks.items()},
        "matchers": list(shell.Completer.custom_matchers),
        "bundles": dict(shell.display_formatter.mimebundle_formatter.type_printers),
        "texts": set(shell.display_formatter.formatters["text/plain"].type_printers),
    }


class TestLoading:
    def test_unloading_leaves_nothing(self, raising_shell: Any) -> None:
        raising_shell.find_line_magic("load_ext")  # IPython loads its own magics when they are first used
        before = state(raising_shell)
        raising_shell.run("%load_ext onnx_magic")
        after = state(raising_shell)
        assert {name for name in before if before[name] == after[name]} == set(), "loading changes each of these"
        raising_shell.run("%unload_ext onnx_magic")
        assert state(raising_shell) == before

    def test_twice_is_once(self, raising_shell: Any) -> None:
        from onnx_magic import load_ipython_extension

        raising_shell.run("%load_ext onnx_magic")
        once = state(raising_shell)
        load_ipython_extension(raising_shell)
        raising_shell.run("%reload_ext onnx_magic")
        twice = state(raising_shell)
        sizes = [{name: len(value) for name, value in each.items()} for each in (once, twice)]
        assert sizes[0] == sizes[1]
        assert sum(len(called) for called in once["callbacks"].values()) == sum(
            len(called) for called in twice["callbacks"].values()
        )

    def test_a_reload_works(self, shell: Any, quick_export: SimpleNamespace, drawn: Callable[[str], list[str]]) -> None:
        shell.run("%reload_ext onnx_magic")
        assert len(drawn("x = %onnx_export model")) == 1

    def test_loads_nothing_heavy(self) -> None:
        code = (
            "import sys\nfrom IPython.core.interactiveshell import InteractiveShell\n"
            "shell = InteractiveShell.instance()\nbefore = set(sys.modules)\n"
            "shell.run_line_magic('load_ext', 'onnx_magic')\n"
            "assert 'onnx_export' in shell.magics_manager.magics['line']\n"
            f"print(sorted(set({HEAVY!r}) & set(sys.modules) - before))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stdout + done.stderr


class TestOptions:
    def test_reach_the_verb(self, shell: Any, quick_export: SimpleNamespace) -> None:
        shell.run("folder = 'out'")
        shell.run("x = %onnx_export model task=ner output={folder}/a dynamic={'x': {0: 'b'}} --opset 18")
        given = {"model": shell.user_ns["model"], "task": "ner", "output": "out/a", "opset": 18}
        assert quick_export.calls == [{**given, "dynamic": {"x": {0: "b"}}}]

    def test_local_names_are_seen(self, shell: Any, quick_export: SimpleNamespace) -> None:
        shell.run("def f(net, n):\n    return get_ipython().run_line_magic('onnx_export', 'net opset={n}')\nf(7, 18);")
        assert quick_export.calls == [{"model": 7, "opset": 18}]

    def test_help_is_shown(self, shell: Any, capsys: pytest.CaptureFixture[str], quick_export: SimpleNamespace) -> None:
        shell.run("%onnx_export --help")
        assert "trust_remote_code=yes|no" in capsys.readouterr().out
        assert quick_export.calls == []

    def test_question_mark(self, shell: Any) -> None:
        for row in MAGIC_ROWS:
            name = row.line_magic or row.cell_magic
            info = shell.object_inspect(f"%{name}" if row.line_magic else f"%%{name}")
            assert info["found"] and f"{name}" in info["docstring"]
            for field in (row.arguments if row.line_magic else row.cell_arguments).fields:
                assert (field.metavar if field.required else f"{field.word}=") in info["docstring"]

    def test_bad_lines_do_not_reach_the_verb(self, shell: Any, quick_export: SimpleNamespace) -> None:
        for line in ("modle", "model taks=ner", "model (", "model opset=x", ""):
            with pytest.raises(UsageError):
                shell.run(f"%onnx_export {line}")
            assert len(shell.error_text.splitlines()) == 2, shell.error_text
        assert quick_export.calls == []


class TestConfig:
    def test_sets_a_default(self, shell: Any, quick_export: SimpleNamespace) -> None:
        shell.run("%config OnnxMagics.opset = 18")
        shell.run("%config OnnxMagics.validate = 'no'")
        shell.run("%onnx_export model;")
        shell.run("%onnx_export model opset=17;")
        model = shell.user_ns["model"]
        assert quick_export.calls[0] == {"model": model, "opset": 18, "validate": False}
        assert quick_export.calls[1] == {"model": model, "opset": 17, "validate": False}

    def test_lists_options_with_help(self, shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
        shell.run("%config OnnxMagics")
        listed = capsys.readouterr().out
        for word in ("opset", "exporter", "validate", "atol", "rtol", "provider"):
            assert f"OnnxMagics.{word}=" in listed
        assert "auto takes torchscript only" in listed

    def test_refuses_what_the_line_refuses(
        self, shell: Any, quick_export: SimpleNamespace, caplog: pytest.LogCaptureFixture
    ) -> None:
        shell.run("%config OnnxMagics.exporter = 'dynmo'")
        assert "did you mean 'dynamo'" in caplog.text
        shell.run("%onnx_export model;")
        assert quick_export.calls == [{"model": shell.user_ns["model"]}]
        shell.run("%reload_ext onnx_magic")
        shell.run("%onnx_export model;")
        assert len(quick_export.calls) == 2


class TestCells:
    @pytest.fixture
    def quick_cells(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """`frontends.cells` with bodies that answer at once."""
        calls: list[tuple[Any, ...]] = []
        module = ModuleType("onnx_magic.frontends.cells")

        def run_export_cell(shell: Any, options: dict[str, Any], body: str) -> TensorSpec:
            calls.append(("export", options, body))
            return TensorSpec("from_cell", "int64", (1,))

        def run_cell(shell: Any, exported: Any, options: dict[str, Any], body: str) -> TensorSpec:
            calls.append(("run", exported, options, body))
            return TensorSpec("answer", "int64", (1,))

        module.run_export_cell = run_export_cell  # type: ignore[attr-defined]
        module.run_cell = run_cell  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "onnx_magic.frontends.cells", module)
        import onnx_magic.frontends

        monkeypatch.setattr(onnx_magic.frontends, "cells", module, raising=False)
        return calls

    def test_the_body_is_handed_over(
        self, shell: Any, drawn: Callable[[str], list[str]], quick_cells: list[tuple[Any, ...]]
    ) -> None:
        texts = drawn("%%onnx_export model task=ner as=x\nmodel(1)")
        assert quick_cells == [("export", {"model": shell.user_ns["model"], "task": "ner"}, "model(1)\n")]
        assert len(texts) == 1 and "from_cell" in texts[0]
        assert shell.user_ns["x"].name == "from_cell"
        shell.user_ns["exported"] = "a folder"
        assert len(drawn("%%onnx_run exported once=yes as=answer\n'text'")) == 1
        assert quick_cells[-1] == ("run", "a folder", {"once": True}, "'text'\n")
        assert shell.user_ns["answer"].name == "answer"

    def test_a_semicolon_silences(self, drawn: Callable[[str], list[str]], quick_cells: list[tuple[Any, ...]]) -> None:
        assert drawn("%%onnx_export model;\nmodel(1)") == []
        assert drawn("%%onnx_export model\nmodel(1);") == []
        assert len(drawn("%%onnx_run model lines=yes\na text that ends so;")) == 1

    def test_names_that_cannot_be_bound(self, shell: Any, quick_cells: list[tuple[Any, ...]]) -> None:
        for name in ("1x", "class", "a.b"):
            with pytest.raises(UsageError, match="cannot be the name of a variable"):
                shell.run(f"%%onnx_export model as={name}\nmodel(1)")
        assert quick_cells == []

    def test_the_line_form_has_no_as(self, shell: Any, quick_export: SimpleNamespace) -> None:
        with pytest.raises(UsageError, match="no option 'as'"):
            shell.run("%onnx_export model as=x")


class TestTheWholeJob:
    """The real verbs, on a module small enough for a test."""

    def test_cell_export_then_cell_run(self, shell: Any, drawn: Callable[[str], list[str]], workdir: Path) -> None:
        shell.run("import torch\nnet = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).eval()")
        texts = drawn("%%onnx_export net as=exported output=out\nnet(torch.randn(2, 3))\nnet(torch.randn(5, 3));")
        assert texts == [], "the body ends in ;"
        exported = shell.user_ns["exported"]
        assert exported.validation.status == "verified"
        assert (workdir / "out" / "onnx" / "model.onnx").exists()
        texts = drawn("exported")
        assert len(texts) == 1 and texts[0].startswith("✓ verified")

        texts = drawn("%%onnx_run exported as=side\nnet(torch.randn(1, 3))")
        assert len(texts) == 1 and bool(shell.user_ns["side"])

        loaded = drawn("loaded = %onnx_load out")
        assert len(loaded) == 1 and "verified" in loaded[0]
        assert shell.user_ns["loaded"].validation.status == "verified"

    def test_a_task_that_is_not_known(self, shell: Any) -> None:
        from onnx_magic.errors import UnknownTaskError

        with pytest.raises(UnknownTaskError):
            shell.run("import torch\nx = %onnx_export torch.nn.Linear(2,2) task=nerr inputs=torch.ones(1,2)")
        assert len(shell.error_text.splitlines()) == 2
