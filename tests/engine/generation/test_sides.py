"""The PyTorch side of a decoder with a past, where all that is there is the folder and the checkpoint it names.

Those of encoder-decoders are in test_encoder_decoders.py, which has them exported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir

import onnx_magic
from onnx_magic.engine.generation.sides import graph_sides
from onnx_magic.engine.reference import run_reference
from onnx_magic.engine.variants import asking


def test_a_loaded_decoder_is_held_against_pytorch_with_its_past(
    make_decoder: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    """At every shape of its export; and a graph that forgets its past is caught."""
    monkeypatch.chdir(tmp_path)
    make_decoder("llama").save_pretrained("checkpoint")
    onnx_magic.export("checkpoint", "text-generation", output="out").release()
    loaded = onnx_magic.load("out")
    half = loaded.quantize("fp16")
    assert half.validation.status == "verified", half.validation.findings
    assert half.made.against == "PyTorch"
    assert not [finding for finding in half.validation.findings if "does not run" in finding.sentence]
    labels = [comparison.label for comparison in half.validation.comparisons]
    assert "step 3, batch 3, left-padded" in labels
    quantize = asking.quantize_graph

    def forgets(*args: Any) -> Any:
        model = quantize(*args)
        for node in model.graph:
            if node.op_type == "Softmax":  # the weights of what is looked back at no longer sum up to 1
                node.attributes.add(onnx_ir.AttrInt64("axis", -2))
        return model

    monkeypatch.setattr(asking, "quantize_graph", forgets)
    assert loaded.quantize("fp16").validation.status == "failed"


def test_a_benchmark_gives_pytorch_the_past_too(exported_decoder: Callable[[str], Any]) -> None:
    exported = exported_decoder("gpt2")
    side = graph_sides(exported.live.model, exported.graphs)["model"]
    assert "past_key_values.1.value" in side.binding.names
    feed = {
        "input_ids": np.array([[5]]),
        "attention_mask": np.ones((1, 4), np.int64),
        "position_ids": np.array([[3]]),
    }
    random = np.random.default_rng(0)
    past = {name: random.normal(size=(1, 4, 3, 8)).astype(np.float32) for name in side.binding.names if "past" in name}
    expected = run_reference(side, {**feed, **past})
    assert expected["present.0.key"].shape == (1, 4, 4, 8)
    other = run_reference(side, {**feed, **{name: -array for name, array in past.items()}})
    assert np.abs(other["logits"] - expected["logits"]).max() > 1e-2, "what the past holds matters"


def test_a_graph_without_a_past_has_no_such_side(exported_decoder: Callable[[str], Any]) -> None:
    graph = exported_decoder("gpt2").graph
    plain = dataclasses.replace(graph, inputs=graph.inputs[:2], outputs=graph.outputs[:1])
    assert graph_sides(exported_decoder("gpt2").live.model, {"model": plain}) == {}
