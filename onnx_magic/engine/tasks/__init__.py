"""The task tables: a row per task in text.py, vision.py and audio.py, a row per architecture quirk in quirks.py."""

from __future__ import annotations

import difflib
import re

from onnx_magic.engine.tasks.audio import AUDIO_TASKS
from onnx_magic.engine.tasks.table import Graphs, TaskRow
from onnx_magic.engine.tasks.text import TEXT_TASKS
from onnx_magic.engine.tasks.vision import VISION_TASKS
from onnx_magic.errors import UnknownTaskError
from onnx_magic.records.plan import TaskInfo

TASKS: dict[str, TaskRow] = {row.name: row for row in (*TEXT_TASKS, *VISION_TASKS, *AUDIO_TASKS)}
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
    key = "translation" if language_pair(name) is not None else _ALIASES.get(key, key)
    if key in TASKS:
        return TASKS[key]
    near = difflib.get_close_matches(key, task_names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownTaskError(
        f"task {name!r} is not known: {hint}expected one of {', '.join(TASKS)}",
        fix=f"task={near[0]}" if near else "%onnx_tasks  # what can be exported, by task",
    )


def language_pair(name: str) -> tuple[str, str] | None:
    """The languages that a task's name holds, as they are written there.

    Example:
        >>> language_pair("translation_en_to_fr"), language_pair("translation_eng_Latn_to_fra_Latn")
        (('en', 'fr'), ('eng_Latn', 'fra_Latn'))
    """
    found = _PAIR.fullmatch(name.strip())
    return (found[1], found[2]) if found else None


_PAIR = re.compile(r"translation[-_](\w+?)[-_]to[-_](\w+)", re.IGNORECASE)


def tasks_of_class(class_name: str) -> tuple[str, ...]:
    """The tasks whose Transformers table holds the model class `class_name`, the head's own task first.

    Example:
        >>> tasks_of_class("BertForSequenceClassification")
        ('text-classification',)
    """
    rows = [row for row in TASKS.values() if any(class_name in class_names(head.mapping) for head in row.heads)]
    # What reads a text and writes one (BART) fills masks too, but that is not what it is exported for.
    writes = [row for row in rows if row.graphs == "encoder-decoder" and row.modality == "text"]
    return tuple(row.name for row in (*writes, *(row for row in rows if row not in writes)))


def class_names(mapping: str) -> frozenset[str]:
    """The model classes in one of Transformers' tables."""
    from transformers.models.auto import modeling_auto

    entries = getattr(modeling_auto, mapping).values()
    return frozenset(name for entry in entries for name in ((entry,) if isinstance(entry, str) else entry))


def graphs_of(task: str | None, kind: type) -> Graphs:
    """How a model class is exported for a task: as the first head's class that it is, or inherits from."""
    row = TASKS.get(task or "")
    if row is None:
        return "one"
    names = {parent.__name__ for parent in kind.__mro__}
    return next((head.graphs for head in row.heads if names & class_names(head.mapping)), row.graphs)
