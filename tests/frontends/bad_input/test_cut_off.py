"""Exports and benchmarks that are cut off: a real kernel is interrupted, a process killed; nothing is lost."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onnx_magic
from onnx_magic.engine.disk import MARK
from onnx_magic.engine.exporting import STAGES
from onnx_magic.events import Event, StageStarted
from onnx_magic.frontends.progress import Watch
from tests.frontends.bad_input.helpers import SHELL, in_a_process, kernel_in, modes, snapshot

BENCHMARK_SETUP = """
import os, tempfile
os.mkdir("temporary")
tempfile.tempdir = os.path.abspath("temporary")
from onnx_magic import events
from onnx_magic.engine.variants import benchmarking

benchmarking.SLICE = 0.01
emit = benchmarking.emit

def telling(event):
    emit(event)
    if isinstance(event, events.Progress) and event.stage == "measure" and event.done >= 12:
        open("measuring", "w").close()

benchmarking.emit = telling

def workers():
    return [pid for pid in os.listdir("/proc") if pid.isdecimal() and parent(pid) == os.getpid()]

def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
"""


class TestCutOff:
    @pytest.mark.parametrize("name", STAGES)
    def test_interrupted_from_inside(
        self, name: str, shell: Any, workdir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shell.run("%onnx_export net inputs=(x, scale) output=out exporter=torchscript")
        before, net = snapshot(workdir), shell.user_ns["net"]
        with torch.no_grad():
            net.layer.weight += 1
        training = modes(net)
        hear = Watch.hear

        def interrupted(self: Watch, event: Event) -> None:
            hear(self, event)
            if isinstance(event, StageStarted) and event.name == name:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Watch, "hear", interrupted)
            shell.run("%onnx_export net inputs=(x, scale) output=out")
        assert shell.error_text.splitlines() == [
            f"interrupted during {name}; nothing was written",
            "fix: run the cell again",
        ]
        assert snapshot(workdir) == before and modes(net) == training
        assert onnx_magic.load("out").validation
        if name == STAGES[-1]:
            assert shell.run("%onnx_export net inputs=(x, scale) output=out").validation
            assert snapshot(workdir).keys() == before.keys() and snapshot(workdir) != before

    def test_a_kernel_is_interrupted(self, workdir: Path) -> None:
        """A real SIGINT while the model is traced: the kernel lives, the folder stands, the next export works."""
        here = workdir / "notebook"
        here.mkdir()
        with kernel_in(here) as run:
            assert run(KERNEL_SETUP) == []
            assert run("exported = %onnx_export net inputs=x output=out") == []
            before = snapshot(here)
            (workdir / "wait").touch()
            drawn: list[str] = []
            [error] = run("%onnx_export net inputs=x output=out", interrupt=workdir / "waiting", drawn=drawn)
            (workdir / "wait").unlink()
            assert error["ename"] == "KeyboardInterrupt"
            assert error["traceback"] == ["interrupted during capture; nothing was written", "fix: run the cell again"]
            assert drawn[-1] == "✓ source  ✓ plan  ■ capture stopped", "the bar does not run for ever"
            assert snapshot(here) == before
            assert run("assert exported.validation and net.training and exported.run(x.numpy()).outputs") == []
            assert run("net.layer.weight.data += 1") == []
            assert run("again = %onnx_export net inputs=x output=out\nassert again.validation") == []
            assert snapshot(here).keys() == before.keys() and snapshot(here) != before

    @pytest.mark.skipif(not Path("/proc").exists(), reason="the workers are looked for in /proc")
    def test_a_benchmark_is_interrupted(self, workdir: Path) -> None:
        """A real SIGINT in mid-benchmark: what was measured is kept and shown, no process and no file is left."""
        here = workdir / "notebook"
        here.mkdir()
        with kernel_in(here) as run:
            assert run(KERNEL_SETUP) == []
            assert run("exported = %onnx_export net inputs=x output=out") == []
            assert run(BENCHMARK_SETUP) == []
            drawn: list[str] = []
            measure = "bench = %onnx_benchmark exported batch=1,2 rounds=1000 threads=1"
            assert run(measure, interrupt=here / "measuring", drawn=drawn) == []
            assert run("assert not bench.complete and bench.timings") == []
            assert any("interrupted" in text and "stands below" in text for text in drawn), drawn
            assert run("assert not workers(), workers()\nassert not os.listdir(tempfile.tempdir)") == []
            assert run("assert exported.benchmark(batch=1, rounds=1, threads=1).complete and not workers()") == []

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
    def test_killed_half_way(self, shell: Any, workdir: Path) -> None:
        shell.run("%onnx_export net inputs=(x, scale) output=out")
        before = snapshot(workdir)
        done = in_a_process(KILLED)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
        left = [path for path in workdir.iterdir() if MARK in path.name]
        assert len(left) == 1 and list(left[0].rglob("*.onnx")), "it was killed with a file half written"
        shutil.copytree("out", "copy")
        assert snapshot(Path("copy")) == {n.partition("/")[2]: h for n, h in before.items() if n.startswith("out/")}
        assert onnx_magic.load("out").validation
        feed = {"x": np.ones((3, 4), "float32"), "scale": np.ones(1, "float32")}
        assert onnx_magic.load("out").run(feed).outputs
        shutil.rmtree("copy")
        assert shell.run("%onnx_export net inputs=(x, scale) output=out").validation
        assert snapshot(workdir).keys() == before.keys(), "the next export takes away what the killed one left"


KILLED = f"""{SHELL}
from onnx_magic.events import StageStarted, listening

def kill(event):
    if isinstance(event, StageStarted) and event.name == "verify":
        os.kill(os.getpid(), signal.SIGKILL)

with listening(kill):
    shell.run_cell("%onnx_export net inputs=x output=out")
"""

KERNEL_SETUP = """
import pathlib, time
import torch
%load_ext onnx_magic

class Waiting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x):
        while torch.compiler.is_exporting() and pathlib.Path("../wait").exists():
            pathlib.Path("../waiting").touch()
            time.sleep(0.01)
        return self.layer(x)

torch.manual_seed(0)
net, x = Waiting(), torch.randn(2, 4)
"""
