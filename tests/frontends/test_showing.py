"""A record is shown exactly once, wherever the call stands; errors are two lines."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnx_magic.errors import OnnxMagicError, StorageError, UsageError
from onnx_magic.frontends.progress import watching
from onnx_magic.frontends.showing import error_lines, interrupt_lines, is_drawn, shorten

Drawn = Callable[[str], list[str]]


class TestOnce:
    @pytest.mark.parametrize(
        "cell",
        [
            "%onnx_export model",
            "%onnx_export model  # a comment",
            "1\n%onnx_export model",
            "%onnx_export model\n1",
            "x = %onnx_export model",
            "x = %onnx_export model\nx",
            "x = %onnx_export model\ny = x",
            "if True:\n    %onnx_export model",
            "if True:\n    x = %onnx_export model",
            "(get_ipython().run_line_magic('onnx_export', 'model'))",
            "get_ipython().run_line_magic(\n    'onnx_export',\n    'model'\n)",
            "a = 1; get_ipython().run_line_magic('onnx_export', 'model')",
            "[get_ipython().run_line_magic('onnx_export', 'model')][0]",
            "get_ipython().run_line_magic('onnx_export', 'model') if model else 1",
            "x = y = get_ipython().run_line_magic('onnx_export', 'model')",
            "def f(net):\n    %onnx_export net\nf(model)",
            "def f(net):\n    return get_ipython().run_line_magic('onnx_export', 'net')\nf(model)",
            "%time x = get_ipython().run_line_magic('onnx_export', 'model')",
            "get_ipython().run_line_magic('onnx_export', 'model'); x = 1",
        ],
    )
    def test_wherever_it_stands(self, drawn: Drawn, quick_export: SimpleNamespace, cell: str) -> None:
        texts = [text for text in drawn(cell) if "batch_size" in text]
        assert len(quick_export.calls) == 1
        assert len(texts) == 1, texts

    @pytest.mark.parametrize("cell", ["%onnx_export model", "x = %onnx_export model\nx", "x = %onnx_export model"])
    def test_nothing_is_taken_back(self, drawn: Drawn, quick_export: SimpleNamespace, shell: Any, cell: str) -> None:
        """In the usual places the record is drawn once from the start: nbval does not see updates."""
        drawn(cell)
        assert ["batch_size" in output["data"]["text/plain"] for output in shell.display_pub.outputs].count(True) == 1

    @pytest.mark.parametrize(
        "cell",
        [
            "%onnx_export model;",
            "%onnx_export model ;  # quiet",
            "x = %onnx_export model;",
            "if True:\n    %onnx_export model;",
            "get_ipython().run_line_magic('onnx_export', 'model;')",
        ],
    )
    def test_a_semicolon_silences(self, drawn: Drawn, quick_export: SimpleNamespace, cell: str, shell: Any) -> None:
        assert drawn(cell) == []
        assert shell.display_pub.outputs == [], "not even an empty display"
        assert len(quick_export.calls) == 1

    def test_what_is_assigned_is_the_record(self, drawn: Drawn, quick_export: SimpleNamespace, shell: Any) -> None:
        for cell in ("x = %onnx_export model", "x = %onnx_export model;"):
            shell.user_ns["x"] = None
            drawn(cell)
            assert shell.user_ns["x"].dtype == "int64"

    def test_each_of_several(self, drawn: Drawn, quick_export: SimpleNamespace) -> None:
        texts = drawn("%onnx_export model\nx = %onnx_export model\n%onnx_export model")
        assert [text.splitlines()[-1].split()[0] for text in texts] == ["x1", "x2", "x3"]
        texts = drawn("for _ in range(2):\n    %onnx_export model")
        assert len(texts) == 2

    @pytest.mark.parametrize(
        ("interactivity", "cell"),
        [
            ("all", "%onnx_export model\n%onnx_export model"),
            ("none", "%onnx_export model\n%onnx_export model"),
            ("last_expr_or_assign", "y = %onnx_export model\nx = %onnx_export model"),
            ("last", "%onnx_export model\n%onnx_export model"),
        ],
    )
    def test_other_interactivities(
        self, drawn: Drawn, quick_export: SimpleNamespace, shell: Any, interactivity: str, cell: str
    ) -> None:
        shell.ast_node_interactivity = interactivity
        assert len(drawn(cell)) == 2

    def test_an_assignment_that_the_hook_draws(self, drawn: Drawn, quick_export: SimpleNamespace, shell: Any) -> None:
        shell.ast_node_interactivity = "last_expr_or_assign"
        drawn("x = %onnx_export model")
        assert ["batch_size" in output["data"]["text/plain"] for output in shell.display_pub.outputs].count(True) == 1

    def test_what_the_hook_was_to_draw_and_did_not(
        self, drawn: Drawn, quick_export: SimpleNamespace, shell: Any
    ) -> None:
        class Keep(ast.NodeTransformer):
            """Somebody's AST transformer: the value of an expression is kept, not drawn."""

            def visit_Expr(self, node: ast.Expr) -> ast.AST:
                target = ast.Name("kept", ast.Store())
                return ast.fix_missing_locations(ast.copy_location(ast.Assign([target], node.value), node))

        shell.ast_transformers.append(Keep())
        texts = drawn("%onnx_export model")
        assert len(texts) == 1 and "batch_size" in texts[0]
        assert shell.user_ns["kept"] is not None

    def test_progress_begins_and_ends_empty(self, drawn: Drawn, quick_export: SimpleNamespace, shell: Any) -> None:
        drawn("x = %onnx_export model")
        progress, record = shell.display_pub.outputs[0], shell.display_pub.outputs[-1]
        mine = [o for o in shell.display_pub.outputs if o["transient"] == progress["transient"]]
        assert [bool(o.get("update")) for o in mine] == [False] + [True] * (len(mine) - 1)
        assert mine[0]["data"] == mine[-1]["data"] == {"text/plain": "", "text/html": ""}
        assert any("convert" in o["data"]["text/plain"] for o in mine)
        assert record["data"]["text/html"] and record["transient"] != progress["transient"]

    def test_no_progress_for_what_takes_no_time(self, drawn: Drawn, shell: Any) -> None:
        assert len(drawn("x = %onnx_tasks")) == 1
        assert len(shell.display_pub.outputs) == 1

    def test_a_terminal_prints(
        self, shell: Any, quick_export: SimpleNamespace, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from IPython.core.displaypub import DisplayPublisher

        shell.display_pub = DisplayPublisher(parent=shell, shell=shell)
        shell.run("x = %onnx_export model")
        out, err = capsys.readouterr()
        assert out.count("batch_size") == 1 and "convert" not in out + err


class TestTheHook:
    CELL = "f()\nx = f()\nif x:\n    f()\nf()"

    @pytest.mark.parametrize(
        ("end", "interactivity", "drawn"),
        [
            ((5, 3), "last_expr", True),
            ((1, 3), "last_expr", False),
            ((1, 3), "all", True),
            ((4, 7), "all", False),
            ((2, 7), "all", False),
            ((5, 3), "none", False),
        ],
    )
    def test_is_foreseen(self, end: tuple[int, int], interactivity: str, drawn: bool) -> None:
        assert is_drawn(ast.parse(self.CELL), end, interactivity) is drawn

    def test_empty(self) -> None:
        assert not is_drawn(ast.parse(""), (1, 0), "last_expr")


class TestErrors:
    def test_two_lines_and_the_class_stays(self, shell: Any, quick_export: SimpleNamespace) -> None:
        with pytest.raises(UsageError) as caught:
            shell.run("%onnx_export modle")
        assert shell.error_text.splitlines() == [caught.value.what, f"fix: {caught.value.fix}"]

    def test_the_cause_stays(self, shell: Any, quick_export: SimpleNamespace) -> None:
        cause = OSError("disk full")
        quick_export.fail = StorageError("out is not written", fix="%onnx_export model output=elsewhere")
        quick_export.fail.__cause__ = cause
        with pytest.raises(StorageError) as caught:
            shell.run("x = %onnx_export model")
        assert caught.value.__cause__ is cause
        assert len(shell.error_text.splitlines()) == 2
        assert "x" not in shell.user_ns

    def test_what_is_not_ours_keeps_its_traceback(self, shell: Any, quick_export: SimpleNamespace) -> None:
        quick_export.fail = RuntimeError("a mistake of ours")
        with pytest.raises(RuntimeError):
            shell.run("%onnx_export model")
        assert len(shell.error_text.splitlines()) > 5

    def test_an_interrupt(self, shell: Any, quick_export: SimpleNamespace) -> None:
        quick_export.fail = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            shell.run("x = %onnx_export model")
        assert shell.error_text.splitlines()[0] == "interrupted during convert; nothing was written"
        assert len(shell.error_text.splitlines()) == 2
        assert shell.display_pub.outputs[-1]["data"]["text/plain"] == "✓ source  ■ convert stopped"

    def test_an_interrupt_after_the_folder_was_written(self) -> None:
        from onnx_magic.events import stage

        with watching(None) as watch, stage("store"):
            pass
        assert interrupt_lines(watch, "export")[0] == "export was interrupted; its folder was written already"

    @pytest.mark.parametrize(
        "what", ["", "a\nb\nc", "\x1b[31mred\x07", "\ud800 alone", "x" * 100_000, "{not} %s format", "<b>&"]
    )
    def test_hostile_messages(self, shell: Any, quick_export: SimpleNamespace, what: str) -> None:
        quick_export.fail = OnnxMagicError(what, fix=what)
        with pytest.raises(OnnxMagicError):
            shell.run("%onnx_export model")
        lines = shell.error_text.splitlines()
        assert 1 <= len(lines) <= 2
        assert all(line.encode("utf-8") and "\x1b" not in line for line in lines if line)

    def test_a_message_that_cannot_be_had(self) -> None:
        class Broken(OnnxMagicError):
            def __getattribute__(self, name: str) -> Any:
                if name in ("what", "fix"):
                    raise RuntimeError("no")
                return super().__getattribute__(name)

        assert error_lines(Broken("x")) == ["Broken (its message cannot be shown: RuntimeError)"]

    def test_only_this_exception_is_shortened(self) -> None:
        one, other = UsageError("one"), UsageError("other")
        shorten(one, ["short"])
        assert one._render_traceback_() == ["short"]  # type: ignore[attr-defined]
        assert not hasattr(other, "_render_traceback_")


QUICK = """
import functools, importlib
from onnx_magic.events import stage
from onnx_magic.records.plan import TensorSpec
home = importlib.import_module("onnx_magic.verbs.export")
@functools.wraps(home.export)
def export(model, **given):
    with stage("source"): pass
    return TensorSpec("quick", "int64", ("batch_size",))
home.export = export
class Module:
    def forward(self): ...
    def parameters(self): ...
model = Module()
"""


class Kernel:
    """A real kernel: what a notebook's front end is sent."""

    def __init__(self, first: str) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3", startup_timeout=60)
        self.run("%load_ext onnx_magic")
        assert self.run(first)[1]["status"] == "ok"

    def run(self, code: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The messages of a cell, and its reply."""
        messages: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(code, output_hook=messages.append, timeout=60)
        return [m for m in messages if m["msg_type"] not in ("status", "execute_input")], reply["content"]

    def outputs(self, code: str) -> list[str]:
        """The text of each output as the notebook holds it in the end, empty ones left out."""
        texts: dict[Any, str] = {}
        for number, message in enumerate(self.run(code)[0]):
            content = message["content"]
            assert message["msg_type"] in ("display_data", "update_display_data", "execute_result"), content
            texts[content.get("transient", {}).get("display_id", number)] = content["data"]["text/plain"]
        return [text for text in texts.values() if text]

    def complete(self, code: str) -> list[str]:
        self.client.complete(code)
        matches: list[str] = self.client.get_shell_msg(timeout=60)["content"]["matches"]
        return matches

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel() -> Any:
    kernel = Kernel(QUICK)
    yield kernel
    kernel.stop()


class TestInAKernel:
    @pytest.mark.parametrize(
        ("cell", "count"),
        [
            ("x = %onnx_export model", 1),
            ("%onnx_export model", 1),
            ("%onnx_export model\n1;", 1),
            ("[get_ipython().run_line_magic('onnx_export', 'model')][0]", 1),
            ("for _ in range(2):\n    %onnx_export model", 2),
            ("%onnx_export model;", 0),
            ("x = %onnx_export model;", 0),
            ("await __import__('asyncio').sleep(0)\n%onnx_export model", 1),
        ],
    )
    def test_once(self, kernel: Kernel, cell: str, count: int) -> None:
        texts = kernel.outputs(cell)
        assert len(texts) == count and all("quick" in text for text in texts)

    def test_the_first_display_is_the_last(self, kernel: Kernel) -> None:
        """nbval compares the first display of a cell with the last one, which the notebook stores."""
        messages, _ = kernel.run("x = %onnx_export model")
        progress = [m["content"] for m in messages if m["msg_type"] == "update_display_data"]
        first = messages[0]["content"]
        assert first["data"] == progress[-1]["data"] == {"text/plain": "", "text/html": ""}
        assert first["transient"] == progress[-1]["transient"]
        assert [m["msg_type"] for m in messages].count("display_data") == 2

    def test_an_error_is_two_lines(self, kernel: Kernel) -> None:
        messages, reply = kernel.run("%onnx_export modle")
        assert [m["msg_type"] for m in messages] == ["error"]
        content = messages[0]["content"]
        assert content["ename"] == reply["ename"] == "UsageError"
        assert content["traceback"] == content["evalue"].splitlines()
        assert content["traceback"][1] == "fix: %onnx_export model"

    def test_completion(self, kernel: Kernel) -> None:
        assert "task=" in kernel.complete("%onnx_export model ")
        assert kernel.complete("1\nx = %onnx_export model ta") == ["task="]
        assert "text-classification" in kernel.complete("%onnx_export model task=")
        assert kernel.complete("%onnx_export mod")[0] == "model"
        assert "task=" not in kernel.complete("print(")

    def test_question_mark(self, kernel: Kernel) -> None:
        for cell in ("%onnx_export?", "%%onnx_run?", "%onnx_load?"):
            _, reply = kernel.run(cell)
            assert "Options (key=value or --key value)" in reply["payload"][0]["data"]["text/plain"]

    @pytest.mark.slow
    def test_the_real_thing(self, tiny_checkpoint: Path) -> None:
        """A real export in a kernel of its own: one record, no noise of the libraries, both answers."""
        kernel = Kernel("import sys")
        try:
            kernel.run(f"import os; os.chdir({str(tiny_checkpoint.parent)!r})")
            texts = kernel.outputs(f"exported = %onnx_export {tiny_checkpoint.name} task=sentiment-analysis")
            assert len(texts) == 1 and texts[0].startswith("✓ verified")
            again = kernel.outputs("exported")
            assert again == texts, "what is shown of an export does not change"
            texts = kernel.outputs("%%onnx_run exported\n['i loved it', 'it was bad']")
            assert len(texts) == 1 and ("POSITIVE" in texts[0] or "NEGATIVE" in texts[0])
            messages, _ = kernel.run("%onnx_export tiny-sentiment task=qa")
            assert [m["msg_type"] for m in messages][-1] == "error"
            assert len(messages[-1]["content"]["traceback"]) == 2
        finally:
            kernel.stop()
