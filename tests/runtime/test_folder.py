from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_magic.errors import GraphFileError, UsageError
from onnx_magic.records.artifact import MANIFEST_NAME, Manifest
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Agreement, Comparison, OutputDiff, Validation
from onnx_magic.records.serial import validation_to_json
from onnx_magic.runtime.folder import OpenedFolder, open_folder
from onnx_magic.runtime.graphs import read_graph
from onnx_magic.runtime.layout import VARIANT_SUFFIXES

Write = Callable[..., Path]

DIFF = OutputDiff("logits", (1, 2), (1, 2), "float32", "float32", 1e-7, 1e-6, 1.0, 1e-4, 1e-3, True, True, (0, 1))
VERIFIED = Validation((Comparison("traced", {"input_ids": (1, 3)}, (DIFF,), Agreement("label", 1, 1)),))


def write_manifest(folder: Path, path: str = "onnx/model.onnx", **changes: Any) -> None:
    manifest = Manifest(
        name="tiny",
        task="text-classification",
        architecture="BertForSequenceClassification",
        source=None,
        fingerprint="f",
        exporter="dynamo",
        graphs={"model": {"path": path, "opset": 18}},
        labels={"0": "BAD", "1": "GOOD"},
        validated=validation_to_json(VERIFIED),
        decisions=({"subject": "task", "value": "text-classification", "by": "user", "reason": ""},),
    )
    (folder / MANIFEST_NAME).write_text(json.dumps({**manifest.to_json(), **changes}))


@pytest.fixture
def exported(text_folder: Write) -> Path:
    folder = text_folder("BertForSequenceClassification", id2label={"0": "NEGATIVE", "1": "POSITIVE"})
    write_manifest(folder)
    return folder


def test_an_exported_folder_has_all_of_it(exported: Path) -> None:
    opened = open_folder(exported)
    assert (opened.folder, opened.name, opened.task, opened.variant) == (exported, "tiny", "text-classification", None)
    assert opened.labels == {0: "BAD", 1: "GOOD"}
    assert opened.graph.path == exported / "onnx" / "model.onnx" and opened.graphs == {"model": opened.graph}
    assert opened.validation.status == "verified" and opened.validation == VERIFIED
    assert opened.tokenizer is opened.tokenizer is not None and opened.image_processor is None
    report = opened.report
    assert (report.name, report.exporter, report.architecture) == ("tiny", "dynamo", "BertForSequenceClassification")
    assert report.validation.status == "verified" and report.decisions[0].by == "user"
    assert "text-classification" in repr(opened)


@pytest.mark.parametrize("part", ["onnx", "onnx/model.onnx"])
def test_the_subfolder_and_the_file_are_the_same_folder(exported: Path, part: str) -> None:
    opened = open_folder(exported / part)
    assert (opened.folder, opened.name, opened.validation.status) == (exported, "tiny", "verified")
    assert opened.tokenizer is not None


def test_from_within_the_subfolder(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported / "onnx")
    assert open_folder(Path(".")).name == open_folder(Path("model.onnx")).name == "tiny"


def test_sessions_are_kept_until_closed(exported: Path) -> None:
    opened = open_folder(exported)
    session = opened.session()
    assert opened.session("cpu") is session
    opened.close()
    assert opened.session() is not session
    with pytest.raises(UsageError, match="CPUExecutionProvider"):
        opened.session("cuda9")


def test_optimums_layout_needs_no_manifest(exported: Path) -> None:
    (exported / MANIFEST_NAME).unlink()
    (exported / "onnx" / "model.onnx").rename(exported / "model.onnx")
    (exported / "onnx").rmdir()
    opened = open_folder(exported)
    assert (opened.name, opened.task) == ("tiny", "text-classification")
    assert opened.labels == {0: "NEGATIVE", 1: "POSITIVE"} and opened.tokenizer is not None
    assert opened.validation.status == "unchecked" and opened.manifest is None


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("RobertaForTokenClassification", "token-classification"),
        ("DistilBertForQuestionAnswering", "question-answering"),
        ("BertForMaskedLM", "fill-mask"),
        ("BertForMultipleChoice", "multiple-choice"),
        ("ViTForImageClassification", "image-classification"),
        ("BertModel", "feature-extraction"),
        ("SomethingElse", None),
    ],
)
def test_the_task_comes_from_the_architecture(text_folder: Write, architecture: str, task: str | None) -> None:
    assert open_folder(text_folder(architecture)).task == task


def test_a_bare_file_with_nothing_beside_it(tmp_path: Path, make_linear: Write) -> None:
    onnx.save(make_linear(), tmp_path / "bert.onnx")
    for path in (tmp_path / "bert.onnx", tmp_path):
        opened = open_folder(path)
        assert (opened.task, opened.labels, opened.tokenizer, opened.manifest) == (None, {}, None, None)
        assert opened.graph.path == tmp_path / "bert.onnx" and opened.validation.status == "unchecked"
    assert open_folder(tmp_path / "bert.onnx").name == "bert"


def test_the_old_scripts_layout(tmp_path: Path, make_linear: Write) -> None:
    """`x/bert.onnx` with its optimized and quantized kin and the manifest beside it."""
    for name in ("bert", "bert-optimized", "bert-quantized", "other"):
        onnx.save(make_linear(), tmp_path / f"{name}.onnx")
    write_manifest(tmp_path, "bert.onnx")
    opened = open_folder(tmp_path)
    assert opened.graph.path.name == "bert.onnx" and opened.validation.status == "verified"
    quantized = open_folder(tmp_path, "quantized")
    assert quantized.graph.path.name == "bert-quantized.onnx" and quantized.variant == "int8"
    assert open_folder(tmp_path / "bert-optimized.onnx").variant == "optimized"
    # A neighbour that the manifest does not speak of takes nothing from it.
    other = open_folder(tmp_path / "other.onnx")
    assert (other.manifest, other.task, other.name) == (None, None, "other")


def copy_variants(folder: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / f"model{suffix}.onnx")


@pytest.mark.parametrize(("variant", "suffix"), VARIANT_SUFFIXES.items())
def test_variants_are_found_by_their_suffix(exported: Path, variant: str, suffix: str) -> None:
    copy_variants(exported, f"_{suffix}")
    opened = open_folder(exported, variant)
    assert opened.variant == opened.report.variant == variant
    assert opened.graph.path.name == f"model_{suffix}.onnx"
    assert open_folder(opened.graph.path).variant == variant
    assert open_folder(exported).variant is None


def test_q8_is_what_transformers_js_calls_quantized(exported: Path) -> None:
    copy_variants(exported, "_quantized")
    assert open_folder(exported, "q8").variant == open_folder(exported, "quantized").variant == "int8"


def test_int8_is_the_dynamic_one_and_the_static_one_where_that_is_alone(exported: Path) -> None:
    copy_variants(exported, "_int8")
    assert open_folder(exported, "int8").variant == "int8-static"
    copy_variants(exported, "_quantized")
    assert open_folder(exported, "int8").graph.path.name == "model_quantized.onnx"


def test_a_variant_that_is_not_there_names_those_that_are(exported: Path) -> None:
    with pytest.raises(UsageError, match="the plain export only"):
        open_folder(exported, "fp16")
    copy_variants(exported, "_int8", "_q4")
    with pytest.raises(UsageError, match="'fp16': it has int8-static, q4") as caught:
        open_folder(exported, "fp16")
    assert caught.value.fix == "variant=int8-static"


def test_the_verdict_is_of_the_very_file(exported: Path) -> None:
    """The plain export's verdict says nothing of a variant, nor of a file that was put in its place."""
    copy_variants(exported, "_int8")
    assert open_folder(exported, "int8").validation.status == "unchecked"
    entry = {"path": "onnx/model_int8.onnx"}
    record = {"graphs": {"model": entry}, "validated": validation_to_json(VERIFIED)}
    write_manifest(exported, variants={"int8-static": record})
    assert open_folder(exported, "int8").validation.status == "verified"
    size = (exported / "onnx" / "model.onnx").stat().st_size
    for noted, status in ((size, "verified"), (size + 1, "unchecked")):
        write_manifest(exported, graphs={"model": {"path": "onnx/model.onnx", "size": noted}})
        assert open_folder(exported).validation.status == status


def test_a_failed_verdict_stays_failed(exported: Path) -> None:
    failed = Validation(VERIFIED.comparisons, (Finding("axis-baked", "axis 0 of x takes 2 only", tensor="x", axis=0),))
    write_manifest(exported, validated=validation_to_json(failed))
    validation = open_folder(exported).validation
    assert validation.status == "failed" and validation.failures[0].tensor == "x"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"graphs": []}, "graphs is no object"),
        ({"graphs": {"model": "onnx/model.onnx"}}, "an entry of graphs"),
        ({"variants": {"int8": 3}}, "an entry of variants"),
        ({"task": 5}, "no text"),
        ({"validated": {"shapes": 3}}, "validation"),
        ({"validated": {"shapes": [], "findings": [{"code": "no-such-code", "sentence": ""}]}}, "no-such-code"),
        ({"decisions": [{"who": "knows"}]}, "who"),
        ({"graphs": {"model": {"path": "../model.onnx"}}}, "not inside the folder"),
        ({"graphs": {"model": {"path": "/etc/passwd"}}}, "not inside the folder"),
        ({"graphs": {"model": {"path": "onnx/../../model.onnx"}}}, "not inside the folder"),
        ({"graphs": {"model": {}}}, "not inside the folder"),
        ({"graphs": {"model": {"path": "onnx/gone.onnx"}}}, "no such .onnx file"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(exported: Path, changes: dict[str, Any], said: str) -> None:
    shutil.copy(exported / "onnx" / "model.onnx", exported.parent / "model.onnx")
    write_manifest(exported, **changes)
    with pytest.raises(GraphFileError, match=said):
        open_folder(exported)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}'])
def test_a_broken_manifest_is_refused(exported: Path, content: str) -> None:
    (exported / MANIFEST_NAME).write_text(content)
    with pytest.raises(GraphFileError, match=MANIFEST_NAME):
        open_folder(exported)


def test_broken_labels_are_named(text_folder: Write) -> None:
    opened = open_folder(text_folder("BertForSequenceClassification", id2label={"first": "A"}))
    with pytest.raises(GraphFileError, match="id2label"):
        _ = opened.labels


def test_nothing_there(tmp_path: Path, make_linear: Write) -> None:
    with pytest.raises(GraphFileError, match="no such folder or file"):
        open_folder(tmp_path / "gone")
    with pytest.raises(GraphFileError, match="holds no .onnx file"):
        open_folder(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(GraphFileError, match="is no .onnx file"):
        open_folder(tmp_path / "model.pt")
    for name in ("one", "two"):
        onnx.save(make_linear(), tmp_path / f"{name}.onnx")
    with pytest.raises(GraphFileError, match=r"several models.*one\.onnx, two\.onnx") as caught:
        open_folder(tmp_path)
    assert "one.onnx" in caught.value.fix


def test_encoder_and_decoder_the_decoder_answers(exported: Path) -> None:
    (exported / MANIFEST_NAME).unlink()
    model = exported / "onnx" / "model.onnx"
    for name in ("encoder_model", "decoder_model_merged", "decoder_model"):
        shutil.copy(model, model.with_name(f"{name}.onnx"))
    model.unlink()
    opened = open_folder(exported)
    assert {role: graph.path.name for role, graph in opened.graphs.items()} == {
        "encoder": "encoder_model.onnx",
        "decoder": "decoder_model_merged.onnx",
    }
    assert opened.graph is opened.graphs["decoder"]


def test_the_engine_can_make_one_of_what_it_has(exported: Path) -> None:
    graph = read_graph(exported / "onnx" / "model.onnx")
    mine = open_folder(exported).tokenizer
    opened = OpenedFolder(exported, {"model": graph}, tokenizer=mine, image_processor=None, validation=VERIFIED)
    assert opened.tokenizer is mine and opened.validation is VERIFIED
    assert opened.session().run({n: np.ones((1, 2), np.int64) for n in opened.session().inputs})["logits"].shape == (
        1,
        2,
    )
