"""Bad input: two lines in the notebook, nothing lost. Real models, a real shell; fixes are run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import onnx_magic
from onnx_magic.errors import (
    ExportError,
    FeedError,
    GraphFileError,
    InputsError,
    OpsetError,
    SourceError,
    StorageError,
    TaskMismatchError,
    UnknownOptionError,
    UnknownTaskError,
    UsageError,
)
from onnx_magic.records.plan import ExportPlan
from tests.frontends.bad_input.helpers import SHELL, Refused, in_a_process


class TestNames:
    def test_an_unknown_variable(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export nett inputs=(x, scale)", UsageError)
        assert error.what == (
            "there is no variable, folder or Hub id called 'nett': did you mean 'net'? "
            "(variables that hold a model: model, net)"
        )
        assert error.fix == "%onnx_export net inputs=(x, scale)"
        assert shell.run(error.fix).validation

    def test_an_unknown_variable_in_an_expression(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export net inputs=(x, scael)", UsageError)
        assert "name 'scael' is not defined: did you mean 'scale'?" in error.what
        assert error.fix == "%onnx_export net inputs=(x, scale)"

    def test_what_nothing_is_nearly_called(self, refused: Refused, shell: Any) -> None:
        """Neither the variable `model` is meant nor IPython's own `open`."""
        for name in ("model.onnx", "nope.onnx"):
            error = refused(f"%onnx_load {name}", UsageError)
            assert error.what == f"there is no variable, folder or .onnx file called {name!r}"
            assert error.fix == "exported = %onnx_export model"
        assert shell.run(f"{error.fix} validate=no\nexported").graphs

    @pytest.mark.parametrize("name", ["no-such-model", '"gpt0"', "some-org/some-model"])
    def test_neither_variable_nor_folder_nor_hub_id(
        self, name: str, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from huggingface_hub import constants

        assert constants.HF_HUB_OFFLINE
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path.parent / "no-cache"))
        error = refused(f"%onnx_export {name}", SourceError)
        bare = name.strip('"')
        assert error.what == f"{bare!r} is neither a folder nor in the Hub's cache, and the Hub cannot be reached"
        assert error.fix == f"!hf download {bare}  # where there is a network"

    def test_a_folder_that_is_nearly_called_so(
        self, refused: Refused, shell: Any, workdir: Path, sample_checkpoint: Path
    ) -> None:
        (workdir / "sentiment-mini").symlink_to(sample_checkpoint)
        for name in ("sentimnt-mini", '"./sentimnt-mini"', '"sentimnt-mini"'):
            error = refused(f"%onnx_export {name}", SourceError)
            assert error.fix.removeprefix("%onnx_export ").removeprefix("./") == "sentiment-mini"
        assert shell.run(error.fix).validation


class TestOptions:
    def test_a_misspelt_option(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export net inputs=(x, scale) opsett=18", UnknownOptionError)
        assert error.what == "export has no option 'opsett': did you mean 'opset'?"
        assert error.fix == "%onnx_export net inputs=(x, scale) opset=18"
        assert shell.run(error.fix).graphs["model"].opset == 18

    @pytest.mark.parametrize("given", ["task=sentimnt-analysis", "sentimnt-analysis", "--task sentimnt-analysis"])
    def test_a_misspelt_task(self, given: str, refused: Refused, shell: Any) -> None:
        error = refused(f"%onnx_export model {given} validate=no", UnknownTaskError)
        assert error.what.startswith(
            "task 'sentimnt-analysis' is not known: did you mean 'sentiment-analysis'? expected one of feature-"
        )
        assert error.fix == f"%onnx_export model {given} validate=no".replace("sentimnt", "sentiment")
        assert plan_of(shell, error.fix).task == "text-classification"

    def test_a_task_like_no_other(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export model task=zzz", UnknownTaskError)
        assert "did you mean" not in error.what and error.fix.startswith("%onnx_tasks  #")
        assert shell.run(error.fix)

    def test_a_task_that_the_model_cannot_do(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export model task=ner", TaskMismatchError)
        assert error.what == (
            "task 'token-classification' does not fit BertForSequenceClassification: it does text-classification"
        )
        assert error.fix == "%onnx_export model task=text-classification"
        assert shell.run(error.fix).validation

    @pytest.mark.parametrize("task", ["ner", "question-answering", "image-classification"])
    def test_a_task_that_the_checkpoint_cannot_do(
        self, task: str, refused: Refused, shell: Any, checkpoint: Path
    ) -> None:
        """The tensors of a sentence's classifier would fit the one of tokens: still it is another head."""
        error = refused(f"%onnx_export tiny task={task}", TaskMismatchError)
        assert "does not fit tiny" in error.what and "it does text-classification, feature-extraction" in error.what
        assert error.fix == "%onnx_export tiny task=text-classification"
        assert plan_of(shell, error.fix).task == "text-classification"

    def test_a_plain_module_has_no_task(self, refused: Refused) -> None:
        error = refused("%onnx_export net task=ner", TaskMismatchError)
        assert "a plain module has no task" in error.what
        assert error.fix == "%onnx_export net inputs=(x,)  # without task"

    @pytest.mark.parametrize(
        ("asked", "said", "right"),
        [
            ("opset=8", "opset 8 is too old for any exporter here: expected 9 to 23", "opset=9"),
            ("--opset 99", "opset 99 is too new for any exporter here: expected 9 to 23", "--opset 23"),
            (
                "opset=12 exporter=dynamo",
                "opset 12 is too old for exporter=dynamo: expected 17 to 23",
                "opset=17 exporter=dynamo",
            ),
            (
                "exporter=torchscript opset=21",
                "opset 21 is too new for exporter=torchscript: expected 9 to 20",
                "exporter=torchscript opset=20",
            ),
        ],
    )
    def test_an_opset_that_no_exporter_reaches(
        self, asked: str, said: str, right: str, refused: Refused, shell: Any
    ) -> None:
        error = refused(f"%onnx_export net inputs=(x, scale) {asked}", OpsetError)
        assert error.what == said and error.fix == f"%onnx_export net inputs=(x, scale) {right}"
        exported = shell.run(error.fix)
        assert exported.validation and str(exported.graphs["model"].opset) in right


def plan_of(shell: Any, line: str) -> ExportPlan:
    """What an export line decides, without tracing: the verb `plan` takes the same words."""
    from onnx_magic.frontends.arguments import VERBS
    from onnx_magic.frontends.lines import split_line
    from onnx_magic.frontends.reading import NamespaceReader

    words = split_line(line.removeprefix("%onnx_export ").replace("validate=no", "")).words
    values = VERBS["plan"].arguments.parse(words, NamespaceReader(shell.user_ns), prefix="")
    return onnx_magic.plan(**values)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\0garbage" * 40)


def empty(path: Path) -> None:
    path.write_bytes(b"")


class TestFolders:
    def test_without_weights(self, refused: Refused, shell: Any, checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").unlink()
        error = refused("%onnx_export tiny", SourceError)
        assert error.what.startswith("tiny holds no weights: expected one of model.safetensors, ")
        assert error.fix == "model.save_pretrained('tiny')"
        shell.run(error.fix)
        assert plan_of(shell, "%onnx_export tiny").task == "text-classification"

    @pytest.mark.parametrize("broken", [cut_off, overwrite, empty])
    def test_corrupt_weights(
        self, broken: Callable[[Path], None], refused: Refused, shell: Any, checkpoint: Path
    ) -> None:
        file = checkpoint / "model.safetensors"
        broken(file)
        error = refused("%onnx_export tiny", SourceError)
        assert error.what == f"tiny/model.safetensors is truncated or corrupt ({file.stat().st_size:,} bytes)"
        assert error.fix == "!rm tiny/model.safetensors  # then fetch or save it again"
        shell.run(error.fix)
        assert not file.exists()
        shell.run("model.save_pretrained('tiny')")
        assert plan_of(shell, "%onnx_export tiny").task == "text-classification"

    def test_without_a_tokenizer(self, refused: Refused, shell: Any, bert: Any) -> None:
        """It is exported all the same; arrays run, and a text is told what goes."""
        bert.save_pretrained("bare")
        mine = shell.run("mine = %onnx_export bare\nmine")
        assert mine.validation
        for cell in ("%%onnx_run mine\n'i loved it'", "%%onnx_run mine\n['i loved it', 'it was bad']"):
            error = refused(cell, FeedError)
            assert error.what.startswith(
                "bare has no tokenizer to make arrays of text: it takes input_ids: int64[batch"
            )
            assert error.fix.startswith('mine.run({"input_ids": np.ones((2, 2), "int64"), ')
        assert shell.run(error.fix).outputs["logits"].shape == (2, 2)
        shell.run("%%onnx_run mine as=side\n{'input_ids': np.array([[2, 7, 8, 3]])}")
        assert shell.user_ns["side"] is not None

    @pytest.mark.parametrize("broken", [cut_off, overwrite, empty])
    def test_a_corrupt_onnx_file(self, broken: Callable[[Path], None], refused: Refused, shell: Any) -> None:
        Path("bad.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch" * 30)
        broken(Path("bad.onnx"))
        error = refused("%onnx_load bad.onnx", GraphFileError)
        size = Path("bad.onnx").stat().st_size
        assert error.what == f"bad.onnx ({size} bytes) is no ONNX model, or is cut off or corrupt"
        assert error.fix == "%onnx_export model output=bad.onnx overwrite=yes  # or fetch it again"
        if broken is cut_off:
            assert shell.run(error.fix).validation
            assert shell.run("%onnx_load bad.onnx").validation

    def test_a_corrupt_graph_in_an_exported_folder(self, refused: Refused, shell: Any) -> None:
        shell.run("%onnx_export net inputs=(x, scale) output=out")
        cut_off(Path("out/onnx/model.onnx"))
        for given in ("out", "out/onnx/model.onnx"):
            error = refused(f"%onnx_load {given}", GraphFileError)
            assert "out/onnx/model.onnx (" in error.what and "cut off or corrupt" in error.what
            assert error.fix == "%onnx_export model output=out overwrite=yes  # or fetch it again"
        assert shell.run(error.fix.replace("model", "net inputs=(x, scale)")).validation
        assert shell.run("%onnx_load out").validation

    def test_a_checkpoint_is_no_export(self, refused: Refused, checkpoint: Path) -> None:
        error = refused("%onnx_load tiny", GraphFileError)
        assert error.what == "tiny holds no .onnx file" and error.fix == "%onnx_export tiny"


class TestInputs:
    def test_a_plain_module_without_inputs(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export net opset=18", InputsError)
        assert error.what == "Scaled is a plain module and no inputs were given: its forward takes (x, scale)"
        line, _, comment = error.fix.partition("  # ")
        assert line == "%onnx_export net opset=18 inputs=(x, scale)"
        assert comment == "tensors on which model(x, scale) runs; or call it in a cell: %%onnx_export model"
        assert shell.run(error.fix).validation
        shell.run("%%onnx_export net as=exported\nnet(x, scale)")
        assert shell.user_ns["exported"].validation

    def test_inputs_that_do_not_fit_the_forward(self, refused: Refused) -> None:
        error = refused("%onnx_export net inputs=x", InputsError)
        assert error.what == (
            "the example inputs do not fit Scaled.forward(x, scale): missing a required argument: 'scale'"
        )
        assert error.fix == "%onnx_export net inputs=(x, scale)  # tensors on which model(x, scale) runs"

    @pytest.mark.parametrize(
        "cell",
        ["%onnx_export net inputs=(wide, scale)", "%%onnx_export net\nnet(wide, scale=scale)"],
        ids=["inputs", "cell"],
    )
    def test_the_model_itself_raises(self, cell: str, refused: Refused, shell: Any) -> None:
        shell.user_ns["wide"] = torch.ones(2, 5)
        error = refused(cell, InputsError)
        assert error.what == (
            "Scaled itself raises on x (2, 5) float32, scale (1,) float32: "
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x5 and 4x2)"
        )
        assert isinstance(error.__cause__, RuntimeError), "the whole traceback is not lost"
        if cell.startswith("%%"):
            assert error.fix.startswith("call the model with inputs that it takes")
        else:
            assert shell.run(error.fix).validation

    def test_a_transformers_model_itself_raises(self, refused: Refused, shell: Any) -> None:
        error = refused("%onnx_export model inputs=torch.full((2, 5), 9999)", InputsError)
        assert error.what == (
            "BertForSequenceClassification itself raises on input_ids (2, 5) int64: "
            "IndexError: index out of range in self"
        )
        assert error.fix == "%onnx_export model inputs=input_ids  # tensors on which model(input_ids) runs"

    def test_a_model_that_the_exporter_cannot_take(self, refused: Refused, shell: Any) -> None:
        """It branches on its data; the other way takes the branch that it saw."""

        class Branching(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * 2 if x.abs().sum() > 0 else x - 1

        shell.user_ns["branching"] = Branching()
        error = refused("%onnx_export branching inputs=x exporter=dynamo", ExportError)
        assert error.what.startswith("Branching could not be exported (dynamo: ")
        assert error.fix == "%onnx_export branching inputs=x exporter=auto  # tries the other way too"
        assert shell.run(error.fix).graphs


class TestOutputs:
    def test_a_folder_that_is_not_ours(self, refused: Refused, shell: Any) -> None:
        Path("mine").mkdir()
        Path("mine/thesis.tex").write_text("years of work")
        error = refused("%onnx_export net inputs=(x, scale) output=mine", StorageError)
        assert error.what == (
            "mine holds files that onnx_magic did not write: expected an empty folder or an earlier export"
        )
        assert error.fix.startswith("%onnx_export net inputs=(x, scale) output=mine overwrite=yes  # ")
        assert shell.run(error.fix).validation
        assert Path("mine/thesis.tex").read_text() == "years of work"

    @pytest.mark.parametrize(
        ("output", "said", "fix"),
        [
            ("file", "file is a file: expected a folder", "output=file-onnx"),
            ("file/deep/out", "file/deep/out cannot be written: a part of the path is a file", "output=~/out"),
            ("/proc/1/out", "/proc/1/out cannot be written: no folder can be made there", "output=~/out"),
            (f"{'long' * 80}", "cannot be written: the path is too long", "output=model-onnx"),
        ],
        ids=["file", "below", "proc", "long"],
    )
    def test_a_place_that_cannot_be_written(
        self, output: str, said: str, fix: str, refused: Refused, shell: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Root may write everywhere; these places refuse root too."""
        Path("file").write_text("mine")
        Path("home").mkdir()
        monkeypatch.setenv("HOME", str(Path("home").resolve()))
        error = refused(f"%onnx_export net inputs=(x, scale) output={output}", StorageError)
        assert said in error.what and error.fix == f"%onnx_export net inputs=(x, scale) {fix}"
        assert shell.run(error.fix).validation
        assert Path("file").read_text() == "mine"

    def test_a_disk_that_is_full_or_read_only(self, workdir: Path) -> None:
        """File systems of their own, in a mount namespace of a subprocess: nothing of it is seen outside."""
        enter = ["unshare", "--map-root-user", "--mount"]
        try:
            possible = subprocess.run([*enter, "true"], capture_output=True, timeout=60).returncode == 0
        except FileNotFoundError:
            possible = False
        if not possible:
            pytest.skip("this system gives no mount namespace")
        done = in_a_process(ON_SMALL_DISKS, enter)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines() == [
            "StorageError",
            "the disk of disk/out has N MB, the export needs about 0.48 MB",
            "fix: !df -h disk  # make room, or output=<a folder on another disk>",
            "StorageError",
            "disk/out cannot be written: the disk is full",
            "fix: !df -h disk",
            "StorageError",
            "locked/out cannot be written: the file system is read-only",
            "fix: %onnx_export net inputs=x output=~/out",
            "done",
        ]


ON_SMALL_DISKS = f"""{SHELL}
def read():
    return {{path: path.read_bytes() for path in Path("disk").rglob("*") if path.is_file() and path.name != "big"}}

for name, options in (("disk", "size=300k"), ("locked", "ro")):
    Path(name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", name], check=True)
assert shell.run_cell("%onnx_export net inputs=x output=disk/out;").success
before = read()
assert len(before) == 2
shell.user_ns["wide"] = torch.nn.Linear(400, 250)
shell.run_cell("%onnx_export wide inputs=torch.randn(2, 400) output=disk/out")
assert read() == before and os.listdir("disk") == ["out"]
with open("disk/big", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(512))
    except OSError:
        file.truncate(file.tell() - 4096)
shell.run_cell("%onnx_export net inputs=x output=disk/out")
os.remove("disk/big")
assert read() == before and os.listdir("disk") == ["out"]
assert onnx_magic.load("disk/out").validation
shell.run_cell("%onnx_export net inputs=x output=locked/out")
print("done")
"""
