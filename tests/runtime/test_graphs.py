from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper

from onnx_magic.errors import GraphFileError
from onnx_magic.runtime.graphs import UNKNOWN_RANK, describe_model, read_graph

Make = Callable[..., onnx.ModelProto]


def test_specs_opset_size_and_operators_are_the_files(tmp_path: Path, make_linear: Make) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(make_linear(), path)
    graph = read_graph(path)
    assert [str(spec) for spec in (*graph.inputs, *graph.outputs)] == [
        "x: float32[batch_size, 3]",
        "y: float32[batch_size, 4]",
    ]
    assert [spec.role for spec in (*graph.inputs, *graph.outputs)] == ["input", "output"]
    assert (graph.opset, graph.size, dict(graph.operators)) == (18, path.stat().st_size, {"MatMul": 1})


def test_a_model_in_memory_is_described_before_its_file_is_there(tmp_path: Path, make_linear: Make) -> None:
    path = tmp_path / "model.onnx"
    before = describe_model(onnx_ir.from_proto(make_linear()), path)
    onnx.save(make_linear(), path)
    after = read_graph(path)
    assert (before.size, before.inputs, before.operators) == (0, after.inputs, after.operators)
    assert after.size > 0


@pytest.mark.parametrize("dim", [None, -1])
def test_an_axis_without_a_name_gets_a_stable_one(tmp_path: Path, make_graph: Make, dim: int | None) -> None:
    model = make_graph(
        [("x", TensorProto.FLOAT, ["n", dim])],
        [("y", TensorProto.FLOAT, None)],
        [helper.make_node("Identity", ["x"], ["y"])],
    )
    onnx.save(model, tmp_path / "m.onnx")
    graph = read_graph(tmp_path / "m.onnx")
    assert graph.inputs[0].shape == ("n", "x_dim_1")
    assert graph.outputs[0].shape == UNKNOWN_RANK


@pytest.mark.parametrize(
    ("onnx_type", "name"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.INT64, "int64"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.STRING, "str"),
    ],
)
def test_dtypes_have_numpys_names(tmp_path: Path, make_graph: Make, onnx_type: int, name: str) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    onnx.save(make_graph([("x", onnx_type, [1])], [("y", onnx_type, [1])], [node]), tmp_path / "m.onnx")
    assert read_graph(tmp_path / "m.onnx").inputs[0].dtype == name


def test_operators_count_subgraphs_functions_and_other_domains(make_graph: Make) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [out])

    nodes = [
        helper.make_node("If", ["c"], ["h"], then_branch=branch("a", "Abs"), else_branch=branch("b", "Neg")),
        helper.make_node("Twice", ["h"], ["g"], domain="mine"),
        helper.make_node("Gelu", ["g"], ["y"], domain="com.microsoft"),
    ]
    model = make_graph(
        [("x", TensorProto.FLOAT, ["n"]), ("c", TensorProto.BOOL, [])], [("y", TensorProto.FLOAT, ["n"])], nodes
    )
    body = [helper.make_node("Add", ["i", "i"], ["o"])]
    model.functions.append(helper.make_function("mine", "Twice", ["i"], ["o"], body, [helper.make_opsetid("", 18)]))
    graph = describe_model(onnx_ir.from_proto(model), Path("nowhere.onnx"))
    expected = {"Abs": 1, "Add": 1, "If": 1, "Neg": 1, "com.microsoft.Gelu": 1, "mine.Twice": 1}
    assert dict(graph.operators) == expected


def test_an_initializer_that_is_declared_as_an_input_is_none(tmp_path: Path, make_linear: Make) -> None:
    model = make_linear()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]))
    onnx.save(model, tmp_path / "m.onnx")
    assert [spec.name for spec in read_graph(tmp_path / "m.onnx").inputs] == ["x"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no ONNX model"),
        (b"this is no model at all" * 20, "no ONNX model"),
        (b"PK\x03\x04" + b"\0" * 200, "no ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphFileError, match=said) as caught:
        read_graph(path)
    assert str(path) in caught.value.what and caught.value.fix


def test_a_model_that_is_cut_off_is_refused(tmp_path: Path, make_linear: Make) -> None:
    whole = make_linear().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GraphFileError, match="cut off or corrupt"):
        read_graph(tmp_path / "m.onnx")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(GraphFileError, match="no such"):
        read_graph(tmp_path / "m.onnx")


@pytest.fixture
def external(tmp_path: Path, make_linear: Make) -> Path:
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    onnx.save(make_linear(), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    return path


def redirect(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    entries: Any = model.graph.initializer[0].external_data
    next(entry for entry in entries if entry.key == "location").value = location
    path.write_bytes(model.SerializeToString())


def test_external_data_counts_in_the_size_and_is_not_read(external: Path) -> None:
    data = external.with_name("model.onnx_data")
    assert read_graph(external).size == external.stat().st_size + data.stat().st_size
    data.chmod(0)  # root may read all the same: the sum of the sizes is what is tested
    assert read_graph(external).operators == {"MatMul": 1}


def test_missing_external_data_is_named(external: Path) -> None:
    external.with_name("model.onnx_data").unlink()
    with pytest.raises(GraphFileError, match=r"model\.onnx_data' is missing") as caught:
        read_graph(external)
    assert "copy model.onnx_data" in caught.value.fix


def test_external_data_that_is_cut_off_is_refused(external: Path) -> None:
    data = external.with_name("model.onnx_data")
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(GraphFileError, match="cut off: 10 bytes"):
        read_graph(external)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/../../secret"])
def test_external_data_outside_the_folder_is_not_read(external: Path, location: str) -> None:
    (external.parent.parent / "secret").write_bytes(np.zeros(12, np.float32).tobytes())
    redirect(external, location)
    with pytest.raises(GraphFileError, match="points outside the folder"):
        read_graph(external)


def test_a_link_out_of_the_folder_is_not_followed(external: Path) -> None:
    data = external.with_name("model.onnx_data")
    secret = data.rename(external.parent.parent / "secret")
    data.symlink_to(secret)
    with pytest.raises(GraphFileError, match="points outside the folder"):
        read_graph(external)


def test_a_model_and_its_data_linked_into_one_store_are_read(external: Path) -> None:
    """The Hub's cache: snapshots/<revision>/model.onnx → blobs/<hash>."""
    blobs = external.parent.parent / "blobs"
    blobs.mkdir()
    for file, blob in ((external, "1"), (external.with_name("model.onnx_data"), "2")):
        file.rename(blobs / blob)
        file.symlink_to(blobs / blob)
    assert read_graph(external).opset == 18


def test_external_data_in_a_nodes_attribute_is_checked_too(tmp_path: Path, make_graph: Make) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], np.zeros(1, np.float32).tobytes(), raw=True)
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    entry = value.external_data.add()
    entry.key, entry.value = "location", "../secret"
    model = make_graph([], [("y", TensorProto.FLOAT, [1])], [helper.make_node("Constant", [], ["y"], value=value)])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GraphFileError, match="points outside the folder"):
        read_graph(tmp_path / "m.onnx")
