"""Fixes as lines that can be typed: in the cell, and in the shell."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnx_magic.frontends.arguments import VERBS
from onnx_magic.frontends.fixing import Typed, axes_line_of, cell_fix, shell_fix, with_fixes
from onnx_magic.frontends.reading import NamespaceReader, ShellReader
from onnx_magic.records.artifact import ExportReport
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Validation


def cell(line: str, verb: str = "export", **names: Any) -> Typed:
    return Typed(VERBS[verb].arguments, tuple(line.split()), NamespaceReader(names), f"%onnx_{verb}")


def shell(line: str, verb: str = "export") -> Typed:
    prefix = f"onnx-magic {VERBS[verb].command}"
    return Typed(VERBS[verb].arguments, tuple(shlex.split(line)), ShellReader(), prefix, many=True)


@pytest.mark.parametrize(
    ("line", "fix", "expected"),
    [
        ("net", "opset=9", "%onnx_export net opset=9"),
        ("net opset=3 fold=no", "opset=9", "%onnx_export net opset=9 fold=no"),
        ("net --opset 3", "opset=9", "%onnx_export net --opset 9"),
        ("net nerr", "task=ner", "%onnx_export net ner"),
        ("net output=a", "overwrite=yes  # ours", "%onnx_export net output=a overwrite=yes  # ours"),
        ("net inputs=(x,y)", "inputs=(x, mask)", "%onnx_export net inputs=(x, mask)"),
        ("net", "%onnx_export model inputs=(x,)", "%onnx_export net inputs=(x,)"),
        ("net", "%onnx_export model.base_model", "%onnx_export net.base_model"),
        ("nets[0]", "exported = %onnx_export model", "exported = %onnx_export nets[0]"),
        ("net", "%onnx_export sentiment-mini", "%onnx_export sentiment-mini"),
        ("net", "%onnx_export my-model", "%onnx_export my-model"),
        ("net", "%onnx_tasks  # all", "%onnx_tasks  # all"),
        ("net", "onnx_magic.export('a/b', overwrite=True)", "%onnx_export a/b overwrite=yes"),
        ("net", "onnx_magic.export('my folder')", "%onnx_export 'my folder'"),
        ("net", "onnx_magic.load('out')  # or", "%onnx_load out  # or"),
        ("net", "df -h /mnt", "!df -h /mnt"),
        ("net", "pip install pillow", "%pip install pillow"),
        # what is no option, no magic and no program stays as it is
        ("net", "use_cache=False", "use_cache=False"),
        ("net", "net = Net(...)", "net = Net(...)"),
        ("net", "model.eval()", "model.eval()"),
        ("net", "", ""),
        ("net", "opset==9", "opset==9"),
        ("net", "\ud800 alone", "\ud800 alone"),
        ("net net net", "opset=9", "opset=9"),
    ],
)
def test_in_the_cell(line: str, fix: str, expected: str) -> None:
    assert cell_fix(fix, cell(line)) == expected


@pytest.mark.parametrize(
    ("line", "fix", "expected"),
    [
        ("mini", "task=ner", "onnx-magic export mini --task ner"),
        ("mini --task nerr", "task=ner", "onnx-magic export mini --task ner"),
        ("mini --task=nerr --opset 18", "task=ner", "onnx-magic export mini --task=ner --opset 18"),
        ("'my model'", "overwrite=yes  # ours", "onnx-magic export 'my model' --overwrite  # ours"),
        (
            "mini",
            "output=mine/m.onnx  # or overwrite=yes",
            "onnx-magic export mini --output mine/m.onnx  # or overwrite=yes",
        ),
        ("mini", "inputs=dict(x=x)", "onnx-magic export mini --inputs @inputs.json"),
        ("mini", "trust_remote_code=yes", "onnx-magic export mini --trust-remote-code"),
        ("sentimnt", "%onnx_export sentiment-mini", "onnx-magic export sentiment-mini"),
        ("mini", "%onnx_export model inputs=(x,)  # so", "onnx-magic export mini --inputs @inputs.json  # so"),
        ("mini", "%onnx_tasks  # all", "onnx-magic tasks  # all"),
        ("x.onnx", "%onnx_load x.onnx", "onnx-magic run x.onnx INPUTS"),
        ("mini", "pip install pillow", "pip install pillow"),
        ("mini", "model.eval()", "model.eval()"),
    ],
)
def test_in_the_shell(line: str, fix: str, expected: str) -> None:
    assert shell_fix(fix, shell(line), "onnx-magic") == expected


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        ("exported = %onnx_export model", "onnx-magic export MODEL"),
        ("onnx_magic.export(model, output='out')", "onnx-magic export MODEL --output out"),
        ("onnx_magic.load('out-onnx')", "onnx-magic run out-onnx 'i loved it'"),
        ("provider=CPUExecutionProvider", "onnx-magic run out 'i loved it' --provider CPUExecutionProvider"),
        ("exported.run('a text')", "onnx-magic run out 'a text'"),
        ("exported.run(['a text', 'b'])  # or", "onnx-magic run out 'a text' b  # or"),
        ("exported.run({'question': 'Who?'})", """onnx-magic run out '{"question": "Who?"}'"""),
        ("exported.run({'x': np.ones((2, 3))})", "onnx-magic run out @inputs.npz"),
    ],
)
def test_of_a_run_in_the_shell(fix: str, expected: str) -> None:
    assert shell_fix(fix, shell("out 'i loved it'", "run"), "onnx-magic") == expected


def test_of_a_run_in_the_cell() -> None:
    typed = Typed(VERBS["run"].cell_arguments, ("mine",), NamespaceReader({}), "%%onnx_run")
    assert cell_fix("exported.run('a text')", typed) == "mine.run('a text')"
    assert cell_fix("provider=CPUExecutionProvider", typed) == "%%onnx_run mine provider=CPUExecutionProvider"


def test_what_was_found_is_put_right_for_the_shell() -> None:
    found = Finding("axis-baked", "axis 0 of x was baked", fix="dynamic=no")
    note = Finding("fallback", "opset 20 was written", fix="opset=20  # as it is", level="note")
    report = ExportReport(
        "mini", Path("out"), None, "Mini", "dynamo", {}, (), Validation(findings=(found,)), findings=(note,)
    )

    def spell(fix: str) -> str:
        return shell_fix(fix, shell("mini --opset 18"), "onnx-magic")

    told = with_fixes(SimpleNamespace(report=report), spell)
    assert told.validation.findings[0].fix == "onnx-magic export mini --opset 18 --dynamic no"
    assert told.findings[0].fix == "onnx-magic export mini --opset 20  # as it is"
    assert report.edit and not told.edit and told.validation.status == report.validation.status == "failed"
    assert with_fixes(report.validation, spell) == told.validation
    for other in (None, "text", Finding("fallback", "a finding without a fix")):
        assert with_fixes(other, spell) == other


def test_the_line_that_edits_the_axes() -> None:
    assert axes_line_of(cell("net opset=18 inputs=(x,y)")) == "%onnx_axes net inputs=(x,y)"
    assert axes_line_of(cell("nets[0] ner output=a")) == "%onnx_axes nets[0]"
