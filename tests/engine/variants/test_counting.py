"""Positions stay exact in float16 variants, beyond what float16 counts; and the workarounds are still needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

import onnx_magic
from onnx_magic.engine.adapters import ort_tools
from onnx_magic.engine.variants import quantizing
from onnx_magic.engine.variants.counting import counting_nodes

FAR = 3000


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny llama that has positions beyond 2,048, exported."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=120, max_position_embeddings=4096, **sizes)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 if "emb" in name else 1.5 / parameter.shape[-1] ** 0.5)
    exported = onnx_magic.export(model, output=tmp_path_factory.mktemp("counting") / "llama-onnx")
    exported.release()
    return exported


def far_logits(exported: Any) -> np.ndarray:
    """Logits of 3,000 tokens: the angle between the first and the last is what float16 cannot hold."""
    import onnxruntime

    random = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(exported.model_path)
    feed = {
        "input_ids": random.integers(3, 120, (1, FAR)),
        "attention_mask": np.ones((1, FAR), np.int64),
        "position_ids": np.arange(FAR)[None],
    }
    for value in session.get_inputs():
        if value.name not in feed:
            feed[value.name] = np.zeros((1, 4, 0, 8), np.float32)
    return session.run(["logits"], feed)[0]


def test_far_positions_are_exact_in_float16(decoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within float16's own error, 5e-3 of logits of size 1.5; without the rule eight times as far."""
    expected = far_logits(decoder)
    half = decoder.quantize("fp16")
    assert half.validation.status == "verified", half.validation.findings
    assert any("nodes that count positions" in step for step in half.made.steps)
    near = np.abs(far_logits(half) - expected).mean()
    monkeypatch.setattr(quantizing, "counting_nodes", lambda _model: [])
    far = np.abs(far_logits(decoder.quantize("fp16")) - expected).mean()
    assert near < 5e-3 and far > 4 * near


def test_what_counts_and_what_does_not(decoder: Any) -> None:
    """Angles do, embeddings and masks do not."""
    model = onnx_ir.load(decoder.model_path)
    operators = [node.op_type for node in counting_nodes(model)]
    assert operators.count("Cos") == operators.count("Sin") == 1 and "Cast" in operators
    assert "Softmax" not in operators and len(operators) < 12
    tokens = next(node for node in model.graph if node.op_type == "Gather" and node.inputs[1].name == "input_ids")
    assert tokens not in counting_nodes(model)


def test_masks_and_layers_end_what_counts(export_module: Callable[..., Any]) -> None:
    """A mask's "never" and a layer's weights: what follows them is no position any more."""
    import torch

    class Times(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, steps: Any, mask: Any) -> Any:
            angles = torch.sin(steps.float()[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001]))
            return self.layer(angles) + (1.0 - mask.float())[:, None] * -3.4e38

    mask = torch.ones(5, dtype=torch.int64)
    exported = export_module(Times(), torch.arange(5), mask)
    assert exported.validation, exported.validation.findings
    operators = [node.op_type for node in counting_nodes(onnx_ir.load(exported.model_path))]
    assert "Sin" in operators and not {"Gemm", "MatMul"} & {*operators}
    assert operators.count("Mul") == 1, "the angles; not the mask's"
    assert exported.quantize("fp16").validation.status == "verified"


def test_a_sum_at_places_has_no_float16_kernel(export_module: Callable[..., Any]) -> None:
    """Mixtures of experts add up so; and ONNX Runtime still stops there (then the rule can go)."""
    import onnxruntime
    import torch

    class Places(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x: Any, places: Any) -> Any:
            return torch.zeros_like(x).scatter_add(0, places, self.layer(x))

    random = np.random.default_rng(0)
    x, places = torch.randn(6, 4), torch.from_numpy(random.integers(0, 2, (6, 4)))
    exported = export_module(Places(), x, places)
    half = exported.quantize("fp16")
    assert half.validation.status == "verified", half.validation.findings
    assert "ScatterElements" in half.made.steps[0]
    theirs = ort_tools.to_float16(exported.model_path, nodes=[])
    feed = dict(zip([spec.name for spec in exported.inputs], (x.numpy(), places.numpy()), strict=True))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(theirs.SerializeToString(), options)
    with pytest.raises(Exception, match="MLFloat16 data type is not supported with ScatterElements"):
        session.run(None, feed)


def test_onnx_runtimes_converter_still_casts_twice(tmp_path: Path) -> None:
    """A value that two nodes in float32 read: one Cast too many, under the same name (then ours can go)."""
    import onnx
    from onnx import TensorProto, helper
    from onnxruntime.transformers.float16 import convert_float_to_float16

    names = ("x", "sine", "cosine")
    x, sine, cosine = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in names)
    nodes = [
        helper.make_node("Relu", ["x"], ["y"], "relu"),
        helper.make_node("Sin", ["y"], ["sine"], "sin"),
        helper.make_node("Cos", ["y"], ["cosine"], "cos"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [sine, cosine]), ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    theirs = convert_float_to_float16(str(tmp_path / "m.onnx"), keep_io_types=True, node_block_list=["sin", "cos"])
    made = [name for node in theirs.graph.node for name in node.output]
    assert len(made) > len(set(made))
    ours = ort_tools.to_float16(tmp_path / "m.onnx", nodes=["sin", "cos"])
    made = [name for node in ours.graph.node for name in node.output]
    assert len(made) == len(set(made))
