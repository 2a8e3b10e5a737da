"""The command line: exit codes, two lines for an error, the record on stdout, stages on stderr."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import onnx_magic
from onnx_magic.errors import OnnxMagicError
from onnx_magic.frontends.arguments import VERBS
from onnx_magic.frontends.cli import main
from onnx_magic.records.results import Comparison, Validation

Capture = pytest.CaptureFixture[str]


class TestWords:
    def test_version(self, capsys: Capture) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"onnx-magic {onnx_magic.__version__}\n"

    def test_help(self, capsys: Capture) -> None:
        assert main(["--help"]) == 0
        listed = capsys.readouterr().out
        commands = [row.command for row in VERBS.values() if row.command]
        assert re.findall(r"^  ([a-z]+)  ", listed, re.MULTILINE) == commands
        for command in commands:
            assert main([command, "--help"]) == 0
            assert capsys.readouterr().out.startswith(f"usage: onnx-magic {command}")
        assert main([]) == 1

    def test_help_behind_two_dashes_is_a_text(self, capsys: Capture) -> None:
        assert main(["run", "nowhere-onnx", "--", "--help"]) == 1
        assert "nowhere-onnx" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("argv", "what", "fix"),
        [
            (["exprt", "x"], "did you mean 'export'?", "onnx-magic export --help"),
            (["qqq"], "expected one of export, plan", "onnx-magic --help"),
            (["load", "x"], "there is no command 'load'", "onnx-magic --help"),
            (["export", "m", "--taks", "ner"], "did you mean 'task'?", "onnx-magic export m --task ner"),
            (["export"], "export needs model", "onnx-magic export MODEL"),
            (["export", "m", "--opset", "x"], "'x' is not a whole number", "onnx-magic export m"),
            (["tasks", "x"], "one word too many: tasks takes nothing", "onnx-magic tasks"),
        ],
    )
    def test_mistakes_are_two_lines(self, capsys: Capture, argv: list[str], what: str, fix: str) -> None:
        assert main(argv) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert what in err.splitlines()[0] and err.splitlines()[1:] == [f"fix: {fix}"]


class TestRunning:
    def test_the_verb_gets_what_was_typed(self, quick_export: SimpleNamespace, capsys: Capture) -> None:
        assert main(["export", "a/b", "--task", "ner", "dynamic=batch_size", "--validate", "no", "--opset=18"]) == 0
        given = {"model": "a/b", "task": "ner", "dynamic": "batch_size", "validate": False, "opset": 18}
        assert quick_export.calls == [given]
        out, err = capsys.readouterr()
        assert "batch_size" in out
        assert err == "", "no stages where stderr is no terminal"

    def test_an_error(self, quick_export: SimpleNamespace, capsys: Capture) -> None:
        quick_export.fail = OnnxMagicError("it failed", fix="try again")
        assert main(["export", "a/b"]) == 1
        assert capsys.readouterr().err == "it failed\nfix: try again\n"
        assert main(["export", "a/b", "--debug"]) == 1
        assert "Traceback" in capsys.readouterr().err
        assert "debug" not in quick_export.calls[-1]

    def test_a_mistake_of_ours_is_not_hidden(self, quick_export: SimpleNamespace) -> None:
        quick_export.fail = RuntimeError("a mistake of ours")
        with pytest.raises(RuntimeError):
            main(["export", "a/b"])

    def test_an_interrupt(self, quick_export: SimpleNamespace, capsys: Capture) -> None:
        quick_export.fail = KeyboardInterrupt()
        assert main(["export", "a/b"]) == 130
        assert capsys.readouterr().err == "interrupted during convert; nothing was written\n"

    @pytest.mark.parametrize(
        ("record", "code"),
        [
            (Comparison("traced", {}, error="it did not run"), 2),
            (Validation(checked=False), 0),
            (Validation(), 2),
        ],
    )
    def test_the_verdict_is_the_exit_code(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Capture, record: Any, code: int
    ) -> None:
        from onnx_magic.frontends import cli

        shown = SimpleNamespace(validation=record) if isinstance(record, Validation) else record
        monkeypatch.setattr("onnx_magic.display.bundles.bundle", lambda record: {"text/plain": "shown"})
        assert cli._show(shown, str) == code
        assert capsys.readouterr().out == "shown\n"


class TestAsAProcess:
    def test_a_locale_without_the_signs(self) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(
            [sys.executable, "-m", "onnx_magic", "tasks"], capture_output=True, env=environment, timeout=60
        )
        assert done.returncode == 0 and b"text-classification" in done.stdout and b"?" in done.stdout

    def test_a_reader_that_has_read_enough(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "onnx_magic", "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def exported_by_command(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., Any], tiny_tokenizer: Any
) -> Path:
    """A tiny classifier, exported by the command; the folder that it stands in."""
    folder = tmp_path_factory.mktemp("cli")
    tiny_bert("SequenceClassification", id2label={0: "NEGATIVE", 1: "POSITIVE"}).save_pretrained(folder / "tiny")
    tiny_tokenizer.save_pretrained(folder / "tiny")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["export", "tiny", "--task", "sentiment-analysis"]) == 0
    finally:
        os.chdir(before)
    return folder


class TestTheWholeJob:
    def test_export_run_compare(
        self, exported_by_command: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.chdir(exported_by_command)
        assert (exported_by_command / "tiny-onnx" / "onnx" / "model.onnx").exists()
        assert main(["run", "tiny-onnx", "i loved it", "it was bad"]) == 0
        out = capsys.readouterr().out
        assert "POSITIVE" in out or "NEGATIVE" in out
        assert main(["compare", "tiny-onnx", "i loved it"]) == 0
        assert main(["plan", "tiny"]) == 0
        assert "sequence_length" in capsys.readouterr().out

    def test_errors_of_the_engine_are_two_lines(
        self, exported_by_command: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.chdir(exported_by_command)
        for argv in (
            ["export", "tiny", "--task", "nerr"],
            ["export", "nowhere/at/all"],
            ["run", "nowhere", "x"],
            ["export", "tiny", "--opset", "3"],
        ):
            assert main(argv) == 1, argv
            err = capsys.readouterr().err
            assert len(err.splitlines()) == 2 and err.splitlines()[1].startswith("fix: onnx-magic "), err

    @pytest.mark.parametrize(
        ("argv", "fix"),
        [
            (["export", "tiny", "--task", "nerr"], "export tiny --task ner"),
            (["export", "tiny", "--task", "ner"], "export tiny --task text-classification"),
            (["export", "tny"], "export tiny"),
            (["export", "tiny", "--opset", "3"], "export tiny --opset 9"),
            (["export", "tiny-onnx"], "run tiny-onnx INPUTS"),
            (["run", "tiny-onx", "it was bad"], "run tiny-onnx 'it was bad'"),
            (["run", "nowhere", "x"], "export MODEL --output nowhere"),
            (["run", "tiny", "x"], "export tiny"),
            (["plan", "tiny", "--task", "zzz"], "tasks  # what can be exported, by task"),
        ],
    )
    def test_a_fix_is_a_line_for_the_shell(
        self, exported_by_command: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, argv: list[str], fix: str
    ) -> None:
        monkeypatch.chdir(exported_by_command)
        assert main(argv) == 1
        assert capsys.readouterr().err.splitlines()[1:] == [f"fix: onnx-magic {fix}"]

    def test_a_fix_can_be_run(
        self, exported_by_command: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.chdir(exported_by_command)
        for argv in (["plan", "tiny", "--task", "nerr", "--opset=3"], ["run", "tiny-onx", "it was bad"]):
            for _ in argv:  # a line may hold several mistakes: each fix is nearer
                if main(argv) == 0:
                    break
                argv = shlex.split(capsys.readouterr().err.partition("fix: onnx-magic ")[2])
            else:
                pytest.fail(f"the fixes lead nowhere: {argv}")
