"""Which models a block calls, with what, and whether it trains them; seen from outside, the modules are left alone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.adapters.module_hooks import module_hooks
from onnx_magic.engine.sources.torch_modules import unwrapped
from onnx_magic.engine.state import heeds_training
from onnx_magic.engine.structures import Structure, detached, structure_of
from onnx_magic.errors import UsageError

if TYPE_CHECKING:
    import torch

KEPT_CALLS = 32
"""Calls of a watched block that are kept whole; later ones are counted."""


def architecture_of(module: Any) -> str:
    """The class name that an export of `module` carries, whatever `torch.compile` or scripting wrapped around it."""
    import torch

    inner = unwrapped(module)
    return str(inner.original_name) if isinstance(inner, torch.jit.ScriptModule) else type(inner).__name__


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of a watched module.

    Args:
        module: The module, out of its `torch.compile` wrapper.
        args: Positional arguments, tensors detached.
        kwargs: Keyword arguments, tensors detached.
        outputs: Tensors of what it returned, by name, detached.
        structure: How these tensors stood in what it returned.
        seconds: Wall time.
    """

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: Mapping[str, torch.Tensor]
    structure: Structure
    seconds: float


@dataclass(eq=False)
class Watch:
    """What a watched block did.

    Args:
        architecture: Class name of the modules that are watched.
        calls: The first calls, whole; calls that a module of the same class makes inside its own forward do not count.
        modules: The modules that were called, each once.
        others: Modules of other classes that were called from outside any other, each once.
    """

    architecture: str
    calls: list[ModuleCall] = field(default_factory=list)
    modules: list[torch.nn.Module] = field(default_factory=list)
    others: list[torch.nn.Module] = field(default_factory=list)
    _counts: dict[int, int] = field(default_factory=dict)
    _weights: dict[int, dict[str, object]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many calls there were."""
        return sum(self._counts.values())

    def only(self, module: torch.nn.Module) -> Watch:
        """The calls of one of the modules."""
        calls = [call for call in self.calls if call.module is module]
        return Watch(self.architecture, calls, [module], [], {id(module): self._counts.get(id(module), 0)})

    def add(self, call: ModuleCall, keep: int) -> None:
        """Count a call, and keep it if fewer than `keep` are kept."""
        self._counts[id(call.module)] = self._counts.get(id(call.module), 0) + 1
        if len(self.calls) < keep:
            self.calls.append(call)

    def trained(self) -> str | None:
        """A sentence about a module whose weights or gradients are no longer those it was first called with."""
        for module in self.modules:
            if _weights_of(module) != self._weights[id(module)]:
                return f"the cell trains {self.architecture}: its weights or gradients changed while it ran"
        return None


@contextlib.contextmanager
def watch_modules(architecture: str, keep: int = KEPT_CALLS) -> Iterator[Watch]:
    """See every call of a module whose class is called `architecture`, in this thread and in those the block starts.

    The modules themselves are not touched: two hooks common to all modules do it, taken away whatever happens.

    Raises:
        UsageError: a watched module that heeds it is called in train mode; before its forward runs.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1).eval()
        >>> with watch_modules("Linear") as watch:
        ...     _ = layer(torch.ones(3, 2))
        >>> watch.count, tuple(watch.calls[0].outputs["output"].shape)
        (1, (3, 1))
    """
    watcher = _Watcher(Watch(architecture), keep)
    with module_hooks(watcher.enter, watcher.leave):
        yield watcher.watch


@dataclass(frozen=True, eq=False)
class _OpenCall:
    """A call that has not returned yet."""

    module: Any
    args: tuple[Any, ...]
    started: float


class _Watcher:
    """The two hooks, and how deep each thread is in modules."""

    def __init__(self, watch: Watch, keep: int) -> None:
        self.watch, self.keep = watch, keep
        self._local = threading.local()

    def _open_calls(self) -> list[_OpenCall]:
        """The calls that this thread is in, outermost first."""
        if not hasattr(self._local, "calls"):
            self._local.calls = []
        calls: list[_OpenCall] = self._local.calls
        return calls

    def enter(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        open_calls = self._open_calls()
        if not open_calls and not self._watched(module) and not any(module is m for m in self.watch.others):
            self.watch.others.append(module)
        if self._is_outermost(module, open_calls):
            inner = unwrapped(module)
            _refuse_training(inner, self.watch.architecture)
            if not any(inner is known for known in self.watch.modules):
                self.watch.modules.append(inner)
                self.watch._weights[id(inner)] = _weights_of(inner)
            # Taken now: a forward may change what it is given (a dict of features) in place.
            args = detached(args) if len(self.watch.calls) < self.keep else args
        open_calls.append(_OpenCall(module, args, time.perf_counter()))

    def leave(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None, output: Any) -> None:
        open_calls = self._open_calls()
        if not any(module is entered.module for entered in open_calls):
            return
        entered = open_calls.pop()
        while entered.module is not module:  # calls that a hook of the user's own cut short have no end of their own
            entered = open_calls.pop()
        if kwargs is not None and self._is_outermost(module, open_calls):
            structure, outputs = structure_of(output)
            seconds = time.perf_counter() - entered.started
            if len(self.watch.calls) < self.keep:
                kwargs, outputs = detached((kwargs, outputs))
            self.watch.add(ModuleCall(unwrapped(module), entered.args, kwargs, outputs, structure, seconds), self.keep)

    def _watched(self, module: Any) -> bool:
        return architecture_of(module) == self.watch.architecture

    def _is_outermost(self, module: Any, open_calls: list[_OpenCall]) -> bool:
        return self._watched(module) and not any(self._watched(outer.module) for outer in open_calls)


def _refuse_training(module: torch.nn.Module, architecture: str) -> None:
    if heeds_training(module):
        raise UsageError(
            f"the cell calls {architecture} in train mode, where dropout and batch statistics change the answer: "
            "expected eval mode",
            fix="model.eval()",
        )


def _weights_of(module: torch.nn.Module) -> dict[str, object]:
    """What changes when a module is trained: versions of its parameters and of their gradients."""

    def version(tensor: Any) -> object:
        return None if tensor is None or tensor.is_inference() else (id(tensor), tensor._version)

    return {name: (version(p), version(p.grad)) for name, p in module.named_parameters()}
