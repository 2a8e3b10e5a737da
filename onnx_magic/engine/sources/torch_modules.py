"""Any `nn.Module`: taken out of its wrappers, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_magic.engine.sources.source import ModelSource, class_name
from onnx_magic.engine.tasks import resolve_task
from onnx_magic.errors import TaskMismatchError

if TYPE_CHECKING:
    import torch

WRAPPED_IN = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""Class of a wrapper that does what its module does → the attribute that holds the module."""


def unwrapped(model: Any) -> torch.nn.Module:
    """The module inside `torch.compile`, DataParallel, and our own adapter for sentence-transformers."""
    import torch

    from onnx_magic.engine.sources.sentence_transformers import encoded_model

    while True:
        attribute = WRAPPED_IN.get(type(model).__name__, "")
        inner = getattr(model, attribute, None) if attribute else encoded_model(model)
        if not isinstance(inner, torch.nn.Module):
            return model  # type: ignore[no-any-return]
        model = inner


def module_source(model: torch.nn.Module, task: str | None) -> ModelSource:
    """A plain module, or a `torch.jit.ScriptModule` (which only TorchScript export takes).

    Raises:
        TaskMismatchError: a task was given: plain modules have none.
        UnknownTaskError: the task is not one at all.
    """
    import torch

    is_script = isinstance(model, torch.jit.ScriptModule)
    architecture = str(getattr(model, "original_name", "")) if is_script else ""
    architecture = architecture or type(model).__name__
    if task is not None:
        row = resolve_task(task)
        raise TaskMismatchError(
            f"task {row.name!r} does not fit {architecture}: a plain module has no task",
            fix="%onnx_export model inputs=(x,)  # without task",
            stage="source",
        )
    return ModelSource(
        model=model,
        name=class_name(type(architecture or "model", (), {})),
        task=None,
        task_by="default",
        architecture=architecture,
        kind="torch",
    )
