"""Live Transformers models and pipelines; and task, tokenizer, processor and labels of all Transformers sources."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_magic.engine.sources.files import PROCESSOR_FILES, TOKENIZER_FILES, read_json
from onnx_magic.engine.sources.hub import cached_folder
from onnx_magic.engine.sources.source import ModelSource, TaskBy, class_name, clean_name
from onnx_magic.engine.tasks import TASKS, resolve_task, tasks_of_class
from onnx_magic.errors import SourceError, TaskMismatchError, UnknownTaskError
from onnx_magic.events import LogLine, emit

LABELLED = ("label", "token-label")
BASE_TASK = "feature-extraction"


def live_source(model: Any, task: str | None) -> ModelSource:
    """A `PreTrainedModel` in a variable. Its tokenizer is looked for beside its checkpoint, never on the network.

    Raises:
        TaskMismatchError: its class does not do the task.
    """
    chosen, chosen_by = task_of_model(model, task)
    config = model.config
    folder = local_folder(config)
    beside = Path(folder) if folder else cached_folder(str(getattr(config, "_name_or_path", "") or ""))
    return ModelSource(
        model=model,
        name=name_of_origin(config) or class_name(type(model)),
        task=chosen,
        task_by=chosen_by,
        architecture=type(model).__name__,
        kind="transformers",
        config=config,
        tokenizer=load_tokenizer(beside) if beside else None,
        processor=load_processor(beside) if beside else None,
        origin=folder,
        labels=labels_of(config, chosen),
    )


def pipeline_source(pipeline: Any, task: str | None) -> ModelSource:
    """A Transformers pipeline: its model, its tokenizer or processor, its task.

    Raises:
        TaskMismatchError: the pipeline's model does not do the task.
    """
    source = live_source(pipeline.model, task if task is not None else _task_of_pipeline(pipeline))
    parts = (getattr(pipeline, name, None) for name in ("processor", "image_processor", "feature_extractor"))
    return dataclasses.replace(
        source,
        task_by=source.task_by if task is not None else "config",
        tokenizer=pipeline.tokenizer or source.tokenizer,
        processor=next((part for part in parts if part is not None), source.processor),
    )


def _task_of_pipeline(pipeline: Any) -> str | None:
    """The pipeline's task where it is one of ours and fits its model, else `None`: the model's class decides."""
    try:
        task = resolve_task(str(pipeline.task)).name
    except UnknownTaskError:
        return None
    return task if task in fitting_tasks(type(pipeline.model)) else None


def task_of_model(model: Any, task: str | None) -> tuple[str | None, TaskBy]:
    """The task of a live model, and who decided it.

    Raises:
        TaskMismatchError: the class of the model does not do the task; says which tasks it does.
    """
    fitting = fitting_tasks(type(model))
    if task is None:
        return (fitting[0], "config") if fitting else (None, "default")
    wanted = resolve_task(task).name
    if wanted in fitting:
        return wanted, "user"
    base = getattr(model, "base_model", model)
    if wanted == BASE_TASK and base is not model and BASE_TASK in fitting_tasks(type(base)):
        fix = f"%onnx_export model.base_model task={BASE_TASK}"
    else:
        fix = f"task={fitting[0]}" if fitting else "%onnx_export model  # without task="
    raise task_mismatch(wanted, type(model).__name__, fitting, fix)


def task_mismatch(wanted: str, what: str, fitting: Sequence[str], fix: str) -> TaskMismatchError:
    """The error for a task that does not fit; lists those that do."""
    known = f"it does {', '.join(fitting)}" if fitting else "it is in no task's table"
    return TaskMismatchError(f"task {wanted!r} does not fit {what}: {known}", fix=fix, stage="source")


def fitting_tasks(kind: type) -> tuple[str, ...]:
    """The tasks of a model class, or of the nearest class it inherits from that has any."""
    return next((tasks for parent in kind.__mro__ if (tasks := tasks_of_class(parent.__name__))), ())


def local_folder(config: Any) -> str | None:
    """The folder that a config came from, if it is there: as it was given to `from_pretrained`."""
    given = str(getattr(config, "_name_or_path", "") or "")
    return given if given and os.path.isdir(given) else None


def name_of_origin(config: Any) -> str:
    """The last part of the folder or Hub id that a config came from; empty when it came from nowhere."""
    return name_of(str(getattr(config, "_name_or_path", "") or ""))


def name_of(given: str) -> str:
    """The last part of a folder or Hub id, as a folder's name.

    Example:
        >>> name_of("org/name"), name_of("models/sentiment-mini/")
        ('name', 'sentiment-mini')
    """
    if not given:
        return ""
    path = Path(given).expanduser()
    return clean_name(path.resolve().name if path.is_dir() else path.name)


def labels_of(config: Any, task: str | None) -> Mapping[int, str]:
    """`id2label`, for the tasks that answer with labels."""
    if task is None or TASKS[task].meaning not in LABELLED:
        return {}
    table = getattr(config, "id2label", None) or {}
    return {int(index): str(label) for index, label in sorted(table.items(), key=lambda item: int(item[0]))}


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a folder; `None` when it holds no tokenizer files.

    Raises:
        SourceError: its files are there and cannot be read.
    """
    # Without this test AutoTokenizer would make an empty one from the config alone.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer

    path = folder / "tokenizer_config.json"
    remote = "auto_map" in read_json(path) if path.is_file() else False
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    except ImportError as error:
        raise SourceError(
            f"the tokenizer of {folder} needs a package that is not installed: {_first_line(error)}",
            fix="pip install sentencepiece tiktoken protobuf",
        ) from error
    except Exception as error:  # the tokenizers package raises Exception itself
        raise SourceError(
            f"the tokenizer of {folder} cannot be read: {_first_line(error)}",
            fix="trust_remote_code=yes" if remote and not trust_remote_code else "tokenizer.save_pretrained(folder)",
        ) from error


def load_processor(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The image processor, feature extractor or processor of a folder.

    `None` when it has none, or when the packages it needs (Pillow) are not there: the inputs then come from the config.
    """
    present = [name for name in PROCESSOR_FILES if (folder / name).is_file()]
    if not present:
        return None
    import transformers

    says = read_json(folder / present[0])
    kinds = {"image_processor_type": "AutoImageProcessor", "feature_extractor_type": "AutoFeatureExtractor"}
    kind = next((auto for key, auto in kinds.items() if key in says), "AutoProcessor")
    if "processor_class" in says or "processor_config.json" in present:
        kind = "AutoProcessor"
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        return getattr(transformers, kind).from_pretrained(str(folder), **options)
    except ImportError as error:
        emit(LogLine(f"{folder.name}: no processor, a package is missing: {_first_line(error)}"))
        return None
    except Exception as error:
        raise SourceError(
            f"{folder / present[0]} cannot be read: {_first_line(error)}", fix=f"rm {folder / present[0]}"
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
