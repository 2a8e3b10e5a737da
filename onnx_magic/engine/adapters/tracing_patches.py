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

    with _shadowed(model, "int", SymbolicInt):
        yield


@contextlib.contextmanager
def open_difference(model: torch.nn.Module) -> Iterator[None]:
    """Let `max(0, size)` in the model's modeling files be what it is at the traced size: the size itself, or 0.

    Code that takes the end of a table (`bias[:, max(0, table - length):]`) means that the table is long enough; where
    it is not, the model itself raises. A maximum keeps tracing from seeing that what is taken is as long as wanted.
    """
    import torch

    def largest(*values: Any, **named: Any) -> Any:
        if len(values) == 2 and values[0] == 0 and isinstance(values[1], torch.SymInt):
            return values[1] if values[1].node.hint > 0 else 0
        return max(*values, **named)

    with _shadowed(model, "max", largest):
        yield


@contextlib.contextmanager
def _shadowed(model: torch.nn.Module, name: str, value: Any) -> Iterator[None]:
    """Give a builtin another meaning in the modules that the model's classes come from, for the block."""
    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    spaces = [module.__dict__ for module in modules if not module.__name__.startswith("torch.")]
    missing = object()
    before = [space.get(name, missing) for space in spaces]
    for space in spaces:
        space[name] = value
    try:
        yield
    finally:
        for space, old in zip(spaces, before, strict=True):
            if old is missing:
                space.pop(name, None)
            else:
                space[name] = old
