"""Loading a checkpoint folder: config first, then the task, then the weights; never a head with random weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.engine.sources.files import CONFIG, check_checkpoint
from onnx_magic.engine.sources.source import ModelSource, TaskBy, class_name
from onnx_magic.engine.sources.transformers_models import (
    BASE_TASK,
    labels_of,
    load_processor,
    load_tokenizer,
    name_of,
    task_mismatch,
)
from onnx_magic.engine.tasks import TASKS, class_names, resolve_task, tasks_of_class
from onnx_magic.engine.tasks.table import Head, TaskRow
from onnx_magic.errors import OnnxMagicError, SourceError

NAMED = 3
"""How many weights an error names."""


def checkpoint_source(folder: Path, given: str, task: str | None, trust_remote_code: bool) -> ModelSource:
    """The ModelSource of a folder laid out as `save_pretrained` does it.

    Args:
        folder: Where the files are (for a Hub id: the snapshot in the cache).
        given: The folder or Hub id as the user gave it.
        task: The user's task, or `None`: the one of the class that the config names.
        trust_remote_code: Whether Python files of the checkpoint may be run.

    Raises:
        SourceError: config, weights or tokenizer are missing, corrupt, or do not match each other.
        TaskMismatchError: the checkpoint has no weights for the task's head, or its architecture has no such head.
    """
    row = resolve_task(task) if task is not None else None
    says = check_checkpoint(folder, given)
    import transformers  # noqa: F401  (its logger must have its handlers before `quiet` takes and restores them)

    with _loading():
        config = _load_config(folder, given, says, trust_remote_code)
        chosen, chosen_by = _choose_task(config, row, given, trust_remote_code)
        model = _load_model(folder, given, config, chosen, chosen_by, trust_remote_code)
        tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
        processor = load_processor(folder, trust_remote_code=trust_remote_code)
    model.config._name_or_path = given
    return ModelSource(
        model=model,
        name=name_of(given) or class_name(type(model)),
        task=chosen,
        task_by=chosen_by,
        architecture=type(model).__name__,
        kind="transformers",
        config=model.config,
        tokenizer=tokenizer,
        processor=processor,
        origin=given,
        labels=labels_of(model.config, chosen),
    )


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Quiet, with no progress bar (in a notebook it would be a widget) and torch's random state as it was."""
    import torch
    from transformers.utils import logging

    previous = logging.set_tqdm_hook(lambda make, args, options: make(*args, **{**options, "disable": True}))
    try:
        with quiet(Log()), torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.set_tqdm_hook(previous)


def _load_config(folder: Path, given: str, says: Mapping[str, Any], trust_remote_code: bool) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig, __version__

    model_type, remote = says.get("model_type"), says.get("auto_map") or {}
    if model_type not in CONFIG_MAPPING and "AutoConfig" in remote and not trust_remote_code:
        raise _needs_trust(given)
    if model_type is not None and model_type not in CONFIG_MAPPING and "AutoConfig" not in remote:
        raise SourceError(
            f"{given}/{CONFIG} says model_type {model_type!r}, which Transformers {__version__} does not know",
            fix="pip install --upgrade transformers",
        )
    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise _unreadable(f"{given}/{CONFIG}", error) from error


def _needs_trust(given: str) -> SourceError:
    return SourceError(
        f"{given} brings its own Python code, which is not run unless you trust it", fix="trust_remote_code=yes"
    )


def _choose_task(config: Any, row: TaskRow | None, given: str, trust_remote_code: bool) -> tuple[str | None, TaskBy]:
    fitting = _checkpoint_tasks(config, trust_remote_code)
    if row is not None:
        if _has_head(config, row, trust_remote_code):
            return row.name, "user"
        raise task_mismatch(row.name, given, fitting, f"task={fitting[0]}" if fitting else "leave task out")
    if _architecture(config) is None:
        return (BASE_TASK, "default") if BASE_TASK in fitting else (None, "default")
    own = [name for name in fitting if name != BASE_TASK]
    if own or _architecture(config) in class_names(TASKS[BASE_TASK].mapping):
        return (own or [BASE_TASK])[0], "config"
    return None, "default"


def _checkpoint_tasks(config: Any, trust_remote_code: bool) -> list[str]:
    """The tasks that a checkpoint has weights for: its own head's, and feature-extraction by its base model."""
    architecture = _architecture(config)
    tasks = list(tasks_of_class(architecture)) if architecture else []
    if trust_remote_code:
        remote = getattr(config, "auto_map", None) or {}
        known = (*tasks, BASE_TASK)
        tasks += [row.name for row in TASKS.values() if row.auto_class in remote and row.name not in known]
    base = TASKS[BASE_TASK]
    if BASE_TASK not in tasks and _has_head(config, base, trust_remote_code):
        tasks.append(BASE_TASK)
    return tasks


def _has_head(config: Any, row: TaskRow, trust_remote_code: bool) -> bool:
    remote = getattr(config, "auto_map", None) or {}
    here = any(config.model_type in _table(head) for head in row.heads)
    return here or (trust_remote_code and any(head.auto_class in remote for head in row.heads))


def _head_of(config: Any, row: TaskRow) -> Head:
    """The kind of model that a checkpoint is, among those that do a task: by its class, else by its model type."""
    by_class = (head for head in row.heads if _architecture(config) in class_names(head.mapping))
    by_type = (head for head in row.heads if config.model_type in _table(head))
    return next(by_class, None) or next(by_type, row.heads[0])


def _table(head: Head) -> Mapping[str, Any]:
    from transformers.models.auto import modeling_auto

    table: Mapping[str, Any] = getattr(modeling_auto, head.mapping)
    return table


def _architecture(config: Any) -> str | None:
    names = getattr(config, "architectures", None) or ()
    return str(names[0]) if names else None


def _model_class(config: Any, task: str | None, given: str, trust_remote_code: bool) -> Any:
    """The class to load with: the one the config names if it does the task, else the task's auto class."""
    import transformers

    architecture = _architecture(config)
    named = getattr(transformers, architecture, None) if architecture else None
    if task is None:
        if named is None:
            raise SourceError(
                f"{given}/{CONFIG} names the class {architecture}, which Transformers {transformers.__version__} lacks",
                fix="pip install --upgrade transformers",
            )
        return named
    head = _head_of(config, TASKS[task])
    remote = getattr(config, "auto_map", None) or {}
    if config.model_type not in _table(head) and head.auto_class in remote and not trust_remote_code:
        raise _needs_trust(given)
    fits = named is not None and architecture in class_names(head.mapping) and not (remote and trust_remote_code)
    return named if fits else getattr(transformers, head.auto_class)


def _load_model(
    folder: Path, given: str, config: Any, task: str | None, task_by: TaskBy, trust_remote_code: bool
) -> Any:
    kind = _model_class(config, task, given, trust_remote_code)
    options: dict[str, Any] = {"config": config, "local_files_only": True, "ignore_mismatched_sizes": True}
    if trust_remote_code:
        options["trust_remote_code"] = True
    model, info = _from_pretrained(kind, folder, given, options)
    if _only_pooler_missing(model, info["missing_keys"]):
        # A masked-LM checkpoint has no pooler: leave it out rather than make one of random numbers.
        model, info = _from_pretrained(kind, folder, given, {**options, "add_pooling_layer": False})
    _check_keys(model, info, given, config, task, task_by, trust_remote_code)
    return model.eval()


def _from_pretrained(kind: Any, folder: Path, given: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    try:
        model, info = kind.from_pretrained(str(folder), output_loading_info=True, **options)
    except OnnxMagicError:
        raise
    except Exception as error:
        raise _unreadable(given, error) from error
    return model, info


def _only_pooler_missing(model: Any, missing: Any) -> bool:
    takes = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    return takes and bool(missing) and all(name.startswith("pooler.") for name in missing)


def _check_keys(
    model: Any,
    info: Mapping[str, Any],
    given: str,
    config: Any,
    task: str | None,
    task_by: TaskBy,
    trust_remote_code: bool,
) -> None:
    """Refuse a model that has weights which the checkpoint does not hold, or holds in another shape."""
    missing = sorted(info["missing_keys"])
    if task_by == "user" and task is not None and type(model).__name__ != _architecture(config):
        _check_head(model, missing, given, task, _checkpoint_tasks(config, trust_remote_code))
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        name, found, expected = mismatched[0]
        more = f" (and {len(mismatched) - 1} more)" if len(mismatched) > 1 else ""
        shapes = f"{name} is {list(found)}, expected {list(expected)}{more}"
        raise SourceError(
            f"the weights of {given} do not match its {CONFIG}: {shapes}",
            fix=f"edit {given}/{CONFIG}  # or save model and config again with model.save_pretrained",
        )
    if not missing and not info["error_msgs"]:
        return
    said = _some(missing) if missing else str(info["error_msgs"][0])
    raise SourceError(
        f"{given} lacks weights of {type(model).__name__}: {said}",
        fix=f"model.save_pretrained({given!r})  # the folder must hold all weights that its {CONFIG} asks for",
    )


def _check_head(model: Any, missing: list[str], given: str, task: str, tasks: list[str]) -> None:
    """Refuse a head that the checkpoint has no weights for.

    Weights of another head count as none, though names and shapes agree: a sentence's classifier is no token's.
    """
    inner = f"{model.base_model_prefix}."
    head = [name for name in missing if not name.startswith(inner)]
    others = [name for name in tasks if name != task]
    is_of_another = task not in tasks and any(name != BASE_TASK for name in others)
    if not head and not is_of_another:
        return
    why = f"which has no weights for that head ({_some(head)})" if head else "whose head is that of another task"
    fix = f"task={others[0]}" if others else "leave task out"
    raise task_mismatch(task, f"{given}, {why}", others, fix)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _unreadable(what: str, error: BaseException) -> SourceError:
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return SourceError(f"{what} cannot be loaded: {line}", fix="model.save_pretrained(folder)  # save it again")
