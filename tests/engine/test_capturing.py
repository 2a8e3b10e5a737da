from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import onnx_magic
from onnx_magic.engine.capturing import capture_calls, observed_axes
from onnx_magic.errors import InputsError


class Mixed(nn.Module):
    """Nested inputs, constants, an optional input, and a number among the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(
        self, x: torch.Tensor, states: Any = None, mode: str | None = None, scale: float = 1.0, mask: Any = None
    ) -> Any:
        y = self.layer(x) * scale
        for state in states or []:
            y = y + state.sum()
        return (y if mask is None else y * mask), len(x)


def test_calls_become_examples_by_argument_name() -> None:
    model, state = Mixed(), torch.ones(2)
    before = dict(model.__dict__)
    with capture_calls(model) as capture:
        model(torch.ones(2, 3), [state, state], mode="fast", scale=1.0)
        model(torch.ones(5, 3), [state, state], "fast")
    assert model.__dict__ == before
    calls = capture.calls
    assert [list(example) for example in calls.examples] == [["x", "states"], ["x", "states"]]
    assert calls.constants == {"mode": "fast"}  # scale is the forward's own default
    assert calls.axes == {"x": {0: (5, 2)}}
    assert [tuple(t.shape) for t in calls.examples[0]["states"]] == [(2,), (2,)]
    args, kwargs = calls.call
    assert args[0].shape == (5, 3) and args[2:] == ("fast",) and kwargs == {}


def test_examples_are_copies() -> None:
    model, x = Mixed(), torch.ones(2, 3)
    with capture_calls(model) as capture:
        model(x)
        x += 5
    assert capture.calls.examples[0]["x"].max() == 1


def test_the_call_to_trace_has_no_axis_of_size_one() -> None:
    model = Mixed()
    with capture_calls(model) as capture:
        model(torch.ones(1, 40, 3))
        model(torch.ones(2, 4, 3))
    assert capture.calls.examples[0]["x"].shape == (2, 4, 3)


def test_a_call_of_forward_itself_counts_and_only_the_first_are_kept() -> None:
    model = Mixed()
    with capture_calls(model, limit=2) as capture:
        for size in (1, 2, 3):
            model.forward(torch.ones(size, 3))
    assert capture.seen == 3 and len(capture.calls.examples) == 2


def test_calls_with_fewer_inputs_are_left_out_and_said() -> None:
    model = Mixed()
    with capture_calls(model) as capture:
        model(torch.ones(9, 3))
        model(torch.ones(2, 3), mask=torch.ones(2, 2))
    assert list(capture.calls.examples[0]) == ["x", "mask"] and len(capture.calls.examples) == 1
    assert "1 of 2 calls" in capture.calls.notes[0]


def no_call(model: Mixed) -> None:
    pass


def other_inputs(model: Mixed) -> None:
    model(torch.ones(2, 3), mask=torch.ones(2, 2))
    model(torch.ones(2, 3), [torch.ones(1)])


def other_constants(model: Mixed) -> None:
    model(torch.ones(2, 3), scale=2.0)
    model(torch.ones(3, 3), scale=3.0)


def other_rank(model: Mixed) -> None:
    model(torch.ones(2, 3))
    model(torch.ones(3))


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (no_call, "was not called in the cell"),
        (other_inputs, "differ in their inputs"),
        (other_constants, "differ in what is no tensor"),
        (other_rank, "x has 1 axes in one call and 2"),
    ],
)
def test_what_cannot_be_one_graph_is_refused(act: Any, what: str) -> None:
    model = Mixed()
    with capture_calls(model) as capture:
        act(model)
    with pytest.raises(InputsError, match=what) as caught:
        _ = capture.calls
    assert caught.value.fix and caught.value.stage == "capture"


def test_what_the_model_raises_passes_through_and_the_instance_is_restored() -> None:
    model = Mixed()
    model.forward = own = lambda x: Mixed.forward(model, x)  # accelerate puts a forward on the instance
    keys = list(model.__dict__)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), capture_calls(model):
        model(torch.ones(2, 4))
    with pytest.raises(TypeError, match="missing"), capture_calls(model):
        model()
    assert list(model.__dict__) == keys and model.__dict__["forward"] is own


def test_axes_that_did_not_move_are_not_named() -> None:
    assert observed_axes([{"x": torch.ones(2, 3), "s": torch.ones(())}]) == {}
    moved = observed_axes([{"x": torch.ones(2, 3)}, {"x": torch.ones(2, 7)}, {"x": torch.ones(2, 3)}])
    assert moved == {"x": {1: (3, 7)}}


@pytest.mark.parametrize("call", ["model(x, 'fast')", "model(x, mode='fast')", "model(x)"])
def test_input_observer_alone_would_not_do(call: str) -> None:
    """Why the user's model is not given to torch.onnx.InputObserver itself: when this fails, it can be."""
    model, observer = Mixed(), torch.onnx.InputObserver()
    with pytest.raises(AttributeError), observer(model):
        eval(call, {"model": model, "x": torch.ones(2, 3)})  # it raises on the number among the outputs
    assert "forward" in model.__dict__  # and leaves its forward on the instance


def test_captured_calls_are_what_an_export_takes(workdir: Path) -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return (x * scale).sum(1) + y

    model = Scaled().eval()
    with capture_calls(model) as capture:
        model(torch.randn(2, 5), torch.randn(2), scale=3.0)
        model(torch.randn(2, 9), torch.randn(2), scale=3.0)
    exported = onnx_magic.export(model, inputs=capture.calls, exporter="torchscript")
    assert exported.validation.status == "verified"
    assert [str(dim).isdigit() for dim in exported.inputs[0].shape] == [True, False]  # only the axis that moved
    x, y = torch.randn(2, 4), torch.randn(2)
    got = exported.run({"x": x, "y": y}).outputs["output"]
    assert torch.allclose(torch.from_numpy(got), (x * 3).sum(1) + y, atol=1e-5)
