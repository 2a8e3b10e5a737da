"""State is restored, whatever happens."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from onnx_magic.engine.state import comparable_attention, heeds_training, preserved


class Stateful(torch.nn.Module):
    """Counts its calls in a buffer, in an attribute and in a registered parameter's place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
        self.register_buffer("calls", torch.zeros(()))
        self.cache: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.cache = x
        return self.layer(x)


def use(model: Stateful) -> None:
    model(torch.rand(1, 2))
    model.register_buffer("planted", torch.ones(1))
    model.layer[0].extra = "planted"
    random.random(), np.random.rand(), torch.rand(1)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails: bool) -> None:
    model = Stateful()
    model.layer[1].eval()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    try:
        with preserved(model):
            assert not any(module.training for module in model.modules())
            use(model)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert model.calls == 0 and model.cache is None
    assert "planted" not in dict(model.named_buffers()) and not hasattr(model.layer[0], "extra")
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    model.layer[0].weight.data.fill_(1.0)  # the parameters are the same objects: training goes on
    assert model(torch.ones(1, 2)).requires_grad


def test_without_preserving_the_model_would_have_changed() -> None:
    model = Stateful()
    use(model)
    assert model.calls == 1 and model.cache is not None and hasattr(model.layer[0], "extra")


def test_a_decoders_cache_is_off_inside_only() -> None:
    class Config:
        use_cache = True

    model = torch.nn.Linear(1, 1)
    model.config = Config()  # type: ignore[assignment]
    with preserved(model):
        assert model.config.use_cache is False
    assert model.config.use_cache is True


def test_gradients_and_hooks_stay() -> None:
    model = torch.nn.Linear(2, 1)
    model(torch.rand(1, 2)).sum().backward()
    gradient, seen = model.weight.grad, []
    model.register_forward_hook(lambda *_: seen.append(1))
    with preserved(model), torch.no_grad():
        model(torch.rand(1, 2))
    assert model.weight.grad is gradient
    model(torch.rand(1, 2))
    assert len(seen) == 2


def test_the_fast_path_is_given_back() -> None:
    for enabled in (True, False):
        torch.backends.mha.set_fastpath_enabled(enabled)
        with comparable_attention():
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    torch.backends.mha.set_fastpath_enabled(True)


def test_hooks_that_are_installed_inside_are_gone_with_their_mark(tiny_bert: Any) -> None:
    """Transformers installs hooks on the first call for hidden states; installed twice, they double the outputs."""
    model, ids = tiny_bert(), torch.ones(1, 4, dtype=torch.long)
    with preserved(model):
        inside = len(model(ids, output_hidden_states=True).hidden_states)
    assert len(model(ids, output_hidden_states=True).hidden_states) == inside == 3


def test_a_scripted_module_keeps_its_mode() -> None:
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())).train()
    with preserved(scripted):
        assert not scripted.training
    assert scripted.training and scripted(torch.ones(1, 2)).shape == (1, 2)


class Asking(torch.nn.Module):
    """Its own code asks for the mode, in a function within a method."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def dropped(y: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(y, 0.5, training=self.training)

        return dropped(x)


class Passing(torch.nn.Module):
    """Gives a function the mode: what it gives is not looked at, so it counts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5, training=False)


@pytest.mark.parametrize(
    ("module", "heeds"),
    [
        (torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU(), torch.nn.LayerNorm(3)), False),
        (torch.nn.Sequential(torch.nn.Dropout(0.0), torch.nn.InstanceNorm1d(2)), False),
        (torch.nn.GRU(2, 2), False),
        (torch.nn.GRU(2, 2, 2, dropout=0.1), True),
        (torch.nn.MultiheadAttention(4, 2), False),
        (torch.nn.TransformerEncoderLayer(4, 2), True),
        (torch.nn.BatchNorm1d(2), True),
        (torch.nn.InstanceNorm1d(2, track_running_stats=True), True),
        (torch.nn.RReLU(), True),
        (Stateful(), True),
        (Asking(), True),
        (Passing(), True),
        (torch.jit.script(torch.nn.Linear(2, 2)), True),
    ],
)
def test_what_heeds_train_mode(module: Any, heeds: bool) -> None:
    assert heeds_training(module.train()) is heeds
    assert not heeds_training(module.eval())


def test_a_part_in_eval_mode_does_not_heed() -> None:
    model = Stateful().train()
    model.layer[1].eval()
    assert not heeds_training(model)
