"""State is restored, whatever happens: the model's, and the process's."""

from __future__ import annotations

import contextlib
import random
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

    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    registered = [{key: dict(module.__dict__[key]) for key in _REGISTERS} for module in modules]
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
            for module, own, registers in zip(modules, attributes, registered, strict=True):
                for key, values in registers.items():
                    own[key].clear()
                    own[key].update(values)
                module.__dict__.clear()
                module.__dict__.update(own)
            with torch.no_grad():
                for buffer, value in buffers:
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)


_REGISTERS = ("_parameters", "_buffers", "_modules")


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
