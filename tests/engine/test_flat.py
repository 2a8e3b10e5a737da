"""A model as a function of flat, named tensors."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch

from onnx_magic.engine.flat import FlatModel, bind_call, flatten_outputs
from onnx_magic.errors import InputsError


class Nested(torch.nn.Module):
    """Takes and returns what a real model may: a list, a dict, a flag."""

    def forward(self, x: Any, states: Any, scale: float = 1.0, *, mask: Any = None) -> Any:
        y = x * scale + states[0] + states[1]["deep"]
        return {"y": y, "pair": (y if mask is None else y * mask, None, x)}


def nested() -> tuple[Nested, tuple[Any, ...], dict[str, Any]]:
    one = torch.arange(4.0).reshape(2, 2)
    return Nested(), (one, [one + 1, {"deep": one + 2}]), {"scale": 3.0, "mask": one > 1}


def test_every_tensor_gets_the_name_of_its_place() -> None:
    model, args, kwargs = nested()
    binding, tensors = bind_call(model, args, kwargs)
    assert binding.names == ("x", "states.0", "states.1.deep", "mask")
    assert tensors["states.1.deep"] is args[1][1]["deep"]


def test_running_by_name_is_calling_the_model() -> None:
    model, args, kwargs = nested()
    binding, tensors = bind_call(model, args, kwargs)
    outputs = FlatModel(model, binding).run(tensors)
    expected = model(*args, **kwargs)
    assert list(outputs) == ["y", "pair.0", "pair.2"]
    assert torch.equal(outputs["y"], expected["y"]) and torch.equal(outputs["pair.0"], expected["pair"][0])
    changed = FlatModel(model, binding).run(tensors | {"states.0": tensors["states.0"] + 1})
    assert not torch.equal(changed["y"], outputs["y"])


def test_as_forward_gives_distinct_tensors_and_restores_the_instance() -> None:
    model, args, kwargs = nested()
    binding, tensors = bind_call(model, args, kwargs)
    own = lambda *a, **k: Nested.forward(model, *a, **k)  # noqa: E731
    model.forward = own  # type: ignore[method-assign]
    with FlatModel(model, binding).as_forward() as parameters:
        assert parameters == ("x", "states_0", "states_1_deep", "mask")
        outputs = model(**dict(zip(parameters, tensors.values(), strict=True)))
        assert outputs[2] is not tensors["x"], "an output that is an input would lose its name in the graph"
    assert model.forward is own
    with pytest.raises(RuntimeError), FlatModel(model, binding).as_forward():
        raise RuntimeError
    assert model.forward is own


def test_outputs_of_all_kinds_have_names() -> None:
    one = torch.ones(1)
    pair = namedtuple("pair", "left right")
    assert list(flatten_outputs(one)) == ["output"]
    assert list(flatten_outputs((one, [one]))) == ["output_0", "output_1.0"]
    assert list(flatten_outputs(pair(one, {"in": one}))) == ["left", "right.in"]
    assert flatten_outputs((None, 3, "text")) == {}


def test_arguments_that_do_not_fit_are_refused_with_the_signature() -> None:
    with pytest.raises(InputsError, match=r"Nested.forward\(x, states, scale, mask\)"):
        bind_call(Nested(), (), {"z": torch.ones(1)})
    with pytest.raises(InputsError, match="hold no tensor"):
        bind_call(Nested(), (1, [2, {"deep": 3}]), {})


def test_arguments_by_star_are_named_too() -> None:
    class Star(torch.nn.Module):
        def forward(self, first: Any, *rest: Any, **more: Any) -> Any:
            return first + sum(rest) + more["bias"]

    one = torch.ones(2)
    binding, tensors = bind_call(Star(), (one, one * 2, one * 3), {"bias": one * 4})
    assert binding.names == ("first", "rest_0", "rest_1", "bias")
    assert torch.equal(FlatModel(Star(), binding).run(tensors)["output"], one * 10)
