"""`%onnx_axes` and `%onnx_play`: a plan as a table, a panel that answers, and what is shown where neither can live."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.exported import ExportedModel
from onnx_magic.frontends import live
from onnx_magic.frontends.arguments import VERBS
from onnx_magic.frontends.fixing import Typed
from onnx_magic.frontends.lines import split_line
from onnx_magic.frontends.live import words_of
from onnx_magic.frontends.reading import NamespaceReader
from onnx_magic.records.plan import ExportPlan
from onnx_magic.records.playing import Played
from onnx_magic.widgets.axes_table import VIEW, AxesTable
from onnx_magic.widgets.playground import Playground


@pytest.fixture
def folder(shell: Any, tiny_checkpoint: Path, workdir: Path) -> Path:
    shell.user_ns["folder"] = str(tiny_checkpoint)
    return tiny_checkpoint


def kinds(shell: Any) -> list[set[str]]:
    """What is shown in the end: the mime types of each output, empty ones left out."""
    return [set(data) for data in shell.shown if data.get("text/plain")]


def test_edit_export_and_the_line_that_does_the_same(shell: Any, folder: Path) -> None:
    table = shell.run("table = %onnx_axes folder task=sentiment-analysis output=live opset=18\ntable")
    assert isinstance(table, AxesTable) and table.dynamic is None
    table.widget.set_state({"edit": {"tensor": "attention_mask", "axis": 1, "text": "tokens", "number": 1}})
    assert table.plan.dynamic["input_ids"] == {0: "batch_size", 1: "tokens"}
    assert table.plan.outputs[0].shape[0] == "batch_size"
    table.widget.set_state({"asked": 1})
    assert table.widget.error == "" and "verified" in table.widget.verdict
    exported = table.exported
    assert isinstance(exported, ExportedModel) and exported.validation and exported.path.name == "live"
    assert [spec.shape for spec in exported.inputs] == [("batch_size", "tokens")] * 3
    first = exported.model_path.read_bytes()
    again = shell.run(f"again = {table.line}\nagain")
    assert again.inputs == exported.inputs and again.model_path.read_bytes() == first


def test_a_name_for_two_sizes_is_refused_and_one_for_equal_sizes_is_taken(shell: Any, workdir: Path) -> None:
    import torch

    class Pool(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * 2

    shell.user_ns.update(net=Pool().eval(), square=torch.rand(2, 3, 8, 8), wide=torch.rand(2, 3, 8, 12))
    table = shell.run("%onnx_axes net inputs=wide output=wide")
    assert table.plan.dynamic == {"x": {0: "batch_size", 1: "x_dim_1", 2: "height", 3: "width"}}
    table.edit("x", 3, "height")
    assert "'height' cannot name both" in table.draft.wrong["x", 3][1]
    table = shell.run("%onnx_axes net inputs=square output=square")
    table.edit("x", 3, "height")
    assert not table.draft.wrong
    exported = table.export_again()
    assert exported.inputs[0].shape == ("batch_size", "x_dim_1", "height", "height")
    assert exported.validation.status == "verified"


def test_a_dynamic_of_the_line_is_where_it_starts(shell: Any, folder: Path) -> None:
    table = shell.run("%onnx_axes folder dynamic=batch_size")
    assert table.dynamic == {"input_ids": {0: "batch_size"}}
    table.edit("input_ids", 1, "sequence_length")
    assert table.dynamic is None and table.line.endswith("dynamic=auto")


def test_shows_the_static_form_and_below_it_the_view(shell: Any, folder: Path) -> None:
    static, view = {"text/plain", "text/html"}, {VIEW, "text/plain"}
    shell.run("%onnx_axes folder")
    assert kinds(shell)[-2:] == [static, view]
    for cell in ("x = %onnx_axes folder", "%onnx_axes folder\n1;"):
        shell.display_pub.outputs.clear()
        shell.run(cell)
        shown = kinds(shell)
        assert shown[-2:] == [static, view] and shown.count(view) == 1
    shell.display_pub.outputs.clear()
    shell.run("x = %onnx_axes folder;")
    assert shell.shown == []


def test_bad_lines_are_two_lines(shell: Any, folder: Path) -> None:
    with pytest.raises(UsageError):
        shell.run("%onnx_axes folder dynamic=batch")
    lines = shell.error_text.splitlines()
    assert len(lines) == 2 and lines[1] == "fix: %onnx_axes folder dynamic=batch_size"


@pytest.mark.parametrize("absent", [("anywidget",), ("ipywidgets", "anywidget")])
def test_without_the_packages_the_static_form_and_one_hint(
    shell: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...]
) -> None:
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    plan = shell.run("%onnx_axes folder")
    assert isinstance(plan, ExportPlan)
    texts = [data["text/plain"] for data in shell.shown if "axis 0" in data["text/plain"]]
    hints = [data["text/plain"] for data in shell.shown if "not installed" in data["text/plain"]]
    assert len(texts) == len(hints) == 1 and f"%pip install {' '.join(sorted(absent, reverse=True))}" in hints[0]
    assert not any(VIEW in data for data in shell.shown)


def test_in_a_terminal_the_static_form(shell: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "is_notebook", lambda shell: False)
    assert isinstance(shell.run("%onnx_axes folder"), ExportPlan)
    assert not any(VIEW in data or "not installed" in data["text/plain"] for data in shell.shown)


def test_a_plan_is_edited_and_exported_again(shell: Any, folder: Path) -> None:
    shell.user_ns["onnx_magic"] = onnx_magic
    shell.run("plan = onnx_magic.plan(folder, opset=18)")
    shell.display_pub.outputs.clear()
    table = shell.run("plan.edit()")
    assert isinstance(table, AxesTable) and table.plan.dynamic == shell.user_ns["plan"].dynamic
    assert kinds(shell)[-2:] == [{"text/plain", "text/html"}, {VIEW, "text/plain"}]
    table.edit("input_ids", 1, "tokens")
    assert table.line == f"%onnx_export {folder} opset=18 dynamic={{'input_ids': {{0: 'batch_size', 1: 'tokens'}}}}"
    exported = table.export_again()
    assert exported.inputs[0].shape == ("batch_size", "tokens") and exported.graph.opset == 18
    shell.user_ns["exported"] = exported
    again = shell.run("exported.plan.edit()")
    assert again.dynamic == table.dynamic, "what the export was asked is where it starts"
    again.edit("input_ids", 1, "sequence_length")
    assert again.dynamic is None and again.line == f"%onnx_export {folder} opset=18"


def test_a_plan_without_its_model_says_so(shell: Any, folder: Path) -> None:
    exported = shell.run("exported = %onnx_export folder validate=no\nexported")
    text = bundle(exported)["text/plain"]
    assert "edit the axes: %onnx_axes folder" in text and "sequence_length (probe)" in text
    plan, loaded = exported.plan, onnx_magic.load(exported.path)
    assert "asked" not in repr(plan) and plan.asked is not None
    exported.release()
    for gone in (exported.plan, loaded.plan):
        assert gone.dynamic == plan.dynamic and gone.asked is None
        with pytest.raises(UsageError, match="is not at hand") as caught:
            gone.edit()
        assert str(caught.value).splitlines()[1] == "fix: %onnx_axes model"
    assert "batch_size" in bundle(loaded.plan)["text/plain"], "its static form stands"


def test_a_plan_is_itself_where_no_table_can_live(
    shell: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, raising_shell: Any
) -> None:
    plan = onnx_magic.plan(str(folder))
    monkeypatch.setattr(live, "is_notebook", lambda shell: False)
    assert plan.edit() is plan
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: None)
    assert plan.edit() is plan, "outside IPython"


def test_words_of_options() -> None:
    net, samples = object(), np.zeros((2, 3))
    asked = {"model": net, "inputs": samples, "output": "a b", "overwrite": True, "opset": None, "dynamic": False}
    assert words_of(asked, {"_": net, "net": net}) == ("net", "output='a b'", "inputs=inputs", "overwrite=yes")
    assert words_of({"model": "my models/mini", "task": "ner"}, {}) == ("'my models/mini'", "task=ner")


def test_defaults_of_config_reach_the_export(shell: Any, folder: Path, quick_export: SimpleNamespace) -> None:
    shell.run("%config OnnxMagics.validate = False")
    shell.run("%onnx_axes folder overwrite=yes").export_again()
    assert quick_export.calls == [{"model": str(folder), "validate": False, "overwrite": True, "dynamic": None}]


@pytest.mark.parametrize(
    ("typed", "dynamic", "line"),
    [
        ("net", None, "%onnx_export net"),
        ("net task=ner", False, "%onnx_export net task=ner dynamic=no"),
        ("net --opset 18", {"x": {0: "n"}}, "%onnx_export net --opset 18 dynamic={'x': {0: 'n'}}"),
        ("net dynamic=no opset=18", {"x": {0: "n"}}, "%onnx_export net dynamic={'x': {0: 'n'}} opset=18"),
        ("net dynamic=no", None, "%onnx_export net dynamic=auto"),
        ("net --dynamic no", {"it's": {0: "n"}}, """%onnx_export net --dynamic {"it's": {0: 'n'}}"""),
    ],
)
def test_the_line_reads_back_as_what_it_says(typed: str, dynamic: Any, line: str) -> None:
    reader = NamespaceReader({"net": SimpleNamespace(forward=None)})
    made = live.export_line(Typed(VERBS["plan"].line_arguments, split_line(typed).words, reader, "%onnx_axes"), dynamic)
    assert made == line
    words = split_line(made.removeprefix("%onnx_export ")).words
    assert VERBS["export"].arguments.parse(words, reader, prefix="%onnx_export").get("dynamic") == dynamic


def test_completion_knows_the_options_of_both() -> None:
    from onnx_magic.frontends.completing import complete_magic

    found = complete_magic("%onnx_axes net ", {})
    assert found is not None and {"opset=", "output=", "atol="} <= set(found.texts)


@pytest.fixture(scope="module")
def held(tiny_bert: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """An exported classifier whose live model is held."""
    import onnx_magic

    home = tmp_path_factory.mktemp("play")
    tiny_bert("SequenceClassification", num_labels=2).save_pretrained(home / "tiny")
    tiny_tokenizer.save_pretrained(home / "tiny")
    return onnx_magic.export(str(home / "tiny"), output=home / "exported", validate=False)


@pytest.fixture
def exported(shell: Any, held: ExportedModel, workdir: Path) -> ExportedModel:
    """It, in the shell too."""
    shell.user_ns["exported"] = held
    return held


def test_play_answers_and_follows_python(shell: Any, exported: ExportedModel) -> None:
    panel = shell.run("panel = %onnx_play exported ['i loved it', 'dull'] top_k=2 atol=1e-3\npanel")
    assert isinstance(panel, Playground) and panel.inputs == ["i loved it", "dull"]
    assert (panel.top_k, panel.atol, panel.sample) == (2, 1e-3, 0) and panel.result
    shell.run("panel.inputs = 'a film'\npanel.output = 'logits'")
    assert panel.widget.values["text"] == "a film"
    assert [set(data) for data in shell.shown[:2]] == [{"text/plain", "text/html"}, {VIEW, "text/plain"}]
    two = shell.run("two = %onnx_play exported\ntwo")
    assert two.inputs != panel.inputs and two.widget.model_id != panel.widget.model_id


def test_play_reads_arrays_in_the_users_namespace(shell: Any, workdir: Path) -> None:
    import torch

    shell.user_ns["net"], shell.user_ns["x"] = torch.nn.Linear(3, 2).eval(), torch.rand(4, 3)
    panel = shell.run("net_exported = %onnx_export net inputs=x output=net validate=no;\n%onnx_play net_exported")
    (field,) = [name for name in panel.widget.values if name.startswith("array:")]
    panel.run(**{field: "x * 2"})
    assert panel.played.samples == 4
    panel.run(**{field: "np.zeros((6, 3), 'float32')"})
    assert panel.played.samples == 6 and bool(panel.result)
    panel.widget.send = lambda content, buffers=None: None
    panel.widget._handle_custom_msg({"type": "run", "number": "1", "values": {field: "1 / 0"}}, [])
    assert panel.widget.problem["place"] == field and "ZeroDivisionError" in panel.widget.problem["what"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("%onnx_play", "run needs exported"),
        ("%onnx_play exported top_k=0", "top_k is 0"),
        ("%onnx_play exported topk=3", "did you mean 'top_k'"),
        ("%onnx_play exported atol=-1", "not a tolerance"),
        ("%onnx_play exported {'nothing':[1]}", "no input 'nothing'"),
        ("%onnx_play exported variants=int9", "int9"),
        ("%onnx_play nowhere", "nowhere"),
    ],
)
def test_bad_play_lines_are_two_lines(shell: Any, exported: ExportedModel, line: str, what: str) -> None:
    with pytest.raises(OnnxMagicError):
        shell.run(line)
    lines = shell.error_text.splitlines()
    assert len(lines) == 2 and what in lines[0] and lines[1].startswith("fix: ")


def test_play_on_a_folder_that_is_gone(shell: Any, exported: ExportedModel) -> None:
    import shutil

    import onnx_magic

    shell.user_ns["copied"] = onnx_magic.load(shutil.copytree(exported.path, "copied"))
    shutil.rmtree("copied")
    with pytest.raises(OnnxMagicError, match="is gone"):
        shell.run("%onnx_play copied")


def test_play_without_the_packages_or_in_a_terminal(
    shell: Any, exported: ExportedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert isinstance(shell.run("%onnx_play exported"), Played)
    texts = [data["text/plain"] for data in shell.shown if data.get("text/plain")]
    assert sum("not installed" in text for text in texts) == 1 and "PyTorch" in texts[-1]
    assert not any(VIEW in data for data in shell.shown)
    shell.display_pub.outputs.clear()
    monkeypatch.setattr(live, "is_notebook", lambda shell: False)
    assert isinstance(shell.run("%onnx_play exported 'i loved it'"), Played)
    assert not any("not installed" in data.get("text/plain", "") for data in shell.shown)


def test_help_and_completion_of_play(shell: Any) -> None:
    from onnx_magic.frontends.completing import complete_magic

    found = complete_magic("%onnx_play exported ", {})
    assert found is not None and {"top_k=", "atol=", "rtol=", "provider=", "variants="} <= set(found.texts)
    assert "model=" not in found.texts and "lines=" not in found.texts
    told = shell.magics_manager.magics["line"]["onnx_play"].__doc__
    assert told.startswith("Try a model in a live panel") and "%%onnx_run" not in told and "rtol=" in told
    other = shell.magics_manager.magics["cell"]["onnx_run"].__doc__
    assert (
        "%onnx_play" not in other
        and "%%onnx_run EXPORTED" in other
        and "onnx_run" not in shell.magics_manager.magics["line"]
    )
