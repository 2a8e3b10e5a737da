"""What was given, and who reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from onnx_magic.engine.sources.source import ModelSource, is_instance_of
from onnx_magic.errors import SourceError, UsageError
from onnx_magic.records.artifact import MANIFEST_NAME


def resolve_source(model: Any, task: str | None = None, *, trust_remote_code: bool = False) -> ModelSource:
    """The ModelSource of a module, model, pipeline, SentenceTransformer, checkpoint folder or Hub id.

    A live model is not changed, not even its train mode; a checkpoint is loaded in eval mode, in its own dtype, and
    nothing of that is shown. The task is the user's if it fits, else the one of the model's class.

    Raises:
        SourceError: the model cannot be had (no such folder, broken weights, not a model at all).
        UsageError: an ONNX export was given, with nothing to compare it with.
        TaskMismatchError: a task that this model cannot do.
        UnknownTaskError: a misspelt task.

    Example:
        >>> resolve_source("notebooks/models/sentiment-mini").task  # doctest: +SKIP
        'text-classification'
    """
    if isinstance(model, str | os.PathLike):
        return _path_source(os.fspath(model), task, trust_remote_code)
    _refuse_others(model)

    from onnx_magic.engine.sources.sentence_transformers import is_sentence_transformer, sentence_source
    from onnx_magic.engine.sources.torch_modules import module_source, unwrapped

    if is_instance_of(model, "transformers", "Pipeline"):
        from onnx_magic.engine.sources.transformers_models import pipeline_source

        return pipeline_source(model, task)
    module = unwrapped(model)
    if is_sentence_transformer(module):
        return sentence_source(module, task)
    if is_instance_of(module, "transformers", "PreTrainedModel"):
        from onnx_magic.engine.sources.transformers_models import live_source

        return live_source(module, task)
    return module_source(module, task)


def _path_source(text: str | bytes, task: str | None, trust_remote_code: bool) -> ModelSource:
    from onnx_magic.engine.sources.checkpoints import checkpoint_source
    from onnx_magic.engine.sources.files import is_path_like, no_such_source
    from onnx_magic.engine.sources.hub import hub_folder

    given = os.fsdecode(text)
    path = Path(given).expanduser()
    if path.suffix == ".onnx" or (path / MANIFEST_NAME).is_file():
        if path.exists():
            kind = "an export of onnx_magic" if path.is_dir() else "an ONNX file"
            raise _already_onnx(f"{given} is {kind} already", str(given))
        raise no_such_source(given)
    if path.is_dir():
        return checkpoint_source(path, given, task, trust_remote_code)
    if path.exists():
        raise SourceError(
            f"{given} is a file: expected a checkpoint folder that holds config.json",
            fix=f"%onnx_export {os.path.dirname(given) or '.'}",
        )
    if is_path_like(given):
        raise no_such_source(given)
    return checkpoint_source(hub_folder(given), given, task, trust_remote_code)


def _already_onnx(what: str, path: str) -> UsageError:
    return UsageError(f"{what}, there is nothing to compare it with", fix=f"%onnx_load {path}", stage="source")


def _refuse_others(model: Any) -> None:
    """Refuse what is no model.

    Raises:
        UsageError: an ExportedModel.
        SourceError: a class, `None`, or anything else that is no module and no pipeline.
    """
    if is_instance_of(model, "onnx_magic", "ExportedModel"):
        raise _already_onnx(f"{model.name} is an export already", str(model.path))
    if isinstance(model, type):
        raise SourceError(
            f"{model.__name__} is a class: expected an instance of it", fix=f"model = {model.__name__}(...)"
        )
    if is_instance_of(model, "torch", "Module") or is_instance_of(model, "transformers", "Pipeline"):
        return
    raise SourceError(
        f"expected a model, a pipeline, a checkpoint folder or a Hub id, not {_described(model)}",
        fix="model = AutoModel.from_pretrained(...)  # any nn.Module; or the path of a checkpoint folder",
    )


def _described(value: Any) -> str:
    if value is None:
        return "None"
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
