"""`%onnx_quantize`, `%onnx_optimize`, `%onnx_benchmark` as they are typed: bad input, help, completion, the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import OnnxMagicError
from onnx_magic.frontends.cli import main
from onnx_magic.frontends.completing import complete_magic

BAD = {
    "%onnx_quantize exported mode=int9": "mode 'int9' is not known",
    "%onnx_quantize exported mode=int8-static": "needs data",
    "%onnx_quantize exported data=[]": "data is empty",
    "%onnx_quantize exported data=nothing": "nothing",
    "%onnx_quantize exported accuracy=0.9": "accuracy= is measured on your data",
    "%onnx_quantize exported accuracy=2 data=data": "accuracy=2",
    "%onnx_quantize exported data=wide": "sample 0 of data does not fit",
    "%onnx_quantize exported exclude=head": "called 'head'",
    "%onnx_quantize exported calibration=mean": "mean",
    "%onnx_quantize 3": "expected an exported model",
    "%onnx_quantize gone-onnx": "gone-onnx",
    "%onnx_optimize exported level=most": "most",
    "%onnx_optimize exported disable=Gulp": "Gulp",
    "%onnx_optimize exported mode=int8": "mode",
    "%onnx_benchmark exported batch=none": "none",
    "%onnx_benchmark exported length=8": "no dynamic axis sequence_length",
    "%onnx_benchmark exported variants=int3": "has no variant 'int3'",
    "%onnx_benchmark exported provider=cuda": "'cuda' is not in this ONNX Runtime",
    "%onnx_benchmark exported rounds=0": "rounds=0",
    "%onnx_benchmark exported rouds=3": "rouds",
}
"""What is typed → what the first of the two lines says."""


@pytest.fixture
def shell(net: Path, raising_shell: Any) -> Any:
    """A shell with `exported`, data that fits and data that does not."""
    raising_shell.run("%load_ext onnx_magic")
    random = np.random.default_rng(0)
    raising_shell.user_ns["data"] = random.standard_normal((32, 8)).astype(np.float32)
    raising_shell.user_ns["wide"] = random.standard_normal((32, 9)).astype(np.float32)
    raising_shell.run("exported = %onnx_load net-onnx")
    return raising_shell


def test_bad_input_gives_two_lines(shell: Any, workdir: Path) -> None:
    before = sorted(path.name for path in workdir.rglob("*"))
    for line, what in BAD.items():
        with pytest.raises(OnnxMagicError) as caught:
            shell.run(line)
        error = caught.value
        assert shell.error_text.splitlines() == [error.what, f"fix: {error.fix}"], line
        assert what in error.what and "\n" not in error.what and error.fix, (line, error.what)
    assert sorted(path.name for path in workdir.rglob("*")) == before, "nothing is written, nothing is lost"


def test_quantizing_twice_and_a_deleted_variant(shell: Any, net: Path) -> None:
    shell.run("small = %onnx_quantize exported")
    with pytest.raises(OnnxMagicError, match="int8 is quantised already"):
        shell.run("%onnx_quantize small mode=q4")
    shell.user_ns["small"].model_path.unlink()
    with pytest.raises(OnnxMagicError) as caught:
        shell.run("small.run(data)")
    assert "model_quantized.onnx" in caught.value.what
    assert shell.run("%onnx_quantize exported overwrite=yes").validation, "it can be made again"


@pytest.mark.parametrize(
    ("verb", "options", "says"),
    [
        ("quantize", {"mode=", "data=", "accuracy=", "calibration=", "exclude="}, "Make a smaller variant"),
        ("optimize", {"level=", "disable=", "provider="}, "fewer operators"),
        ("benchmark", {"batch=", "length=", "variants=", "rounds=", "threads=", "compiled="}, "Measure how fast"),
    ],
)
def test_help_and_completion(shell: Any, verb: str, options: set[str], says: str) -> None:
    found = complete_magic(f"%onnx_{verb} exported ", {"exported": shell.user_ns["exported"]})
    assert found is not None and options <= set(found.texts)
    told = shell.magics_manager.magics["line"][f"onnx_{verb}"].__doc__
    assert says in told and all(option in told for option in options)


def test_choices_are_completed() -> None:
    modes, levels = (complete_magic(line, {}) for line in ("%onnx_quantize e mode=", "%onnx_optimize e level="))
    assert modes is not None and {"int8-static", "q4f16"} <= set(modes.texts)
    assert levels is not None and {"basic", "extended", "all"} <= set(levels.texts)


def test_the_answers_on_the_data_stand_below_the_verdict(shell: Any) -> None:
    shell.shown.clear()
    shell.run("%onnx_quantize exported mode=int8-static data=data accuracy=0.99")
    lines = [bundle["text/plain"] for bundle in shell.shown][-1].splitlines()
    (answers,) = (n for n, line in enumerate(lines) if "answers: on 32 of your samples, cosine" in line)
    (reference,) = (n for n, line in enumerate(lines) if "held against the float graph" in line)
    assert lines[0].startswith("✓ verified") and answers <= 3 and answers < reference, lines


def test_the_commands_end_to_end(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("data.npy", np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32))
    assert main(["quantize", "net-onnx", "int8"]) == 0
    assert capsys.readouterr().out.startswith("✓ verified: int8 stays near the float graph")
    assert main(["optimize", "net-onnx", "--level", "all"]) == 0
    assert "optimized agrees with the float graph" in capsys.readouterr().out
    assert main(["benchmark", "net-onnx", "--batch", "1,2", "--rounds", "1", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("ONNX Runtime", "int8", "optimized", "batch 2", "CPUExecutionProvider"))
    assert main(["benchmark", "net-onnx", "--variants", "int3"]) == 1
    error = capsys.readouterr().err.splitlines()
    assert "has no variant 'int3'" in error[0] and error[1].startswith("fix: onnx-magic benchmark net-onnx --variants")
    assert main(["optimize", "net-onnx", "--level", "most"]) == 1
    assert main(["quantize", "net-onnx", "int8-static"]) == 1
