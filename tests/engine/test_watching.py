from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as nn_module

from onnx_magic.engine.watching import architecture_of, watch_modules
from onnx_magic.errors import UsageError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> dict[str, torch.Tensor]:
        return {"y": self.layer(x) * scale}


class Nested(Net):
    """Calls a module of its own class."""

    def __init__(self, inner: Nested | None = None) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> dict[str, torch.Tensor]:
        return self.inner(x) if self.inner is not None else super().forward(x)


def hooks() -> bool:
    return bool(nn_module._has_any_global_hook())


def test_every_call_is_recorded_with_arguments_and_outputs() -> None:
    net, x = Net().eval(), torch.randn(4, 3)
    assert not hooks()
    with watch_modules("Net") as watch:
        expected = net(x, scale=2.0)["y"]
        net(x[:1])
    assert not hooks()
    assert watch.count == len(watch.calls) == 2 and watch.modules == [net]
    first = watch.calls[0]
    assert first.module is net and first.kwargs == {"scale": 2.0}
    assert torch.equal(first.args[0], x) and torch.equal(first.outputs["y"], expected)
    assert not first.outputs["y"].requires_grad


def test_arguments_are_those_before_the_forward_changed_them() -> None:
    class Changing(nn.Module):
        def forward(self, x: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor:
            features["more"] = x.add_(1)
            return x

    with watch_modules("Changing") as watch:
        Changing().eval()(torch.zeros(2), {})
    x, features = watch.calls[0].args
    assert x.tolist() == [0, 0] and features == {}


def test_inner_calls_of_the_same_class_do_not_count() -> None:
    outer = Nested(Nested()).eval()
    with watch_modules("Nested") as watch:
        outer(torch.ones(1, 3))
    assert watch.count == 1 and watch.modules == [outer]


def test_modules_of_other_classes_are_told_apart() -> None:
    net, other = Net().eval(), nn.Linear(3, 3).eval()
    with watch_modules("Net") as watch:
        other(torch.ones(1, 3))
        net(torch.ones(1, 3))
    assert watch.others == [other] and watch.modules == [net]


def test_hooks_are_taken_away_after_an_exception_and_the_depth_is_right_within() -> None:
    net = Net().eval()
    with pytest.raises(KeyError), watch_modules("Net") as watch:
        with pytest.raises(RuntimeError):
            net(torch.ones(1, 4))
        net(torch.ones(1, 3))
        raise KeyError
    assert not hooks()
    assert watch.count == 1


def test_later_calls_are_counted_only() -> None:
    net = Net().eval()
    with watch_modules("Net", keep=2) as watch:
        for _ in range(5):
            net(torch.ones(1, 3))
    assert (watch.count, len(watch.calls)) == (5, 2)


def test_train_mode_is_refused_before_the_forward_runs() -> None:
    net = Net().train()
    net.drop = nn.Dropout(0.1)
    with watch_modules("Net") as watch, pytest.raises(UsageError, match="train mode") as caught:
        net(torch.ones(1, 3))
    assert caught.value.fix == "model.eval()" and watch.count == 0


def backward(net: Net) -> None:
    net(torch.ones(1, 3))["y"].sum().backward()


def step(net: Net) -> None:
    net(torch.ones(1, 3))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def edit(net: Net) -> None:
    net(torch.ones(1, 3))
    with torch.no_grad():
        net.layer.bias += 1


def use(net: Net) -> None:
    net(torch.ones(1, 3))
    with torch.inference_mode():
        net(torch.ones(1, 3))


@pytest.mark.parametrize(("act", "trains"), [(backward, True), (step, True), (edit, True), (use, False)])
def test_training_is_seen(act: Callable[[Net], None], trains: bool) -> None:
    net = Net().eval()
    with watch_modules("Net") as watch:
        act(net)
    assert (watch.trained() is not None) == trains


def test_a_thread_that_ran_before_is_not_ours_and_one_that_the_block_starts_is() -> None:
    net, begin, done = Net().eval(), threading.Event(), threading.Event()

    def call() -> None:
        net(torch.ones(1, 3))

    def wait_and_call() -> None:
        begin.wait(10)
        Net().train()(torch.ones(1, 3))  # a training loop in another cell's thread: not refused, not recorded
        done.set()

    older = threading.Thread(target=wait_and_call)
    older.start()
    with watch_modules("Net") as watch:
        begin.set()
        assert done.wait(10)
        younger = threading.Thread(target=call)
        younger.start()
        younger.join()
    older.join()
    assert watch.count == 1


@pytest.mark.slow
def test_a_compiled_model_is_seen_as_what_it_wraps_without_a_warning() -> None:
    net = Net().eval()
    compiled: Any = torch.compile(net, backend="eager")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with watch_modules("Net") as watch:
            compiled(torch.ones(2, 3))
    assert watch.count == 1 and watch.modules == [net]
    assert [w for w in caught if "global hooks" in str(w.message)] == []
    assert architecture_of(compiled) == "Net"


def test_a_filter_that_the_block_sets_stays() -> None:
    with warnings.catch_warnings():
        with watch_modules("Net"):
            warnings.filterwarnings("ignore", message="the user's own")
        patterns = [entry[1].pattern for entry in warnings.filters if entry[1] is not None]
    assert "the user's own" in patterns
    assert not any("global hooks" in pattern for pattern in patterns)


def test_a_scripted_module_keeps_its_name() -> None:
    assert architecture_of(torch.jit.script(nn.Linear(2, 2))) == "Linear"
