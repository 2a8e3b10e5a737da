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
