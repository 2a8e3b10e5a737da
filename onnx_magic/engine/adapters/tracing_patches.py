"""Reversible changes to a model's own modules while it is traced."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def symbolic_int(model: torch.nn.Module) -> Iterator[None]:
    """Let `int(size)` in the model's modeling files keep a symbolic size symbolic.

    `int(SymInt)` fixes the size (https://github.com/pytorch/pytorch/issues/138853); the shadow returns it as it is, and
    answers `isinstance(x, int)` as `int` does.
    """
    import torch

    class _IntType(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, int)

    class SymbolicInt(metaclass=_IntType):
        def __new__(cls, value: Any = 0, *rest: Any) -> Any:
            if isinstance(value, torch.SymInt):
                return value
            if isinstance(value, torch.SymFloat):
                return torch.sym_int(value)
            return int(value, *rest)

    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    spaces = [module.__dict__ for module in modules if not module.__name__.startswith("torch.")]
    missing = object()
    before = [space.get("int", missing) for space in spaces]
    for space in spaces:
        space["int"] = SymbolicInt
    try:
        yield
    finally:
        for space, value in zip(spaces, before, strict=True):
            if value is missing:
                space.pop("int", None)
            else:
                space["int"] = value
