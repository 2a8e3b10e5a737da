"""Which way of optimising is taken, what is said when nothing changed, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import onnx_magic
from onnx_magic.engine.variants import optimizing
from onnx_magic.engine.variants.optimizing import attention_size
from onnx_magic.errors import UsageError


def codes(exported: Any) -> set[str]:
    return {finding.code for finding in exported.validation.findings}


def test_the_way_that_leaves_the_fewest_nodes_is_taken(sample: Any) -> None:
    best = sample.optimize()
    assert best.validation.status == "verified" and best.made.against == "PyTorch"
    assert best.graph.nodes < sample.graph.nodes and best.graph.operators["com.microsoft.BiasGelu"] == 2
    assert best.made.options["heads"] == 4 and best.made.options["hidden"] == 128
    told = " | ".join(best.made.steps)
    assert "onnxruntime.transformers was not taken: 124 to " in told and "the fewest nodes" in told
    assert "provider-bound" in codes(best) and best.made.provider is None
    assert best.model_path.name == "model_optimized.onnx" and sample.variants["optimized"].made == best.made
    small = best.quantize("int8")
    assert small.validation and small.made.parent == "optimized" and small.parent is best


def test_onnxs_own_checker_takes_it(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With shape inference; and as transformers' fusions leave it, it would not (then the workaround can go)."""
    import onnx_ir
    from onnx import ModelProto, checker
    from onnx.shape_inference import InferenceError
    from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

    checker.check_model(ModelProto.FromString(sample.optimize().model_path.read_bytes()), full_check=True)
    theirs = onnx_ir.load(sample.model_path)
    fuse_for_onnxruntime(theirs, "cpu")
    with pytest.raises(InferenceError):
        checker.check_model(onnx_ir.to_proto(theirs), full_check=True)


def test_a_way_that_does_not_verify_is_not_taken(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the better way is broken, and the other one is taken."""
    import numpy as np
    import onnx_ir

    fuse = optimizing.hf_exporters.fuse_for_runtime

    def broken(model: Any, provider: str) -> None:
        fuse(model, provider)
        value = model.graph.initializers["classifier.bias"]
        value.const_value = onnx_ir.tensor(value.const_value.numpy() + np.float32(1.0), name=value.name)

    monkeypatch.setattr(optimizing.hf_exporters, "fuse_for_runtime", broken)
    best = sample.optimize()
    assert best.validation.status == "verified"
    assert best.made.steps[0].startswith("onnxruntime.transformers was taken, it verifies")
    assert "its graph does not verify: logits is off by 1" in best.made.steps[1] or "values" in best.made.steps[1]


def test_a_way_that_raises_is_said(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise ImportError("no such fusions in this version")

    monkeypatch.setattr(optimizing.hf_exporters, "fuse_for_runtime", fails)
    assert "no such fusions" in sample.optimize().made.steps[1]
    monkeypatch.setattr(optimizing.ort_tools, "fuse_transformer", fails)
    plain = sample.optimize(disable="BiasGelu")
    assert plain.validation.status == "verified" and plain.made.steps[2].startswith("ONNX Runtime, level basic was ")
    monkeypatch.setattr(optimizing.ort_tools, "optimize_session", fails)
    with pytest.raises(UsageError, match="could not be optimized") as caught:
        sample.optimize()
    assert caught.value.fix == "level=basic"


def test_single_fusions_are_switched_off(sample: Any) -> None:
    for level in ("fusions", "extended"):
        whole = sample.optimize(level)
        assert "com.microsoft.BiasGelu" in whole.graph.operators
        part = sample.optimize(level, disable="BiasGelu")
        assert part.validation and "com.microsoft.BiasGelu" not in part.graph.operators
        assert part.graph.nodes > whole.graph.nodes, "the other fusions are made"
        assert part.made.options["disable"] == ["BiasGelu"]
    with pytest.raises(UsageError, match="no fusion 'BiasGelo'") as caught:
        sample.optimize(disable=("BiasGelo",))
    assert caught.value.fix == "disable=BiasGelu"


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_onnx_runtimes_own_levels(sample: Any, level: str) -> None:
    best = sample.optimize(level)
    assert best.validation.status == "verified" and best.made.title == f"optimized, {level}"
    assert best.graph.size < 1.05 * sample.graph.size
    assert ("com.microsoft.FusedMatMul" in best.graph.operators) == (level != "basic")


def test_convolutions_at_level_all_are_bound_to_the_cpu(export_module: Callable[..., Any]) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3))
    exported = export_module(net, torch.rand(2, 8, 12, 12))
    best = exported.optimize("all")
    assert best.validation.status == "verified"
    # ONNX Runtime's blocked layout is for x64; elsewhere nothing of it is in the graph.
    blocked = any(name.startswith("com.microsoft.nchwc") for name in best.graph.operators)
    assert (best.made.provider == "CPUExecutionProvider") == blocked
    if blocked:
        assert "for machines like this one" in next(
            f.sentence for f in best.validation.findings if f.code == "provider-bound"
        )


def test_no_known_pattern_changes_nothing_and_says_so(export_module: Callable[..., Any]) -> None:
    import torch

    exported = export_module(torch.nn.Linear(8, 4), torch.randn(2, 8))
    best = exported.optimize()
    assert best.validation.status == "verified" and "nothing-changed" in codes(best) and not best.made.changed
    assert "nothing changed" in best.made.steps[0]


def test_what_cannot_be_meant_is_refused(sample: Any) -> None:
    with pytest.raises(UsageError, match="level 'fusion' is not known") as caught:
        sample.optimize("fusion")
    assert caught.value.fix == "level=fusions"
    with pytest.raises(UsageError, match="'cuda' is not in this ONNX Runtime"):
        sample.optimize(provider="cuda")
    assert not sample.variants


def test_a_bare_file_is_optimized_beside_itself(sample: Any, tmp_path: Any) -> None:
    import shutil

    shutil.copy(sample.model_path, tmp_path / "bert.onnx")
    best = onnx_magic.load(tmp_path / "bert.onnx").optimize("extended")
    assert best.model_path.name == "bert-optimized.onnx" and best.made.against == "the float graph"
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["bert-optimized.onnx", "bert.onnx"]


def test_heads_and_hidden_size_are_read_from_the_config() -> None:
    assert attention_size({"num_attention_heads": 12, "hidden_size": 384}) == (12, 384)
    assert attention_size({"text_config": {"num_attention_heads": 8, "hidden_size": 64}}) == (8, 64)
    assert attention_size({}) == (0, 0)
