"""Adapter to torch's hooks that all modules share: seen by a block, and taken away without a rest."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

Enter: TypeAlias = "Callable[[torch.nn.Module, tuple[Any, ...]], None]"
"""Called before a forward, with its positional arguments: torch does not tell the others here."""

Leave: TypeAlias = "Callable[[torch.nn.Module, tuple[Any, ...], dict[str, Any] | None, Any], None]"
"""Called after a forward: arguments and what it returned; keyword arguments are `None` after an exception."""

_COMPILE_WARNING = r"Using `torch\.compile\(module\)` when there are global hooks"


@contextlib.contextmanager
def module_hooks(enter: Enter, leave: Leave | None = None) -> Iterator[None]:
    """Call `enter` before and `leave` after the forward of any module, in this thread and in those the block starts.

    A loop in a thread that ran before is not the block's: another cell's training goes on unseen. Nor is code that
    torch.compile traces: it must not see the hooks.
    """
    import torch
    from torch.nn.modules import module as home

    foreign = set(threading.enumerate()) - {threading.current_thread()}

    def ignored() -> bool:
        return torch.compiler.is_compiling() or threading.current_thread() in foreign

    def before(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if not ignored():
            enter(module, args)

    def after(module: torch.nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        # After an exception torch hands over no keyword arguments, and None for the output.
        if leave is not None and not ignored():
            leave(module, args, rest[0] if len(rest) == 2 else None, rest[-1])

    handles = [home.register_module_forward_pre_hook(before)]
    if leave is not None:
        handles.append(home.register_module_forward_hook(after, with_kwargs=True, always_call=True))
    with _without_compile_warning():
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
                # remove() leaves this entry behind (torch 2.13), and with it torch.compile warns of hooks for good.
                home._global_forward_hooks_with_kwargs.pop(handle.id, None)


@contextlib.contextmanager
def _without_compile_warning() -> Iterator[None]:
    """Keep torch from warning about our hooks; filters that the block itself sets stay."""
    warnings.filterwarnings("ignore", message=_COMPILE_WARNING, category=UserWarning)
    ours = warnings.filters[0]
    try:
        yield
    finally:
        if ours in warnings.filters:
            warnings.filters.remove(ours)  # type: ignore[attr-defined]


def foreign_hooks(module: torch.nn.Module) -> bool:
    """Whether a hook of the user's own is on `module`; those of torch, Transformers and accelerate serve themselves."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(str(getattr(hook, "__module__", "")).partition(".")[0] not in _LIBRARIES for hook in hooks)


_LIBRARIES = ("torch", "transformers", "accelerate")
