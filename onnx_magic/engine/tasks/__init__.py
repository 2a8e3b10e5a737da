"""The task tables: a row per task in text.py and vision.py, a row per architecture quirk in quirks.py."""

from __future__ import annotations

import difflib

from onnx_magic.engine.tasks.table import TaskRow
from onnx_magic.engine.tasks.text import TEXT_TASKS
from onnx_magic.engine.tasks.vision import VISION_TASKS
from onnx_magic.errors import UnknownTaskError
from onnx_magic.records.plan import TaskInfo

TASKS: dict[str, TaskRow] = {row.name: row for row in (*TEXT_TASKS, *VISION_TASKS)}
_ALIASES: dict[str, str] = {alias: row.name for row in TASKS.values() for alias in row.aliases}


def task_names() -> tuple[str, ...]:
    """Every name a task may be called by: canonical names first, then aliases."""
    return (*TASKS, *_ALIASES)


def task_infos() -> tuple[TaskInfo, ...]:
    """The tables as people read them."""
    return tuple(TaskInfo(r.name, r.aliases, r.auto_class, r.sample, r.answer) for r in TASKS.values())


def resolve_task(name: str) -> TaskRow:
    """The row of a task, by its name or alias.

    Raises:
        UnknownTaskError: no such task; the fix names the nearest.

    Example:
        >>> resolve_task("sentiment-analysis").name
        'text-classification'
    """
    key = name.strip().lower().replace("_", "-")
    key = _ALIASES.get(key, key)
    if key in TASKS:
        return TASKS[key]
    near = difflib.get_close_matches(key, task_names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownTaskError(
        f"task {name!r} is not known: {hint}expected one of {', '.join(TASKS)}",
        fix=f"task={near[0]}" if near else "%onnx_tasks  # what can be exported, by task",
    )


def tasks_of_class(class_name: str) -> tuple[str, ...]:
    """The tasks whose Transformers table holds the model class `class_name`, the head's own task first.

    Example:
        >>> tasks_of_class("BertForSequenceClassification")
        ('text-classification',)
    """
    from transformers.models.auto import modeling_auto

    def holds(row: TaskRow) -> bool:
        table = getattr(modeling_auto, row.mapping)
        names = (n for entry in table.values() for n in ((entry,) if isinstance(entry, str) else entry))
        return class_name in names

    return tuple(row.name for row in TASKS.values() if holds(row))
