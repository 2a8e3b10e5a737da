from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from onnx_magic.engine.random_states import RandomStates, random_states_kept


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_restore_gives_the_same_numbers_again() -> None:
    states = RandomStates.now()
    first = drawn()
    assert drawn() != first
    states.restore()
    assert drawn() == first


def test_states_are_kept_through_an_exception() -> None:
    states = RandomStates.now()
    expected = drawn()
    states.restore()
    with pytest.raises(KeyError), random_states_kept():
        drawn()
        raise KeyError
    assert drawn() == expected
