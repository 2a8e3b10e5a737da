"""`tasks`: what can be exported, by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_magic.records.plan import TaskInfo


def tasks() -> tuple[TaskInfo, ...]:
    """The tasks that can be exported: name, aliases, the model classes that fit, what the answer looks like.

    Example:
        >>> [info.name for info in tasks()][:2]
        ['feature-extraction', 'text-classification']
    """
    from onnx_magic.engine.tasks import task_infos

    return task_infos()
