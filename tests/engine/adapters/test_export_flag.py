"""Forwards that ask whether they are exported: the graph does what they ask for, and the verdict says so."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onnx_magic
from onnx_magic.engine.adapters.export_flag import asked_as_exported

IMAGE = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 3


class Clipped(torch.nn.Module):
    """The example of the user's document 003."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if torch.onnx.is_in_onnx_export():
            x = torch.clip(x, 0, 1)
        return x


@pytest.mark.parametrize("exporter", ["auto", "torchscript"])
def test_the_graph_does_what_the_forward_does_while_it_is_exported(tmp_path: Path, exporter: Any) -> None:
    torch.manual_seed(0)
    model = Clipped().eval()
    exported = onnx_magic.export(model, inputs=IMAGE, output=tmp_path / "out", exporter=exporter)
    assert exported.validation, exported.validation.findings
    [found] = [finding for finding in exported.validation.findings if finding.code == "export-branch"]
    assert found.level == "warning" and found.line.endswith("test_export_flag.py:29"), found
    [outputs] = exported.run(IMAGE.numpy()).outputs.values()
    with torch.no_grad():
        eager = model(IMAGE).numpy()
    assert eager.min() < -0.1 and outputs.min() == 0
    np.testing.assert_allclose(outputs, eager.clip(0, 1), atol=1e-5)  # float32, sums of 27 products below 3
    assert not torch.onnx.is_in_onnx_export()


def test_a_library_is_told_the_truth_and_must_agree_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a branch for exports that nobody of the notebook wrote, and that is wrong, is caught."""
    from onnx_magic.engine.adapters import export_flag

    monkeypatch.setattr(export_flag, "_LIBRARIES", (str(Path(__file__).parent),))
    torch.manual_seed(0)
    exported = onnx_magic.export(Clipped().eval(), inputs=IMAGE, output=tmp_path / "out")
    assert exported.validation.status == "failed"
    assert not any(finding.code == "export-branch" for finding in exported.validation.findings)


def test_who_asks_and_what_is_put_back() -> None:
    before = torch.onnx.is_in_onnx_export
    with asked_as_exported() as asked:
        assert torch.onnx.is_in_onnx_export() and not before()
        assert asked == {(__file__, sys._getframe().f_lineno - 1)}
    with pytest.raises(RuntimeError), asked_as_exported(everyone=True):
        assert torch.onnx.is_in_onnx_export() and before()
        raise RuntimeError
    assert torch.onnx.is_in_onnx_export is before and not before()


def test_two_threads_do_not_put_back_each_others() -> None:
    before = torch.onnx.is_in_onnx_export
    entered, leave = (threading.Event(), threading.Event()), (threading.Event(), threading.Event())

    def stay(number: int) -> None:
        with asked_as_exported():
            entered[number].set()
            leave[number].wait(10)

    threads = [threading.Thread(target=stay, args=(number,)) for number in (0, 1)]
    threads[0].start()
    assert entered[0].wait(10)
    threads[1].start()
    assert not entered[1].wait(0.2), "the second waits: what it would put back is the first's"
    for thread, event in zip(threads, leave, strict=True):
        event.set()
        thread.join(10)
    assert entered[1].is_set() and torch.onnx.is_in_onnx_export is before
