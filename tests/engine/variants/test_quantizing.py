"""Every mode on the sample model; what is refused; what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_magic
from onnx_magic.engine import packing
from onnx_magic.engine.variants import asking, quantizing
from onnx_magic.engine.variants.modes import MODES
from onnx_magic.errors import ExportError, FeedError, GraphFileError, StorageError, UsageError, VerificationError
from onnx_magic.events import StageStarted, listening
from onnx_magic.runtime.layout import VARIANT_SUFFIXES

FILES = {"int8": 0.30, "int8-static": 0.32, "uint8": 0.30, "fp16": 0.55, "q4": 0.85, "q4f16": 0.48}
"""Mode → share of the float file. sentiment-mini is mostly embeddings, which 4 bits leave in float."""


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_proven_kept_and_found_again(sample: Any, texts: list[str], mode: str) -> None:
    small = sample.quantize(mode, data=texts)
    assert small.validation.status == "verified", small.validation.findings
    assert small.made.against == "PyTorch" and "float-reference" not in {f.code for f in small.validation.findings}
    assert small.graph.size < FILES[mode] * sample.graph.size
    assert small.model_path.name == f"model_{VARIANT_SUFFIXES[mode]}.onnx" and small.variant == mode
    assert small.made.answers.total == len(texts) and small.made.answers.changed <= 3
    assert [spec.dtype for spec in small.outputs] == ["float32"]
    again = onnx_magic.load(sample.path, variant=mode)
    assert again.validation.status == "verified" and again.made == small.made
    assert list(sample.variants) == [mode] and sample.variants[mode].made == small.made
    assert small.run("I loved it").decoded[0]["label"] == "POSITIVE"
    assert again.parent.variant is None and again.parent.model_path == sample.model_path
    assert not [path for path in sample.path.parent.iterdir() if path != sample.path], "nothing else is left"


def test_the_manifest_says_what_was_done(sample: Any) -> None:
    sample.quantize("int8", exclude="bert.pooler,Gather")
    entry = json.loads((sample.path / "onnx_magic.json").read_text())["variants"]["int8"]
    assert entry["graphs"]["model"]["path"] == "onnx/model_quantized.onnx" and entry["parent"] is None
    assert {row["layer"] for row in entry["kept"]} >= {"bert.pooler.dense", "bert.embeddings.word_embeddings"}
    assert entry["tolerance"]["cosine"] == 0.95 and len(entry["fingerprint"]) == 16
    assert entry["changes"]["model"]["before"]["MatMul"] > entry["changes"]["model"]["after"]["MatMul"]
    assert entry["validated"]["status"] == "verified"


def scaled(factor: float) -> Callable[..., Any]:
    """`quantize_graph` with one weight's scale multiplied."""
    whole = asking.quantize_graph

    def broken(*args: Any) -> Any:
        import onnx_ir

        model = whole(*args)
        # Dynamic weights have their scale in an initializer; it is a vector, a scale per channel.
        value = next(v for name, v in model.graph.initializers.items() if name.endswith("_scale"))
        value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(factor), name=value.name)
        return model

    return broken


def test_a_broken_scale_fails_and_is_kept(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "quantize_graph", scaled(30.0))
    broken = sample.quantize("int8")
    assert broken.validation.status == "failed" and broken.model_path.is_file()
    assert {"values-differ", "meaning-differs"} & {f.code for f in broken.validation.failures}
    assert onnx_magic.load(sample.path, variant="int8").validation.status == "failed"
    with pytest.raises(VerificationError):
        broken.require_verified()


def test_a_failed_variant_does_not_take_a_verified_ones_place(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good = sample.quantize("int8")
    before = good.model_path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(asking, "quantize_graph", scaled(30.0))
        broken = sample.quantize("int8")
    assert broken.validation.status == "failed" and broken.model_path.parent.name == "failed"
    assert good.model_path.read_bytes() == before and sample.variants["int8"].validation.status == "verified"
    sample.quantize("int8")
    assert not broken.model_path.exists(), "a good one takes the failed one away"


def test_quantizing_twice_is_refused(sample: Any) -> None:
    small = sample.quantize("q4")
    with pytest.raises(UsageError, match="quantised already") as caught:
        small.quantize("int8")
    assert caught.value.fix.startswith("onnx_magic.load(")
    with pytest.raises(UsageError, match="quantised already"):
        small.optimize()


@pytest.mark.parametrize(
    ("options", "message", "fix"),
    [
        ({"mode": "int9"}, "int9", "mode=int8"),
        ({"mode": "int8-static"}, "needs data", "data=texts"),
        ({"mode": "int8", "accuracy": 0.9}, "measured on your data", "data=texts"),
        ({"mode": "int8", "data": []}, "data is empty", "data="),
        ({"mode": "int8", "exclude": "bert.poler"}, "'bert.poler'", "exclude="),
        ({"mode": "int8", "exclude": "MatMul,Gemm,Gather"}, "nothing is left", "exclude less"),
        ({"mode": "int8", "data": ["good"], "samples": 0}, "samples=0", "samples="),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    sample: Any, options: dict[str, Any], message: str, fix: str
) -> None:
    before = sorted(path.name for path in sample.path.rglob("*"))
    with pytest.raises(UsageError, match=message) as caught:
        sample.quantize(**options)
    assert caught.value.fix.startswith(fix)
    assert sorted(path.name for path in sample.path.rglob("*")) == before and not sample.variants


def test_a_model_without_matmul(export_module: Callable[..., Any]) -> None:
    import torch

    exported = export_module(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()), torch.rand(2, 3, 16, 16))
    for mode in ("q4", "int8"):
        with pytest.raises(UsageError, match="nothing to quantise") as caught:
            exported.quantize(mode)
        assert caught.value.fix == "mode=uint8"
    small = exported.quantize("uint8")
    assert small.validation.status == "verified" and small.graph.operators["ConvInteger"] == 1
    static = exported.quantize("int8-static", data=torch.rand(40, 3, 16, 16))
    assert static.validation.status == "verified" and static.made.answers.kind == "cosine"


def test_int8_leaves_convolutions_that_have_no_kernel(export_module: Callable[..., Any]) -> None:
    import torch

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = torch.nn.Conv1d(4, 8, 3), torch.nn.Linear(8, 64)

        def forward(self, x: Any) -> Any:
            return self.linear(self.conv(x).mean(-1))

    exported = export_module(Both(), torch.randn(2, 4, 32))
    small = exported.quantize("int8")
    assert [(layer.layer, layer.reason) for layer in small.made.kept] == [("conv", "no kernel")]
    assert "layers-kept" in {f.code for f in small.validation.findings} and small.validation


def test_every_layer_is_quantised_or_named(export_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantizer that leaves a layer without a word does not make a variant of it."""
    import torch

    exported = export_module(torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)), torch.randn(4, 8))
    assert exported.quantize("int8").graph.operators["MatMulInteger"] == 2
    part = exported.quantize("int8", exclude="1")
    assert part.graph.operators["MatMulInteger"] == part.graph.operators["MatMul"] == 1
    dynamic = quantizing.ort_tools.quantize_dynamic
    lazy = {"node_linear"}

    def leaves(*args: Any, exclude: Any, **options: Any) -> None:
        dynamic(*args, exclude=[*exclude, *lazy], **options)

    monkeypatch.setattr(quantizing.ort_tools, "quantize_dynamic", leaves)
    small = exported.quantize("int8")
    assert [(layer.node, layer.reason) for layer in small.made.kept] == [("node_linear", "not taken")]
    lazy.add("node_linear_1")
    with pytest.raises(ExportError, match="left all 2 layers"):
        exported.quantize("int8")


@pytest.mark.parametrize("mode", ["int8", "q4"])
def test_a_tied_head_is_quantised_too(export_module: Callable[..., Any], mode: str) -> None:
    """The graph turns the embedding's weight over as it runs: it is no constant, and was left in float."""
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(500, 64)

        def forward(self, ids: Any) -> Any:
            return self.words(ids) @ self.words.weight.T

    torch.manual_seed(0)
    exported = export_module(Tied(), torch.randint(0, 500, (2, 7)))
    assert exported.graph.operators["Transpose"] == 1
    small = exported.quantize(mode)
    assert small.validation.status == "verified" and "Transpose" not in small.graph.operators
    taken = small.graph.operators["MatMulInteger" if mode == "int8" else "com.microsoft.MatMulNBits"]
    assert taken == 1 and not small.made.kept


@pytest.mark.parametrize("mode", ["int8", "int8-static", "q4f16"])
def test_an_old_opset(export_module: Callable[..., Any], tmp_path: Path, mode: str) -> None:
    """Before opset 13 DequantizeLinear has no axis: there a static graph has one scale per weight."""
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)).eval()
    exported = onnx_magic.export(net, inputs=(torch.randn(4, 8),), output=tmp_path / "old", opset=11)
    small = exported.quantize(mode, data=torch.randn(32, 8))
    assert small.validation.status == "verified" and small.graph.opset == 11


def test_a_graph_with_nothing_to_quantise_says_so(export_module: Callable[..., Any]) -> None:
    import torch

    exported = export_module(torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.GELU()), torch.randn(2, 8))
    with pytest.raises(UsageError, match="no such weights at all") as caught:
        exported.quantize("int8")
    assert caught.value.fix == "mode=fp16"
    assert exported.quantize("fp16").validation.status == "verified"


def test_float16_overflow_is_found_and_named(export_module: Callable[..., Any]) -> None:
    import torch

    class Large(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.blown, self.last = (torch.nn.Linear(16, 16) for _ in range(3))
            with torch.no_grad():
                self.blown.weight.mul_(1e6)

        def forward(self, x: Any) -> Any:
            return self.last(self.blown(self.first(x)) / 1e6)

    half = export_module(Large(), torch.randn(4, 16)).quantize("fp16")
    assert half.validation.status == "verified"
    found = [f for f in half.validation.findings if f.code == "half-overflow"]
    assert found and found[0].layer == "blown" and found[0].level == "warning"
    # What reads the value stays too: its input would be cast.
    assert [(layer.layer, layer.operator) for layer in half.made.kept] == [("blown", "Gemm"), ("", "Div")]


def test_weights_in_another_file_in_and_out(sample: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As above 2 GB: the limit is lowered, and the float graph's weights lie beside it."""
    import onnx_ir

    monkeypatch.setattr(packing, "SINGLE_FILE_LIMIT", 1000)
    packing.save_graph(onnx_ir.load(sample.model_path), sample.model_path, limit=1000)
    plain = onnx_magic.load(sample.path)
    plain.opened.manifest.graphs["model"].update(size=plain.graph.size)
    for mode in MODES:
        small = plain.quantize(mode, data=texts[:8])
        assert small.validation.status == "verified", (mode, small.validation.findings)
        beside = small.model_path.with_name(f"{small.model_path.name}_data")
        assert beside.is_file() and small.model_path.stat().st_size < 300_000
        assert small.graph.size == small.model_path.stat().st_size + beside.stat().st_size
        assert small.graph.size < FILES[mode] * plain.graph.size
    told = json.loads((plain.path / "config.json").read_text())["transformers.js_config"]["use_external_data_format"]
    assert told["model_quantized.onnx"] is True and len(told) == len(MODES), "transformers.js does not look itself"
    best = plain.optimize()
    assert best.validation and best.model_path.with_name("model_optimized.onnx_data").is_file()
    # Below the limit again, the other file goes.
    monkeypatch.setattr(packing, "SINGLE_FILE_LIMIT", 1 << 30)
    again = plain.quantize("int8")
    assert again.validation and not again.model_path.with_name("model_quantized.onnx_data").exists()
    told = json.loads((plain.path / "config.json").read_text())["transformers.js_config"]["use_external_data_format"]
    assert "model_quantized.onnx" not in told and "model_fp16.onnx" in told


@pytest.mark.parametrize("stage", ["quantize", "verify", "store"])
def test_an_interrupt_leaves_nothing_behind(sample: Any, stage: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in sample.path.rglob("*")}

    def interrupt(event: Any) -> None:
        if isinstance(event, StageStarted) and event.name == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(interrupt):
        sample.quantize("int8")
    assert {path: path.stat().st_mtime_ns for path in sample.path.rglob("*")} == before
    assert list(sample.path.parent.iterdir()) == [sample.path]
    assert sample.quantize("int8").validation, "the lock is free again"


def test_a_variant_that_was_deleted_meanwhile(sample: Any) -> None:
    small = sample.quantize("fp16")
    small.model_path.unlink()
    assert not sample.variants
    with pytest.raises(GraphFileError, match="is gone") as caught:
        small.run("good")
    assert caught.value.fix == "exported.quantize('fp16')"
    with pytest.raises(GraphFileError, match="is gone") as caught:
        onnx_magic.load(sample.path, variant="fp16")
    assert caught.value.fix == "exported.quantize('fp16')"


def test_a_file_that_is_not_ours_is_not_overwritten(sample: Any) -> None:
    stranger = sample.path / "onnx" / "model_quantized.onnx"
    stranger.write_bytes(sample.model_path.read_bytes())
    with pytest.raises(StorageError, match="did not write it"):
        sample.quantize("int8")
    assert sample.quantize("int8", overwrite=True).validation


def test_a_model_that_changed_is_refused_and_one_that_is_gone_is_said(
    export_module: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
    exported = export_module(model, torch.randn(4, 8))
    assert exported.quantize("int8").made.against == "PyTorch"
    exported_again = onnx_magic.load(exported.path)
    small = exported_again.quantize("int8")
    assert small.made.against == "the float graph" and small.validation
    assert [f.code for f in small.validation.findings if f.level == "note"] == ["float-reference"]
    with torch.no_grad():
        model[0].weight.add_(1)
    with pytest.raises(VerificationError, match="has changed"):
        exported.quantize("int8")


def test_other_weights_make_variants_stale(export_module: Callable[..., Any]) -> None:
    import torch

    exported = export_module(torch.nn.Linear(8, 32), torch.randn(4, 8))
    exported.quantize("int8")
    again = export_module(torch.nn.Linear(8, 32), torch.randn(4, 8))
    assert again.path == exported.path
    stale = again.variants["int8"]
    assert stale.validation.status == "unchecked" and stale.validation.findings[0].code == "variant-stale"
    assert again.quantize("int8").validation.status == again.variants["int8"].validation.status == "verified"


def test_the_old_scripts_layout(sample_checkpoint: Path, tmp_path: Path) -> None:
    """Export, optimize, quantize what was optimized, check that all load: the script's `--quantize --check-loading`."""
    exported = onnx_magic.export(str(sample_checkpoint), output=tmp_path / "bert.onnx", optimize="all", quantize="int8")
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == [
        "bert-optimized.onnx", "bert-quantized.onnx", "bert.onnx",
    ]  # fmt: skip
    assert exported.validation and all(variant.validation for variant in exported.variants.values())
    assert exported.variants["int8"].parent.variant == "optimized"
    assert onnx_magic.load(tmp_path / "bert-quantized.onnx").run("I loved it").decoded[0]["label"] == "POSITIVE"


def test_wanted_variants_are_looked_at_before_the_export(sample_checkpoint: Path, tmp_path: Path) -> None:
    for options in ({"quantize": "int8-static"}, {"quantize": "int9"}, {"optimize": "most"}):
        with pytest.raises(UsageError):
            onnx_magic.export(str(sample_checkpoint), output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def matmul(path: Path, name: str, seed: int) -> None:
    """`name` times a constant matrix: a small part of an encoder-decoder."""
    weight = np.random.default_rng(seed).standard_normal((32, 48)).astype(np.float32)
    node = helper.make_node("MatMul", [name, "weight"], ["states"], name="times")
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch_size", s]) for n, s in ((name, 32), ("states", 48))
    ]
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_every_graph_of_a_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    matmul(tmp_path / "onnx" / "encoder_model.onnx", "x", 0)
    matmul(tmp_path / "onnx" / "decoder_model_merged.onnx", "y", 1)
    (tmp_path / "config.json").write_text("{}")
    both = onnx_magic.load(tmp_path)
    small = both.quantize("int8")
    assert set(small.graphs) == {"encoder", "decoder"} == set(both.graphs) and small.validation.status == "verified"
    assert {g.path.name for g in small.graphs.values()} == {
        "encoder_model_quantized.onnx", "decoder_model_merged_quantized.onnx",
    }  # fmt: skip
    assert all(g.operators["MatMulInteger"] == 1 for g in small.graphs.values())
    assert set(both.variants["int8"].graphs) == {"encoder", "decoder"}
    assert {c.label.partition(":")[0] for c in small.validation.comparisons} == {"encoder", "decoder"}
    # There is no manifest to note it in: the file itself says that it is ours, and may be made again.
    assert both.quantize("int8").validation
    with pytest.raises(FeedError, match="takes no text"):
        both.quantize("int8", data=["a"])
    rows = np.ones((2, 32), np.float32)
    with pytest.raises(UsageError, match="expected an encoder and a decoder that writes tokens"):
        both.quantize("int8", data={"x": rows})
    with pytest.raises(UsageError, match="expected an encoder and a decoder that writes tokens"):
        both.compare({"x": rows}, against=both)


def test_weights_in_a_file_of_any_name_come_along(tmp_path: Path) -> None:
    """As others write them; and scores of a graph without a task are no answers to count."""
    weight = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "weight"], ["logits"], name="times")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size", "sequence_length", size])
        for name, size in (("x", 32), ("logits", 48))
    )
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "weights").mkdir()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights/w.bin", size_threshold=0)
    small = onnx_magic.load(tmp_path / "m.onnx").quantize("int8")
    assert small.validation.status == "verified" and small.graph.operators["MatMulInteger"] == 1
    assert all(comparison.agreement is None for comparison in small.validation.comparisons)
