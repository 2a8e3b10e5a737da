"""Between arrays and tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnx_magic.engine.tensors import dtype_name, to_arrays, to_tensors


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(2),
        torch.zeros(0, 3),
        torch.rand(2, 3).T,
        torch.rand(3).half(),
        torch.rand(3).bfloat16(),
        torch.tensor([True, False]),
        torch.ones(2, dtype=torch.uint8),
        torch.rand(2, requires_grad=True),
    ],
    ids=str,
)
def test_there_and_back(tensor: torch.Tensor) -> None:
    array = to_arrays({"x": tensor})["x"]
    assert array.shape == tuple(tensor.shape)
    assert dtype_name(array) == str(tensor.dtype).removeprefix("torch.")
    back = to_tensors({"x": array})["x"]
    assert back.dtype == tensor.dtype and torch.equal(back, tensor.detach())


def test_a_read_only_array_becomes_a_tensor_of_its_own() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    to_tensors({"x": array})["x"].add_(1)
    assert array.tolist() == [0.0, 1.0, 2.0]
