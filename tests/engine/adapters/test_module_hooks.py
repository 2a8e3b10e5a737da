from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as nn_module

from onnx_magic.engine.adapters.module_hooks import foreign_hooks, module_hooks


def hooks() -> bool:
    return bool(nn_module._has_any_global_hook())


def test_enter_and_leave_see_every_module_and_leave_nothing_behind() -> None:
    seen: list[Any] = []
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with module_hooks(
        lambda module, args: seen.append(type(module).__name__),
        lambda module, args, kwargs, output: seen.append((type(module).__name__, len(args), kwargs, type(output))),
    ):
        model(torch.ones(1, 2))
    assert seen == [
        "Sequential",
        "Linear",
        ("Linear", 1, {}, torch.Tensor),
        "ReLU",
        ("ReLU", 1, {}, torch.Tensor),
        ("Sequential", 1, {}, torch.Tensor),
    ]
    assert not hooks()


def test_leave_is_told_of_an_exception() -> None:
    seen: list[Any] = []
    with pytest.raises(RuntimeError), module_hooks(lambda *_: None, lambda *call: seen.append(call[2:])):
        nn.Linear(2, 3)(torch.ones(1, 5))
    assert seen == [(None, None)] and not hooks()


def test_hooks_of_libraries_are_no_hooks_of_the_users() -> None:
    layer = nn.Linear(2, 2)
    assert not foreign_hooks(layer)

    def theirs(*_: Any) -> None: ...

    theirs.__module__ = "transformers.utils.output_capturing"
    layer.register_forward_hook(theirs)
    assert not foreign_hooks(layer)
    layer.register_forward_pre_hook(lambda *_: None)
    assert foreign_hooks(layer)


def test_removing_a_hook_leaves_a_rest_in_torch() -> None:
    """Why adapters.module_hooks clears up behind `remove()`: when this fails, it need not any more."""
    handle = nn_module.register_module_forward_hook(lambda *_: None, with_kwargs=True)
    handle.remove()
    try:
        assert hooks()
    finally:
        nn_module._global_forward_hooks_with_kwargs.pop(handle.id)
    assert not hooks()
