"""State is restored, whatever happens: the model's, and the process's."""

from __future__ import annotations

import contextlib
import random
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CLONED_BUFFER_BYTES = 16 * 2**20
"""Buffers up to this size are cloned and written back; larger ones are constants (causal masks) in every model seen."""


@contextlib.contextmanager
def preserved(model: torch.nn.Module) -> Iterator[None]:
    """Run the block with `model` in eval mode; afterwards every submodule is as it was.

    Restored: the train / eval flag and all attributes of every submodule (tracing plants fake tensors in caches), the
    values of buffers, `config.use_cache`, and the random states of Python, NumPy and torch.
    """
    import torch

    kept = [_Kept(module) for module in model.modules()]
    buffers = [
        (buffer, buffer.detach().clone())
        for buffer in model.buffers()
        if buffer.numel() * buffer.element_size() <= CLONED_BUFFER_BYTES
    ]
    with _random_states(), torch.random.fork_rng(devices=[]), _without_cache(model):
        try:
            model.eval()
            yield
        finally:
            for one in kept:
                one.restore()
            with torch.no_grad():
                for buffer, value in buffers:
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)


class _Kept:
    """A module's attributes, and what stands in its dicts: parameters, buffers, hooks.

    Hooks belong to it: Transformers installs some on the first call that asks for hidden states, and notes that in an
    attribute; one without the other doubles the outputs.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        import torch

        self.module, self.training = module, module.training
        self.scripted = isinstance(module, torch.jit.ScriptModule)
        self.attributes = dict(module.__dict__)
        self.dicts = {key: dict(value) for key, value in self.attributes.items() if isinstance(value, dict)}

    def restore(self) -> None:
        """Put everything back; a ScriptModule keeps its state in C++, and tracing plants nothing there."""
        if self.scripted:
            self.module.train(self.training)
            return
        for key, values in self.dicts.items():
            self.attributes[key].clear()
            self.attributes[key].update(values)
        self.module.__dict__.clear()
        self.module.__dict__.update(self.attributes)


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """Keep decoders from returning a cache: `config.use_cache` off for the block."""
    config = getattr(model, "config", None)
    if not getattr(config, "use_cache", False):
        yield
        return
    config.use_cache = False  # type: ignore[union-attr]
    try:
        yield
    finally:
        config.use_cache = True  # type: ignore[union-attr]


@contextlib.contextmanager
def comparable_attention() -> Iterator[None]:
    """Turn off `nn.MultiheadAttention`'s fast path, which zeroes padded positions and cannot be exported.

    Off for the export and for the reference alike, restored after.
    """
    import torch

    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def heeds_training(model: torch.nn.Module) -> bool:
    """Whether a model that is in train mode may answer otherwise than in eval mode; false where it is in eval mode.

    A module fresh from its class is in train mode, and most small ones have nothing in them that heeds it: no dropout,
    no batch statistics, no code of their own that asks for `training`.

    Example:
        >>> import torch
        >>> heeds_training(torch.nn.Linear(2, 2)), heeds_training(torch.nn.Dropout(0.1))
        (False, True)
    """
    return model.training and any(module.training and _heeds(module) for module in model.modules())


def _heeds(module: torch.nn.Module) -> bool:
    import torch
    from torch import nn

    if isinstance(module, torch.jit.ScriptModule):
        return True  # its code is not Python's
    if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout):
        return module.p > 0
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm):
        return True
    if isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
        return bool(module.track_running_stats)
    if isinstance(module, nn.RReLU | nn.FeatureAlphaDropout):
        return True
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    own = [kind for kind in type(module).__mro__ if not kind.__module__.startswith(("torch.nn", "builtins"))]
    return any(_asks(value) for kind in own for value in vars(kind).values())


def _asks(function: Any) -> bool:
    """Whether a method, or a function in it, reads an attribute or gives an argument called `training`."""
    code = getattr(function, "__code__", None)
    codes = [code] if code is not None else []
    while codes:
        code = codes.pop()
        given = [name for value in code.co_consts if isinstance(value, tuple) for name in value]
        if "training" in (*code.co_names, *given):
            return True
        codes += [value for value in code.co_consts if isinstance(value, types.CodeType)]
    return False
