"""`accuracy=`: the layer that quantising spoils is found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_magic.engine.variants.layers import Layer
from onnx_magic.engine.variants.searching import block_noise


@pytest.fixture
def uneven(export_module: Callable[..., Any]) -> Any:
    """A net with one layer whose weights hold a single huge one: on one scale, all others round to nothing."""
    import torch

    class Uneven(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.spoiled, self.last = (torch.nn.Linear(32, 32) for _ in range(3))
            with torch.no_grad():
                self.spoiled.weight[:, 0] = 0
                self.spoiled.weight[0, 0] = 500.0
                self.first.weight[0] = 0  # the huge weight is fed next to nothing
                self.first.bias[0] = 1e-4

        def forward(self, x: Any) -> Any:
            return self.last(torch.relu(self.spoiled(self.first(x))))

    torch.manual_seed(0)
    return export_module(Uneven(), torch.randn(4, 32))


@pytest.mark.parametrize("mode", ["int8-static", "int8"])
def test_the_layer_that_is_spoiled_is_left_in_float(uneven: Any, mode: str) -> None:
    data = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    plain = uneven.quantize(mode, data=data, per_channel=False)
    assert plain.validation.status == "failed" and plain.made.answers.rate < 0.9
    better = uneven.quantize(mode, data=data, per_channel=False, accuracy=0.99)
    assert better.made.answers.rate >= 0.99 and better.validation.status == "verified"
    assert [layer.layer for layer in better.made.kept] == ["spoiled"]
    assert {layer.reason for layer in better.made.kept} == {"worst"} and better.made.kept[0].noise > 0.01
    found = next(f for f in better.validation.findings if f.code == "layers-kept")
    assert "spoiled" in found.sentence and better.made.accuracy == 0.99
    assert better.made.steps[0].startswith("0 of 3 layers in float: cosine")


def test_it_is_better_on_data_that_was_not_searched_on(uneven: Any) -> None:
    from onnx_magic.engine.variants.verifying import sample_cosines

    random = np.random.default_rng(0)
    data, unseen = (random.standard_normal((64, 32)).astype(np.float32) for _ in range(2))
    plain = uneven.quantize("int8-static", data=data, per_channel=False)
    before = plain.run(unseen).outputs  # the search takes the name of the plain one
    better = uneven.quantize("int8-static", data=data, per_channel=False, accuracy=0.99, overwrite=True)
    assert [layer.name for layer in better.made.kept] == ["spoiled"]
    assert any("kept back" in step for step in better.made.steps)
    wanted, after = uneven.run(unseen).outputs, better.run(unseen).outputs
    assert np.mean(sample_cosines(wanted, after, {})) >= 0.99 > 0.9 > np.mean(sample_cosines(wanted, before, {}))


def test_one_that_is_good_enough_already_is_left_alone(sample: Any, texts: list[str]) -> None:
    small = sample.quantize("int8", data=texts, accuracy=0.9)
    assert not small.made.kept and len(small.made.steps) == 3 and small.validation


def test_a_target_that_is_not_reached_fails_and_says_so(uneven: Any) -> None:
    data = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    small = uneven.quantize("int8-static", data=data, accuracy=1.0)
    assert small.validation.status == "failed"
    found = next(f for f in small.validation.findings if f.code == "accuracy-missed")
    assert "accuracy=1 is not reached" in found.sentence and found.fix


def test_the_noise_of_four_bits(tmp_path: Any) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {"even": np.full((32, 4), 0.5), "uneven": np.random.default_rng(0).standard_normal((32, 4)) ** 5}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", name], [f"y_{name}"], name=name) for name in weights],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, ["n", 4]) for name in weights],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    layers = [Layer(name, "MatMul", "", name, ("x", name), 128) for name in weights]
    noise = block_noise(tmp_path / "g.onnx", layers, 32)
    # One value only: it falls on the grid but for the clipping of +8 to +7, an eighth.
    assert noise["even"] == pytest.approx(1 / 64) and 1e-3 < noise["uneven"] < 1 / 64
