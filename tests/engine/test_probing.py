"""Which axes can move: by running, not by guessing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from onnx_magic.engine.examples import given_examples
from onnx_magic.engine.flat import FlatModel, bind_call
from onnx_magic.engine.probing import Probe, probe
from onnx_magic.engine.tensors import to_arrays


def probed(model: torch.nn.Module, *args: Any, **kwargs: Any) -> Probe:
    binding, tensors = bind_call(model, args, kwargs)
    return probe(FlatModel(model.eval(), binding), given_examples(to_arrays(tensors), {}))


def test_a_convolution_moves_in_batch_height_and_width() -> None:
    found = probed(torch.nn.Conv2d(3, 4, 3), torch.rand(2, 3, 10, 10))
    assert found.examples.axes == {"input": {0: "batch_size", 2: "height", 3: "width"}}
    assert set(found.output_axes["output"]) == {0, 2, 3}
    assert "expected input" in found.refused["input_dim_1"], "the channels do not move, and the model says why"


def test_equal_sizes_are_not_taken_for_one_axis() -> None:
    """Batch 3, features 3: only one of them can move."""
    found = probed(torch.nn.Linear(3, 3), torch.rand(3, 3))
    assert found.examples.axes == {"input": {0: "batch_size"}}
    assert found.output_axes == {"output": {0: "batch_size"}}


def test_axes_that_only_move_together_share_a_name() -> None:
    class Masked(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (ids * mask).float().cumsum(1)

    found = probed(Masked(), torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long))
    same = {0: "batch_size", 1: "sequence_length"}
    assert found.examples.axes == {"ids": same, "mask": same}


def test_a_square_matrix_moves_as_one() -> None:
    class Square(torch.nn.Module):
        def forward(self, adjacency: torch.Tensor) -> torch.Tensor:
            return adjacency @ adjacency

    found = probed(Square(), torch.rand(4, 4))
    names = found.examples.axes["adjacency"]
    assert names[0] == names[1]


def test_an_axis_that_the_model_refuses_is_static_and_says_why() -> None:
    class Four(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[1] != 4:
                raise ValueError("exactly four, please")
            return x * 2

    found = probed(Four(), torch.rand(2, 4))
    assert found.examples.axes == {"x": {0: "batch_size"}}
    assert any("exactly four" in reason for reason in found.refused.values())


def test_an_axis_that_is_only_broadcast_is_static() -> None:
    """One factor goes with every batch, two would go with a batch of two alone."""

    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return x * scale

    found = probed(Scaled(), torch.rand(2, 4, 3), torch.ones(1, 1))
    assert 0 in found.examples.axes["x"] and not found.examples.axes.get("scale")
    alone = probed(torch.nn.Linear(3, 2), torch.rand(1, 3))
    assert alone.examples.axes == {"input": {0: "batch_size"}}, "a batch of one moves as ever"


def test_what_stays_fixed_keeps_its_size_in_other_examples() -> None:
    found = probed(torch.nn.Linear(3, 2), torch.rand(2, 3))
    assert found.examples.at(1, batch_size=7)["input"].shape == (7, 3)


def test_the_models_own_exception_on_the_traced_inputs_comes_out() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        probed(torch.nn.Linear(3, 2), torch.rand(2, 5))


def test_outputs_of_the_traced_inputs_are_kept() -> None:
    model, x = torch.nn.Linear(3, 2), torch.rand(2, 3)
    np.testing.assert_array_equal(probed(model, x).outputs["output"], model(x).detach().numpy())
