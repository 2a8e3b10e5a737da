"""What bad input is tested with: a plain module, what a folder holds, a shell in a process, a real kernel."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnx_magic.errors import (
    OnnxMagicError,
)

ROOT = Path(__file__).parents[3]

Refused = Callable[..., OnnxMagicError]


class Scaled(nn.Module):
    """A plain module of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.rest = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.rest(self.layer(x)) * scale


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below `folder`, hidden ones too, with a hash of what it holds."""

    def content(path: Path) -> str:
        return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()

    return {path.relative_to(folder).as_posix(): content(path) for path in sorted(folder.rglob("*"))}


def drawn(shell: Any) -> dict[Any, str]:
    """The text of each output as a notebook holds it in the end."""
    outputs = enumerate(shell.display_pub.outputs)
    return {(o.get("transient") or {}).get("display_id", n): o["data"]["text/plain"] for n, o in outputs}


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def in_a_process(code: str, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*(before or []), sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


SHELL = """
import os, re, signal, subprocess
from pathlib import Path
import torch
from IPython.core.interactiveshell import InteractiveShell
import onnx_magic

class Shell(InteractiveShell):
    def _showtraceback(self, kind, error, lines):
        print(kind.__name__)
        print(*(re.sub("has [0-9.]+ MB", "has N MB", line) for line in lines), sep="\\n")

shell = Shell.instance()
shell.run_line_magic("load_ext", "onnx_magic")
torch.manual_seed(0)
shell.user_ns["net"] = torch.nn.Linear(4, 2)
shell.user_ns.update(torch=torch, x=torch.randn(2, 4))
"""


@contextlib.contextmanager
def kernel_in(folder: Path) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """A real kernel: `run(code)` gives the errors of a cell; SIGINT is sent once the file `interrupt` is there."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60, cwd=str(folder))

    def run(code: str, interrupt: Path | None = None, drawn: list[str] | None = None) -> list[dict[str, Any]]:
        request = client.execute(code)
        if interrupt is not None:
            until = time.monotonic() + 60
            while not interrupt.exists():
                assert time.monotonic() < until, "the cell never came so far"
                time.sleep(0.01)
            manager.interrupt_kernel()
        errors = []
        while True:
            message = client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "error":
                errors.append(message["content"])
            if "display_data" in message["msg_type"] and drawn is not None:
                drawn.append(message["content"]["data"]["text/plain"])
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return errors

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
