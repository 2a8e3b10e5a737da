"""onnx_magic: a PyTorch or Transformers model in a notebook cell becomes a verified ONNX file.

Public names are loaded when they are first used; `import onnx_magic` and `%load_ext onnx_magic` load no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from onnx_magic.errors import OnnxMagicError
    from onnx_magic.exported import ExportedModel
    from onnx_magic.records.artifact import GraphFile, Stage
    from onnx_magic.records.findings import Finding
    from onnx_magic.records.plan import Decision, ExportPlan, TaskInfo, TensorSpec
    from onnx_magic.records.results import Agreement, Comparison, OutputDiff, RunResult, SideBySide, Validation
    from onnx_magic.records.views import GraphView
    from onnx_magic.verbs.compare import compare
    from onnx_magic.verbs.export import export
    from onnx_magic.verbs.generate import generate
    from onnx_magic.verbs.load import load
    from onnx_magic.verbs.plan import plan
    from onnx_magic.verbs.run import run
    from onnx_magic.verbs.tasks import tasks
    from onnx_magic.verbs.view import view

__version__ = "0.1.0"

_HOMES = {
    "Agreement": "records.results",
    "Comparison": "records.results",
    "Decision": "records.plan",
    "ExportPlan": "records.plan",
    "ExportedModel": "exported",
    "Finding": "records.findings",
    "GraphFile": "records.artifact",
    "GraphView": "records.views",
    "OnnxMagicError": "errors",
    "OutputDiff": "records.results",
    "RunResult": "records.results",
    "SideBySide": "records.results",
    "Stage": "records.artifact",
    "TaskInfo": "records.plan",
    "TensorSpec": "records.plan",
    "Validation": "records.results",
    "compare": "verbs.compare",
    "export": "verbs.export",
    "generate": "verbs.generate",
    "load": "verbs.load",
    "plan": "verbs.plan",
    "run": "verbs.run",
    "tasks": "verbs.tasks",
    "view": "verbs.view",
}

__all__ = [
    "Agreement",
    "Comparison",
    "Decision",
    "ExportPlan",
    "ExportedModel",
    "Finding",
    "GraphFile",
    "GraphView",
    "OnnxMagicError",
    "OutputDiff",
    "RunResult",
    "SideBySide",
    "Stage",
    "TaskInfo",
    "TensorSpec",
    "Validation",
    "__version__",
    "compare",
    "export",
    "generate",
    "load",
    "load_ipython_extension",
    "plan",
    "run",
    "tasks",
    "unload_ipython_extension",
    "view",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'onnx_magic' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"onnx_magic.{_HOMES[name]}"), name)
    if isinstance(value, type):
        value.__module__ = "onnx_magic"
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext onnx_magic`: register the magics and the formatters. Imports no torch."""
    from onnx_magic.frontends.magics import register

    register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext onnx_magic`: take away what loading registered."""
    from onnx_magic.frontends.magics import unregister

    unregister(shell)
