from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn.modules import module as nn_module

import onnx_magic
from onnx_magic.errors import FeedError, InputsError, SwapError, UsageError
from onnx_magic.exported import ExportedModel
from onnx_magic.records.results import RunResult, SideBySide


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def cnn() -> Cnn:
    torch.manual_seed(0)
    return Cnn().eval()


@pytest.fixture(scope="module")
def exported_cnn(cnn: Cnn, folder: Path) -> ExportedModel:
    exported = onnx_magic.export(cnn, inputs=torch.randn(2, 3, 8, 8), output=folder / "cnn", exporter="torchscript")
    return exported.require_verified()


@pytest.fixture(scope="module")
def pipe(tiny_bert: Callable[..., Any], tiny_tokenizer: Any) -> Any:
    model = tiny_bert("SequenceClassification", num_labels=2, id2label={0: "NEGATIVE", 1: "POSITIVE"})
    return transformers.pipeline("text-classification", model=model, tokenizer=tiny_tokenizer)


@pytest.fixture(scope="module")
def exported_bert(pipe: Any, folder: Path) -> ExportedModel:
    return onnx_magic.export(pipe, output=folder / "bert", exporter="torchscript").require_verified()


@pytest.fixture
def shell(raising_shell: Any, cnn: Cnn, exported_cnn: Any, pipe: Any, exported_bert: Any, tiny_tokenizer: Any) -> Any:
    """Holds the models and their exports; `shell.cell(body, "exported options")` gives what `%%onnx_run` gives."""
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(
        torch=torch, np=np, cnn=cnn, exported_cnn=exported_cnn, pipe=pipe, exported_bert=exported_bert,
        model=pipe.model, tokenizer=tiny_tokenizer, x=torch.linspace(-1, 1, 2 * 3 * 6 * 6).reshape(2, 3, 6, 6),
    )  # fmt: skip

    def cell(body: str, line: str = "exported_cnn") -> Any:
        raising_shell.run(f"%%onnx_run {line} as=result\n{body}")
        return raising_shell.user_ns["result"]

    raising_shell.cell = cell
    yield raising_shell
    assert not nn_module._has_any_global_hook()
    assert "forward" not in cnn.__dict__ and "forward" not in pipe.model.__dict__
    assert not cnn.training and not pipe.model.training


class TestACellThatCallsTheModel:
    def test_both_values_stand_side_by_side(self, shell: Any, cnn: Cnn) -> None:
        side = shell.cell("with torch.no_grad():\n    y = cnn(x)\ny * 2")
        assert isinstance(side, SideBySide) and side and side.notes == ()
        assert torch.equal(side.expected, shell.user_ns["y"] * 2)  # the first run is the real one
        assert torch.allclose(side.actual, side.expected, atol=1e-5)
        (comparison,) = side.comparison
        assert comparison.label == "call 1" and dict(comparison.shapes) == {"x": (2, 3, 6, 6)}
        assert [diff.name for diff in comparison.diffs] == ["output"]

    def test_onnx_runtime_answers_in_the_second_run(self, shell: Any) -> None:
        shell.run("ran = []\nhandle = cnn.conv.register_forward_hook(lambda *_: ran.append(1))")
        shell.cell("cnn(x)")
        shell.run("handle.remove()")
        assert shell.user_ns["ran"] == [1]

    def test_a_pipeline(self, shell: Any) -> None:
        side = shell.cell("pipe(['i loved it', 'a dull film'])", "exported_bert")
        assert side and [row["label"] for row in side.expected] == [row["label"] for row in side.actual]
        assert side.comparison[0].agreement is not None

    def test_outputs_of_a_class(self, shell: Any) -> None:
        body = "with torch.no_grad():\n    out = model(**tokenizer('i loved it', return_tensors='pt'))\nout"
        side = shell.cell(body, "exported_bert")
        assert side and type(side.actual) is type(side.expected)

    def test_every_call_is_compared(self, shell: Any) -> None:
        side = shell.cell("for n in range(1, 4):\n    last = cnn(torch.ones(n, 3, 5, 5 + n))")
        assert side.expected is None and side.actual is None
        assert [c.label for c in side.comparison] == ["call 1", "call 2", "call 3"] and side
        assert [c.shapes["x"] for c in side.comparison] == [(1, 3, 5, 6), (2, 3, 5, 7), (3, 3, 5, 8)]

    def test_more_calls_than_are_kept_are_said(self, shell: Any) -> None:
        side = shell.cell("for _ in range(40):\n    cnn(x)")
        assert side and len(side.comparison) == 32 and "40 calls; the first 32 are compared" in side.notes

    def test_variables_of_the_first_run_stay_and_those_of_the_second_do_not(self, shell: Any) -> None:
        shell.run("count = 0")
        shell.cell("count = count + 1\nfound = cnn(x)\nclass Local: pass\nfound")
        assert shell.user_ns["count"] == 1
        assert shell.user_ns["found"].grad_fn is not None  # PyTorch's
        assert shell.user_ns["result"].actual.grad_fn is None

    def test_magics_in_the_second_run_bind_in_the_copy(self, shell: Any) -> None:
        shell.run("count = 0")
        shell.cell("get_ipython().user_ns['count'] = count + 1\n%time cnn(x)\ncount")
        assert shell.user_ns["count"] == 1 and shell.user_ns["result"].actual == 1

    def test_what_it_prints_and_displays_shows_once(self, shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
        shell.display_pub.outputs.clear()
        with pytest.warns(UserWarning) as warned:
            shell.cell(
                "import sys, warnings\nfrom IPython.display import display\nprint('printed')\n"
                "print('to stderr', file=sys.stderr)\ndisplay('displayed')\nwarnings.warn('warned')\ncnn(x)"
            )
        captured = capsys.readouterr()
        assert captured.out.count("printed") == 1
        assert captured.err.count("to stderr") == 1 and len(warned) == 1
        assert sum("displayed" in bundle["text/plain"] for bundle in shell.shown) == 1
        assert not any(bundle["text/plain"].startswith("tensor(") for bundle in shell.shown)

    def test_what_it_logs_shows_once(self, shell: Any) -> None:
        import io
        import logging

        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        logging.root.addHandler(handler)
        try:
            shell.cell("import logging\nlogging.warning('logged')\ncnn(x)")
        finally:
            logging.root.removeHandler(handler)
        assert stream.getvalue() == "logged\n" and handler.filters == []

    def test_random_states_are_the_same_in_both_runs(self, shell: Any) -> None:
        body = "import random\nz = torch.rand(2, 3, 4, 4) + random.random() + np.random.rand()\ncnn(z)\nz"
        side = shell.cell(body)
        assert side and side.notes == () and torch.equal(side.expected, side.actual)
        after = torch.rand(3)
        torch.manual_seed(5)
        shell.run("torch.manual_seed(5)\ntorch.rand(2, 3, 4, 4);")
        expected = torch.rand(3)
        shell.run("torch.manual_seed(5)")
        shell.cell("cnn(torch.rand(2, 3, 4, 4))")
        assert torch.equal(torch.rand(3), expected) and not torch.equal(after, expected)

    def test_a_model_given_by_name(self, shell: Any) -> None:
        shell.user_ns["twin"] = copy.deepcopy(shell.user_ns["cnn"])
        with pytest.raises(UsageError, match="calls 2 models of class Cnn"):
            shell.cell("cnn(x) - twin(x)")
        side = shell.cell("cnn(x) - twin(x)", "exported_cnn model=cnn")
        assert side.comparison and len(side.comparison) == 1

    def test_another_one_than_model_says(self, shell: Any) -> None:
        shell.user_ns["twin"] = copy.deepcopy(shell.user_ns["cnn"])
        with pytest.raises(UsageError, match="another Cnn than the one that model= gives"):
            shell.cell("cnn(x)", "exported_cnn model=twin")

    def test_a_loaded_folder(self, shell: Any, exported_cnn: ExportedModel) -> None:
        side = shell.cell("cnn(x)", str(exported_cnn.path))
        assert isinstance(side, SideBySide) and side


class TestWhatGoesWrong:
    def test_a_graph_with_a_changed_weight_differs(self, shell: Any, exported_cnn: ExportedModel, folder: Path) -> None:
        """The negative control of all comparisons here."""
        import shutil

        import onnx
        from onnx import numpy_helper

        broken = folder / "broken"
        shutil.copytree(exported_cnn.path, broken)
        path = next(broken.rglob("*.onnx"))
        graph = onnx.load(path)
        bias = next(t for t in graph.graph.initializer if list(t.dims) == [2])
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
        onnx.save(graph, path)
        for line in (str(broken), f"{broken} once=yes"):
            side = shell.cell("cnn(x)", line)
            assert not side and side.comparison[0].max_abs == pytest.approx(0.01, rel=0.01)
        assert not shell.cell("x", f"{broken} model=cnn")

    def test_changed_weights_are_refused(self, shell: Any) -> None:
        changed = copy.deepcopy(shell.user_ns["cnn"])
        with torch.no_grad():
            changed.head.bias += 1
        shell.user_ns["changed"] = changed
        with pytest.raises(UsageError, match="with other weights") as caught:
            shell.cell("value = changed(x)")
        assert "model=" in caught.value.what and caught.value.fix == "exported = %onnx_export model"
        assert len(shell.error_text.splitlines()) == 2
        assert "value" in shell.user_ns  # nothing of the first run is lost
        with pytest.raises(SwapError, match="has changed since the export"):
            shell.cell("changed(x)", "exported_cnn model=changed")

    def test_train_mode_is_refused(self, shell: Any) -> None:
        fresh = shell.user_ns["fresh"] = copy.deepcopy(shell.user_ns["cnn"]).train()
        assert shell.cell("fresh(x)").comparison[0], "as it comes from its class: nothing of it heeds train mode"
        fresh.drop = nn.Dropout(0.1)
        with pytest.raises(UsageError, match="in train mode") as caught:
            shell.cell("fresh(x)")
        assert caught.value.fix == "fresh.eval()"

    def test_a_cell_that_trains_is_refused(self, shell: Any) -> None:
        shell.user_ns["fresh"] = copy.deepcopy(shell.user_ns["cnn"])
        with pytest.raises(UsageError, match="the cell trains Cnn"):
            shell.cell("loss = fresh(x).sum()\nloss.backward()")
        assert "loss" in shell.user_ns

    @pytest.mark.parametrize("body", ["\n  \n", "# nothing but a comment"])
    @pytest.mark.parametrize("line", ["exported_cnn", "exported_bert lines=yes"])
    def test_an_empty_cell(self, shell: Any, body: str, line: str) -> None:
        if "lines" in line and body.strip():
            return  # a comment is a text
        with pytest.raises(UsageError, match="the cell is empty"):
            shell.cell(body, line)

    def test_an_exception_of_the_cell_is_the_users_own(self, shell: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            shell.cell("before = 1\ndef divide(n):\n    return 1 / n\ncnn(x)\ndivide(0)")
        assert shell.user_ns["before"] == 1
        text = shell.error_text
        assert "----> 6 divide(0)" in text and "----> 4     return 1 / n" in text  # lines of the notebook's cell
        assert "frontends/cells.py" not in text

    def test_syntax_that_is_none(self, shell: Any) -> None:
        with pytest.raises(UsageError) as caught:
            shell.cell("\ny = 1\nx =")
        assert caught.value.what == "line 4 of the cell is no Python: invalid syntax, in x ="  # the notebook's cell
        assert caught.value.fix == "mend line 4, and run the cell again"
        assert isinstance(caught.value.__cause__, SyntaxError) and len(shell.error_text.splitlines()) == 2
        with pytest.raises(UsageError) as caught:
            shell.cell("I loved it\nA dull, lifeless mess")
        assert caught.value.fix.endswith("lines=yes  # takes the body as text, a sample a line")

    def test_await_is_refused(self, shell: Any) -> None:
        with pytest.raises(UsageError, match="awaits at its top level"):
            shell.cell("import asyncio\nawait asyncio.sleep(0)")

    def test_what_the_graph_cannot_give_is_two_lines(self, shell: Any) -> None:
        with pytest.raises(SwapError, match="output_hidden_states=True"):
            shell.cell("out = model(**tokenizer('i', return_tensors='pt'), output_hidden_states=True)", "exported_bert")
        assert len(shell.error_text.splitlines()) == 2
        assert len(shell.user_ns["out"].hidden_states) == 3

    def test_an_exception_of_the_second_run_is_a_note(self, shell: Any) -> None:
        side = shell.cell("y = cnn(x)\nassert y.grad_fn is not None, 'no graph'\ny")
        assert not side and side.actual is None
        assert side.notes[0] == "the second run raised AssertionError: no graph"
        assert side.comparison[0].passed and side.comparison[-1].error is not None

    def test_a_shape_that_the_graph_does_not_take(self, shell: Any, folder: Path) -> None:
        fixed = onnx_magic.export(
            shell.user_ns["cnn"], inputs=torch.randn(2, 3, 8, 8), dynamic=False, output=folder / "fixed",
            exporter="torchscript",
        )  # fmt: skip
        shell.user_ns["fixed"] = fixed
        with pytest.raises(FeedError, match="the graph takes 8 only"):
            shell.cell("cnn(x)", "fixed")

    def test_inputs_that_do_not_repeat_are_said_and_still_compared(self, shell: Any) -> None:
        shell.run("seen = []")
        side = shell.cell("seen.append(1)\ncnn(x + len(seen))\nseen")
        assert side and any("other inputs (call 1)" in note for note in side.notes)
        assert any("one and the same object" in note for note in side.notes)

    def test_another_number_of_calls_is_said(self, shell: Any) -> None:
        shell.run("seen = []")
        side = shell.cell("seen.append(1)\nfor _ in seen:\n    y = cnn(x)\nlen(seen)")
        assert "the model was called 1 times by PyTorch's run, 2 times by ONNX Runtime's" in side.notes

    def test_inner_calls_only(self, shell: Any) -> None:
        with pytest.raises(UsageError, match="calls conv, an inner module of Cnn"):
            shell.cell("cnn.conv(x)")

    def test_calls_that_bypass_are_said(self, shell: Any) -> None:
        side = shell.cell("cnn(x), cnn.conv(x).shape")
        assert side and any("ran in PyTorch: conv" in note for note in side.notes)

    def test_neither_a_call_nor_an_input(self, shell: Any) -> None:
        with pytest.raises(UsageError, match="neither calls Cnn nor ends in an input"):
            shell.cell("y = 1")


class TestOnce:
    def test_the_cell_runs_once(self, shell: Any) -> None:
        shell.run("seen = []")
        side = shell.cell("seen.append(1)\ncnn(x)\nvalue = 'its own'\nvalue", "exported_cnn once=yes")
        assert shell.user_ns["seen"] == [1] and side
        assert isinstance(side.expected, RunResult) and isinstance(side.actual, RunResult)
        assert (side.expected.backend, side.actual.backend) == ("pytorch", "onnxruntime")
        assert np.allclose(side.expected["output"], side.actual["output"], atol=1e-5)

    def test_answers_come_from_the_tensors(self, shell: Any) -> None:
        side = shell.cell("pipe('i loved it')\npipe('dull')", "exported_bert once=yes")
        assert side and len(side.comparison) == 2
        label = shell.user_ns["pipe"]("dull")[0]["label"]
        assert side.expected.decoded[0]["label"] == side.actual.decoded[0]["label"] == label
        assert "2 calls were replayed; the last one's answer is shown" in side.notes

    def test_what_the_graph_cannot_give(self, shell: Any) -> None:
        with pytest.raises(SwapError, match="output_attentions"):
            shell.cell(
                "model(**tokenizer('i', return_tensors='pt'), output_attentions=True);", "exported_bert once=yes"
            )


class TestACellThatEndsInAnInput:
    def test_it_is_given_to_both(self, shell: Any) -> None:
        side = shell.cell("['i loved every minute of it', 'a dull film']", "exported_bert")
        assert isinstance(side, SideBySide) and side
        assert (side.expected.backend, side.actual.backend) == ("pytorch", "onnxruntime")
        assert [row["label"] for row in side.expected.decoded] == [row["label"] for row in side.actual.decoded]
        assert side.comparison[0].agreement is not None and side.comparison[0].agreement.total == 2

    def test_arrays(self, shell: Any) -> None:
        side = shell.cell("x.numpy()")
        assert side and side.actual.decoded is None and side.expected["output"].shape == (2, 2)

    def test_the_model_is_left_as_it_was(self, shell: Any) -> None:
        cnn = shell.user_ns["cnn"]
        cnn.train()
        keys = list(cnn.__dict__)
        try:
            assert shell.cell("x")
            assert cnn.training and list(cnn.__dict__) == keys
        finally:
            cnn.eval()

    def test_top_k(self, shell: Any) -> None:
        side = shell.cell("'i loved it'", "exported_bert top_k=2")
        assert [len(row) for row in (side.expected.decoded[0], side.actual.decoded[0])] == [2, 2]

    def test_lines(self, shell: Any) -> None:
        side = shell.cell("i loved it\n\n  a dull film; really\n", "exported_bert lines=yes")
        assert side and side.actual.feed["input_ids"].shape[0] == 2

    def test_without_a_live_model_onnx_runtime_answers_alone(self, shell: Any, exported_bert: ExportedModel) -> None:
        result = shell.cell("'i loved it'", str(exported_bert.path))
        assert isinstance(result, RunResult) and "PyTorch's side is missing" in result.notes[-1]
        side = shell.cell("'i loved it'", f"{exported_bert.path} model=model")
        assert isinstance(side, SideBySide) and side

    def test_inputs_that_do_not_fit(self, shell: Any) -> None:
        with pytest.raises(FeedError):
            shell.cell("np.ones((2, 3))")


class TestExportCell:
    def test_calls_become_the_inputs(self, shell: Any, workdir: Path) -> None:
        shell.run(
            "%%onnx_export cnn as=made exporter=torchscript output=made\n"
            "first = cnn(torch.randn(2, 3, 8, 8))\ncnn(torch.randn(5, 3, 8, 8));"
        )
        made = shell.user_ns["made"]
        assert isinstance(made, ExportedModel) and made.validation.status == "verified"
        assert made.inputs[0].shape == ("batch_size", 3, 8, 8)  # the calls differed in that axis only
        assert shell.user_ns["first"].shape == (2, 2)

    def test_no_call(self, shell: Any, workdir: Path) -> None:
        with pytest.raises(InputsError, match="Cnn was not called in the cell"):
            shell.run("%%onnx_export cnn\nx.shape")
        assert list(workdir.iterdir()) == []

    def test_no_live_model(self, shell: Any, workdir: Path, exported_bert: ExportedModel) -> None:
        with pytest.raises(InputsError, match="the calls of a live model, and str is none"):
            shell.run(f"%%onnx_export {exported_bert.path}\nx.shape")

    def test_what_the_model_raises_is_told_with_its_inputs(self, shell: Any, workdir: Path) -> None:
        with pytest.raises(
            InputsError, match=r"Cnn itself raises on x \(1, 1, 4, 4\) float32: .*expected input"
        ) as caught:
            shell.run("%%onnx_export cnn\ncnn(torch.ones(1, 1, 4, 4))")
        assert isinstance(caught.value.__cause__, RuntimeError) and len(shell.error_text.splitlines()) == 2
        with pytest.raises(InputsError, match="do not fit Cnn.forward"):
            shell.run("%%onnx_export cnn\ncnn()")
        assert "forward" not in shell.user_ns["cnn"].__dict__

    def test_an_exception_of_the_cell_itself_passes(self, shell: Any, workdir: Path) -> None:
        """Also where the model raised before, and the cell took care of that."""
        cell = "try:\n    cnn(torch.ones(1, 1, 4, 4))\nexcept RuntimeError:\n    pass\n1 / 0"
        with pytest.raises(ZeroDivisionError):
            shell.run(f"%%onnx_export cnn\n{cell}")
        assert "ZeroDivisionError" in shell.error_text and "onnx_magic/" not in shell.error_text
        assert "forward" not in shell.user_ns["cnn"].__dict__
