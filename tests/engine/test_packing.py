"""The graph's file, the assets beside it, the manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from onnx_magic.engine.packing import (
    build_manifest,
    portable_origin,
    save_graph,
    versions,
    weight_bytes,
    with_data_files,
    write_assets,
)
from onnx_magic.engine.sources import resolve_source
from onnx_magic.errors import StorageError
from onnx_magic.records.artifact import GraphFile, Manifest
from onnx_magic.records.findings import Finding
from onnx_magic.records.plan import Decision, ExportPlan, TensorSpec
from onnx_magic.records.results import Validation

Make = Callable[..., Any]


def small_graph(size: int = 1000) -> onnx_ir.Model:
    """y = x + w, with `size` float32 weights counted from 0."""
    weights = onnx_ir.tensor(np.arange(size, dtype=np.float32), name="w")
    x, y = (onnx_ir.Value(name=n, shape=onnx_ir.Shape([size]), type=onnx_ir.TensorType(weights.dtype)) for n in "xy")
    w = onnx_ir.Value(name="w", const_value=weights)
    graph = onnx_ir.Graph(
        [x], [y], nodes=[onnx_ir.Node("", "Add", [x, w], outputs=[y])], initializers=[w], opset_imports={"": 20}
    )
    return onnx_ir.Model(graph, ir_version=10)


def answer(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones(1000, dtype=np.float32)})[0]


def test_one_file_below_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    assert weight_bytes(small_graph()) == 4000
    assert save_graph(small_graph(), file, limit=4000) == (file,)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    np.testing.assert_array_equal(answer(file), np.arange(1000) + 1)


def test_weights_beside_it_above_the_limit_and_no_more_when_they_fit_again(tmp_path: Path) -> None:
    file, beside = tmp_path / "model.onnx", tmp_path / "model.onnx_data"
    model = small_graph()
    assert save_graph(model, file, limit=3999) == (file, beside)
    assert beside.stat().st_size >= 4000 > file.stat().st_size
    np.testing.assert_array_equal(answer(file), np.arange(1000) + 1)
    assert save_graph(model, file) == (file,)
    assert not beside.exists()
    np.testing.assert_array_equal(answer(file), np.arange(1000) + 1)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for limit in (10**6, 10):
        one, two = (tmp_path / f"{limit}-{name}" / "model.onnx" for name in "ab")
        for file in (one, two):
            file.parent.mkdir()
            save_graph(small_graph(), file, limit=limit)
        assert {p.name: p.read_bytes() for p in one.parent.iterdir()} == {
            p.name: p.read_bytes() for p in two.parent.iterdir()
        }


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        save_graph(small_graph(), tmp_path / "model.onnx")


# Assets


def test_assets_of_a_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    source = resolve_source(tiny_checkpoint)
    folder = tmp_path / "out"
    folder.mkdir()
    source.tokenizer(["a b", "c"], padding=True, truncation=True, max_length=3)
    backend = source.tokenizer.backend_tokenizer
    before = (backend.padding, backend.truncation)
    assert None not in before
    written = write_assets(source, folder)
    assert (backend.padding, backend.truncation) == before
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= {p.name for p in written}
    assert set(written) == set(folder.iterdir())
    rules = json.loads((folder / "tokenizer.json").read_text())
    assert rules["padding"] is None and rules["truncation"] is None
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == ["BertForSequenceClassification"] and config.id2label[1] == "POSITIVE"
    text = "I loved every minute"
    assert AutoTokenizer.from_pretrained(folder)(text) == source.tokenizer(text)


def test_transformers_js_is_told_of_weights_beside_the_graph(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for place, data in ((tmp_path / "small", False), (tmp_path / "large", True)):
        (place / "onnx").mkdir(parents=True)
        (place / "onnx" / "model.onnx").write_bytes(b"")
        if data:
            (place / "onnx" / "model.onnx_data").write_bytes(b"")
        write_assets(resolve_source(str(tiny_checkpoint), None), place)
        told = json.loads((place / "config.json").read_text()).get("transformers.js_config")
        assert told == ({"use_external_data_format": {"model.onnx": True}} if data else None)
    config = {"transformers.js_config": {"dtype": "q4", "use_external_data_format": {"model.onnx": True, "a.onnx": 2}}}
    assert with_data_files(config, ["onnx/model.onnx"]) == {
        "transformers.js_config": {"dtype": "q4", "use_external_data_format": {"a.onnx": 2}}
    }
    assert with_data_files({"a": 1}, ["model.onnx"]) == {"a": 1}


def test_a_tokenizer_that_is_its_json_alone_is_named_as_transformers_4_names_it(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place, folder = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    size = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8}
    LlamaForCausalLM(LlamaConfig(**size, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(place)
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>").save_pretrained(place)
    as_5_writes = json.loads((place / "tokenizer_config.json").read_text())
    assert as_5_writes["tokenizer_class"] == "TokenizersBackend"  # once it is not, _portable_tokenizer can go
    source = resolve_source(place)
    write_assets(source, folder)
    record = json.loads((folder / "tokenizer_config.json").read_text())
    assert record["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert record["model_input_names"] == ["input_ids", "attention_mask"]
    assert not {"is_local", "local_files_only"} & record.keys()
    assert AutoTokenizer.from_pretrained(folder)("a b") == source.tokenizer("a b")


def test_no_path_of_this_machine_is_in_them(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = resolve_source(tiny_checkpoint)
    source.tokenizer.init_kwargs["extra_file"] = str(tiny_checkpoint / "extra.txt")
    source.config.note = f"from {tiny_checkpoint}"
    folder = tmp_path / "out"
    folder.mkdir()
    write_assets(source, folder)
    texts = {p.name: p.read_text() for p in folder.iterdir()}
    assert "extra_file" in texts["tokenizer_config.json"]
    for name, text in texts.items():
        assert str(tmp_path) not in text and os.path.expanduser("~") + "/" not in text, name
    assert source.config.note == f"from {tiny_checkpoint}"  # the live config is not touched


def test_the_live_config_stays_and_a_subclass_is_named_by_its_parent(tiny_bert: Make, tmp_path: Path) -> None:
    model = tiny_bert("SequenceClassification")
    model.__class__ = type("Mine", (type(model),), {})
    before = model.config.to_dict()
    write_assets(resolve_source(model), tmp_path)
    assert model.config.to_dict() == before
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


def test_a_processor_that_cannot_be_loaded_here_is_passed_on(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = resolve_source(tiny_checkpoint)
    (tiny_checkpoint / "preprocessor_config.json").write_text('{"size": 224}')
    folder = tmp_path / "out"
    folder.mkdir()
    write_assets(source, folder)
    assert json.loads((folder / "preprocessor_config.json").read_text()) == {"size": 224}


def test_a_plain_module_has_none(tmp_path: Path) -> None:
    import torch

    assert write_assets(resolve_source(torch.nn.Linear(2, 2)), tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_full_disk_while_writing_them(name: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).symlink_to("/dev/full")
    with pytest.raises(StorageError):
        write_assets(resolve_source(tiny_checkpoint), folder)


# The manifest


def manifest_of(source: Any) -> Manifest:
    inputs = (TensorSpec("input_ids", "int64", ("batch_size", "sequence_length")),)
    outputs = (TensorSpec("logits", "float32", ("batch_size", 2), "output"),)
    graph = GraphFile(Path("/anywhere/attempt-0/model.onnx"), inputs, outputs, 20, 123)
    decisions = (
        Decision("task", source.task, "user"),
        Decision("input_ids[0]", ("batch_size",), "probe"),
        Decision("dtype", np.dtype("int64"), "default"),
        Decision("dynamic", {"x": {0: "n"}}, "user"),
    )
    plan = ExportPlan(source.name, source.task, source.architecture, inputs, outputs, {}, 20, decisions=decisions)
    return build_manifest(
        source,
        plan,
        exporter="dynamo",
        graphs={"model": graph},
        validation=Validation(checked=False, atol={"float32": 1e-4}, rtol={"float32": 1e-3}),
        findings=(Finding("fallback", "the other way", "warning"),),
    )


def test_the_manifest_survives_json_and_tells_no_path(tiny_checkpoint: Path) -> None:
    source = resolve_source(tiny_checkpoint, "sentiment-analysis")
    manifest = manifest_of(source)
    text = json.dumps(manifest.to_json(), allow_nan=False)
    again = Manifest.from_json(json.loads(text))
    assert (again.name, again.task, again.source) == ("tiny-sentiment", "text-classification", "tiny-sentiment")
    assert again.fingerprint == source.fingerprint and again.labels == {"0": "NEGATIVE", "1": "POSITIVE"}
    assert again.axes == {"input_ids": {"0": "batch_size", "1": "sequence_length"}}
    assert again.tolerances == {"atol": {"float32": 1e-4}, "rtol": {"float32": 1e-3}}
    assert again.validated["status"] == "unchecked" and again.findings[0]["code"] == "fallback"
    assert [row["value"] for row in again.decisions] == [
        "text-classification", ["batch_size"], "int64", {"x": {"0": "n"}},
    ]  # fmt: skip
    entry = again.graphs["model"]
    assert (entry["path"], entry["opset"], entry["size"]) == ("model.onnx", 20, 123)
    assert entry["inputs"] == [{"name": "input_ids", "dtype": "int64", "shape": ["batch_size", "sequence_length"]}]
    assert str(tiny_checkpoint.parent) not in text and "anywhere" not in text


def test_the_runtime_reads_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from onnx_magic.engine.storing import write_manifest
    from onnx_magic.runtime.manifests import read_manifest

    manifest = manifest_of(resolve_source(tiny_checkpoint))
    write_manifest(manifest, tmp_path)
    read = read_manifest(tmp_path)
    assert read == manifest


def test_origins_that_may_be_written_down(workdir: Path) -> None:
    (workdir / "models" / "mini").mkdir(parents=True)
    given = ["org/name", "models/mini", str(workdir / "models" / "mini"), "/elsewhere/mini", "../mini", "~/mini", None]
    assert [portable_origin(origin) for origin in given] == [
        "org/name", "models/mini", "models/mini", "mini", "mini", "mini", None,
    ]  # fmt: skip


def test_versions_without_importing_the_libraries() -> None:
    assert {"onnx_magic", "torch", "transformers", "onnx", "onnxruntime", "onnxscript"} <= set(versions())
    code = (
        "import sys; from onnx_magic.engine.packing import versions; versions();"
        "print({'torch', 'onnx', 'onnxruntime', 'transformers'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
