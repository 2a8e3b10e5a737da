"""Variants of encoder-decoders: both branches of a merged decoder, a pair of files, the user's data through all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

import onnx_magic
from onnx_magic.engine.variants import asking, optimizing, quantizing
from onnx_magic.errors import UsageError
from tests.engine.encoder_decoders import made, reading_feed


@pytest.mark.parametrize("mode", ["int8", "q4f16"])
def test_both_branches_of_a_merged_decoder_are_quantised(
    exports: Callable[..., Any], tmp_path: Path, mode: str
) -> None:
    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    small = plain.quantize(mode)
    before, after = (onnx_ir.load(each.graphs["decoder"].path).graph for each in (plain, small))
    assert [value.name for value in after.inputs] == [value.name for value in before.inputs]
    assert [str(value.shape) for value in after.outputs] == [str(value.shape) for value in before.outputs]
    counts = {}
    for branch in ("then_branch", "else_branch"):
        nodes = [list(_choice(graph).attributes[branch].as_graph().all_nodes()) for graph in (before, after)]
        products = [sum(node.op_type == "MatMul" for node in each) for each in nodes]
        counts[branch] = sum(node.op_type in ("MatMulInteger", "MatMulNBits") for node in nodes[1])
        assert counts[branch] == products[0] - products[1] > 8, "those with weights; attention's own stay in float"
    assert counts["else_branch"] > counts["then_branch"], "the first step makes the encoder's keys and values too"
    weights = [
        v.const_value.tobytes() for v in after.initializers.values() if v.const_value and v.const_value.size > 99
    ]
    assert len(weights) == len(set(weights)) < sum(counts.values()), "a weight of both branches stands there once"
    assert small.generate(input_ids=[[5, 6, 7]], max_new_tokens=4).shape == (1, 5)
    titles = [step.partition(":")[0] for step in small.made.steps if " weights of" in step]
    assert titles == ["encoder", "decoder, first step", "decoder, with a cache"]


def test_a_loaded_pair_of_decoders_is_quantised_and_held_against_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second's weights lie in the first one's file; the model is found by the path in the manifest."""
    monkeypatch.chdir(tmp_path)
    made("marian").save_pretrained("checkpoint")
    onnx_magic.export("checkpoint", output="out", merge=False).release()
    small = onnx_magic.load("out").quantize("int8")
    assert small.validation.status == "verified", small.validation.findings
    assert small.made.against == "PyTorch" and set(small.graphs) == {"encoder", "decoder", "decoder_with_past"}


def test_data_calibrates_each_graph_and_counts_tokens(
    exports: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    data = [reading_feed(plain)] * 2
    small = plain.quantize("int8-static", data=data)
    for role in ("encoder", "decoder"):
        operators = small.graphs[role].operators
        assert operators["QuantizeLinear"] > 4 and operators["DequantizeLinear"] > 4, role
    titles = [step.partition(":")[0] for step in small.made.steps if " weights of" in step]
    assert titles == ["encoder", "decoder, first step", "decoder, with a cache"]
    answers = small.made.answers
    assert answers.kind == "token" and answers.total == 32, "two feeds of two samples, eight tokens each"
    assert plain.quantize("fp16", data=data).made.answers.changed == 0
    quantize = asking.quantize_graph

    def broken(*args: Any) -> Any:
        model = quantize(*args)
        for value in model.graph.initializers.values():
            if (
                value.const_value is not None
                and value.const_value.size > 99
                and value.const_value.dtype.is_floating_point()
            ):
                value.const_value = onnx_ir.tensor(-value.const_value.numpy(), name=value.name)
        return model

    monkeypatch.setattr(asking, "quantize_graph", broken)
    assert plain.quantize("fp16", data=data).made.answers.changed > 2
    with pytest.raises(UsageError, match="accuracy= searches the layers of one graph"):
        plain.quantize("int8", data=data, accuracy=0.9)


def test_a_module_of_one_graph_alone_is_left_out(exports: Callable[..., Any], tmp_path: Path) -> None:
    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    small = plain.quantize("int8", exclude="lm_head")
    assert {layer.name for layer in small.made.kept} == {"lm_head"}
    whole = plain.quantize("int8", exclude=["decoder", "lm_head"], overwrite=True)
    assert whole.validation.status == "verified" and "MatMulInteger" in whole.graphs["encoder"].operators
    assert "MatMulInteger" not in whole.graphs["decoder"].operators
    with pytest.raises(UsageError, match="is called 'lm_heat'"):
        plain.quantize("int8", exclude="lm_heat")


def test_what_was_optimized_is_quantised(exports: Callable[..., Any], tmp_path: Path) -> None:
    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    small = plain.optimize().quantize("int8")
    assert small.validation.status == "verified", small.validation.findings
    assert small.made.parent == "optimized"


@pytest.mark.parametrize("name", ["t5", "whisper"])
def test_both_branches_of_a_merged_decoder_are_optimized(
    exports: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    plain = onnx_magic.load(shutil.copytree(exports(name)[1].path, tmp_path / "out"))
    best = plain.optimize()
    assert best.validation.status == "verified", best.validation.findings
    assert best.made.tokens.same == best.made.tokens.total > 0
    before, after = (onnx_ir.load(each.graphs["decoder"].path).graph for each in (plain, best))
    assert [value.name for value in after.inputs] == [value.name for value in before.inputs]
    for branch in ("then_branch", "else_branch"):
        nodes = [list(_choice(graph).attributes[branch].as_graph().all_nodes()) for graph in (before, after)]
        assert any(node.domain == "com.microsoft" for node in nodes[1])
    assert best.graphs["decoder"].nodes < plain.graphs["decoder"].nodes
    steps = {comparison.label.partition(",")[0] for comparison in best.validation.comparisons}
    assert {"decoder: first step", "decoder: with a cache"} < steps


def test_ways_that_break_a_merged_decoder_are_not_taken(
    exports: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own basic level, which takes subgraphs as they are, stands in for both."""

    def broken(model: onnx_ir.Model, *_: Any) -> None:
        model.graph.outputs[0].name = "lost"

    def fails(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(optimizing.hf_exporters, "fuse_for_runtime", broken)
    monkeypatch.setattr(optimizing.ort_tools, "fuse_transformer", fails)
    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    best = plain.optimize()
    assert best.validation.status == "verified", best.validation.findings
    assert any(step.startswith("decoder: ONNX Runtime, level basic was taken") for step in best.made.steps)


def test_a_variant_that_is_wrong_with_a_cache_alone_fails(
    exports: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the cases: the first step is right."""
    quantize = asking.quantize_graph

    def broken(source: Any, *rest: Any) -> Any:
        model = quantize(source, *rest)
        if "decoder-cached" in source.path.parts:
            for value in model.graph.initializers.values():
                if value.const_value is not None and value.shape is not None and value.shape.rank() == 1:
                    array = value.const_value.numpy()
                    if array.size == 16 and array.dtype == np.float16:  # a norm's scale
                        value.const_value = onnx_ir.tensor(array * np.float16(1.5), name=value.name)
        return model

    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    assert plain.quantize("fp16").validation.status == "verified"
    monkeypatch.setattr(asking, "quantize_graph", broken)
    verdict = plain.quantize("fp16").validation
    assert verdict.status == "failed"
    wrong = [comparison.label for comparison in verdict.comparisons if not comparison]
    assert wrong and all(label.startswith("decoder: with a cache") for label in wrong)


def test_buckets_of_positions_are_counted_in_float32(
    exports: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T5 takes the logarithm of a distance and rounds it down: in float16 it falls into other buckets."""
    plain = onnx_magic.load(shutil.copytree(exports("t5")[1].path, tmp_path / "out"))
    half = plain.quantize("fp16")
    assert half.validation.status == "verified", half.validation.findings
    assert any("nodes that count positions" in step for step in half.made.steps)
    monkeypatch.setattr(quantizing, "counting_nodes", lambda _model: [])
    assert plain.quantize("fp16").validation.status == "failed"


def _choice(graph: onnx_ir.Graph) -> onnx_ir.Node:
    return next(node for node in graph if node.op_type == "If")
