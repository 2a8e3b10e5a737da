"""The quirk table: an architecture that needs a small change to be exported, a row each.

A row has the version range it is for, the reason and a link, and a test in `tests/engine/tasks/test_quirks.py` that
proves it is still needed: without it the export fails or is wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Quirk:
    """One architecture quirk.

    Args:
        name: How findings and plans call it.
        model_types: The configs' `model_type` it is for.
        versions: Transformers versions it was needed with, `(first, last)`.
        reason: What goes wrong without it, a sentence.
        link: Issue or source that tells more, and when it can go.
        applied: Context manager around tracing.
    """

    name: str
    model_types: frozenset[str]
    versions: tuple[str, str]
    reason: str
    link: str
    applied: Callable[[torch.nn.Module], AbstractContextManager[None]]


@contextlib.contextmanager
def _symbolic_int(model: torch.nn.Module) -> Iterator[None]:
    from onnx_magic.engine.adapters.tracing_patches import symbolic_int

    with symbolic_int(model):
        yield


@contextlib.contextmanager
def _open_difference(model: torch.nn.Module) -> Iterator[None]:
    from onnx_magic.engine.adapters.tracing_patches import open_difference

    with open_difference(model):
        yield


QUIRKS: tuple[Quirk, ...] = (
    Quirk(
        name="symbolic-int",
        model_types=frozenset({"mobilevit"}),
        versions=("5.20", "5.23"),
        reason="int(size) in the model's code fixes the image size while tracing",
        link="https://github.com/pytorch/pytorch/issues/138853",
        applied=_symbolic_int,
    ),
    Quirk(
        name="open-difference",
        model_types=frozenset({"mpt"}),
        versions=("5.20", "5.23"),
        reason="the position bias is cut with max(0, table - length), whose length tracing cannot tell",
        link="https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mpt/modeling_mpt.py",
        applied=_open_difference,
    ),
)


def quirks_for(model: torch.nn.Module) -> tuple[Quirk, ...]:
    """The rows that apply to a model, by its config's `model_type`."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return tuple(row for row in QUIRKS if model_type in row.model_types)


@contextlib.contextmanager
def quirks_applied(model: torch.nn.Module) -> Iterator[None]:
    """Apply every row that is for this model, for the block."""
    with contextlib.ExitStack() as stack:
        for row in quirks_for(model):
            stack.enter_context(row.applied(model))
        yield
