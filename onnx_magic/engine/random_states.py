"""The random states of Python, NumPy and torch, on every device: taken, and put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class RandomStates:
    """Where all generators stood at one moment; `restore()` puts them back there.

    Example:
        >>> states = RandomStates.now()
        >>> first = random.random()
        >>> states.restore()
        >>> random.random() == first
        True
    """

    python: tuple[Any, ...]
    numpy: Any
    cpu: Any
    cuda: tuple[Any, ...]

    @classmethod
    def now(cls) -> RandomStates:
        """The states as they are. A CUDA that was not used yet is left asleep."""
        import torch

        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Put all generators back."""
        import torch

        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave all generators where they stood before the block."""
    states = RandomStates.now()
    try:
        yield
    finally:
        states.restore()
