"""Graphs whose weights are mapped from their file: same answers, less memory, nothing read from a wrong file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from onnx_magic.errors import GraphFileError
from onnx_magic.runtime import mapping
from onnx_magic.runtime.graphs import read_graph
from onnx_magic.runtime.protobuf import Malformed
from onnx_magic.runtime.sessions import Session, open_graph, open_session

ROWS, WIDTH = 300, 96


def initializer(name: str, array: Any) -> onnx_ir.Value:
    value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(array, name=name))
    value.shape, value.type = onnx_ir.Shape(array.shape), onnx_ir.TensorType(onnx_ir.tensor(array).dtype)
    return value


def saved(path: Path, width: int = WIDTH, name: str = "w") -> Path:
    """ids → rows of an embedding → a layer → the embedding again, transposed; and a table that is added."""
    random = np.random.default_rng(0)
    ids = onnx_ir.val("ids", dtype=onnx_ir.DataType.INT64, shape=["batch_size", "sequence_length"])
    embedding, layer, table = (
        initializer(f"{name}{number}", random.standard_normal(shape).astype(np.float32))
        for number, shape in enumerate(((ROWS, width), (width, width * 3), (256, width * 3)))
    )
    back = initializer("back", random.standard_normal((width * 3, width)).astype(np.float32))
    rows = onnx_ir.node("Gather", [embedding, ids])
    wide = onnx_ir.node("MatMul", [rows.outputs[0], layer])
    shift = onnx_ir.node("Gather", [table, ids])
    added = onnx_ir.node("Add", [wide.outputs[0], shift.outputs[0]])
    narrow = onnx_ir.node("MatMul", [added.outputs[0], back])
    turned = onnx_ir.node("Transpose", [embedding], attributes={"perm": [1, 0]})
    head = onnx_ir.node("MatMul", [narrow.outputs[0], turned.outputs[0]])
    head.outputs[0].name, head.outputs[0].type = "logits", onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    head.outputs[0].shape = onnx_ir.Shape(["batch_size", "sequence_length", ROWS])
    nodes = [rows, wide, shift, added, narrow, turned, head]
    weights = [embedding, layer, table, back]
    graph = onnx_ir.Graph([ids], head.outputs, nodes=nodes, initializers=weights, opset_imports={"": 20}, name="g")
    onnx_ir.save(onnx_ir.Model(graph, ir_version=10), path)
    return path


@pytest.fixture
def small_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "SMALLEST_FILE", 0)
    monkeypatch.setattr("onnx_magic.runtime.graphs.SMALLEST_FILE", 0)


@pytest.mark.usefixtures("small_files_too")
@pytest.mark.parametrize("name", ["w", "we", "wei", "weig"])  # moves the weights to every address modulo 4
def test_mapped_weights_give_the_same_and_are_not_in_what_is_parsed(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "model.onnx", name=name)
    mapped = mapping.map_file(path)
    assert mapped is not None
    assert len(mapped.proto) < 0.05 * path.stat().st_size
    feed = {"ids": np.arange(12).reshape(2, 6)}
    expected = Session(open_session(path)).run(feed)["logits"]
    np.testing.assert_array_equal(open_graph(path).run(feed)["logits"], expected)


@pytest.mark.usefixtures("small_files_too")
def test_weights_of_other_operators_stay_in_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    x = onnx_ir.val("x", dtype=onnx_ir.DataType.FLOAT, shape=["n", 65536])
    bias = initializer("bias", np.ones(65536, np.float32))
    node = onnx_ir.node("Add", [x, bias])
    graph = onnx_ir.Graph([x], node.outputs, nodes=[node], initializers=[bias], opset_imports={"": 20}, name="g")
    onnx_ir.save(onnx_ir.Model(graph, ir_version=10), path)
    assert mapping.map_file(path) is None, "elementwise kernels may ask for aligned values"


def test_small_files_are_loaded_as_they_are(tmp_path: Path) -> None:
    assert mapping.map_file(saved(tmp_path / "model.onnx")) is None


@pytest.mark.usefixtures("small_files_too")
def test_a_graph_is_described_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "model.onnx")
    lean = read_graph(path)
    monkeypatch.setattr("onnx_magic.runtime.graphs.SMALLEST_FILE", 1 << 40)
    assert lean == read_graph(path)
    assert lean.size == path.stat().st_size


@pytest.mark.usefixtures("small_files_too")
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-1000])
    assert mapping.map_file(path) is None
    with pytest.raises(Malformed):
        mapping.without_weights(path)
    with pytest.raises(GraphFileError, match="cut off or corrupt"):
        read_graph(path)


@pytest.mark.usefixtures("small_files_too")
def test_a_file_written_over_is_refused_and_one_moved_into_its_place_is_not(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx")
    feed = {"ids": np.arange(12).reshape(2, 6)}
    session = open_graph(path)
    expected = session.run(feed)["logits"]
    saved(tmp_path / "other.onnx", width=64)
    os.replace(tmp_path / "other.onnx", path)
    np.testing.assert_array_equal(session.run(feed)["logits"], expected)

    session = open_graph(path)
    session.run(feed)
    path.write_bytes(b"")  # as torch.onnx.export and onnx.save do first: without the check the process would end
    with pytest.raises(GraphFileError, match="written over since it was opened") as caught:
        session.run(feed)
    assert caught.value.fix and "onnx_magic.load" in caught.value.fix


@pytest.mark.usefixtures("small_files_too")
def test_a_link_into_a_cache_is_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    saved(blobs / "0123abcd")
    (snapshot / "model.onnx").symlink_to(blobs / "0123abcd")
    assert open_graph(snapshot / "model.onnx").run({"ids": np.zeros((1, 1), np.int64)})["logits"].shape == (1, 1, ROWS)
