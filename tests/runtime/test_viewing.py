"""A GraphView of any .onnx file; errors in two lines for what is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnx_magic.errors import GraphFileError, UsageError
from onnx_magic.runtime.viewing import view_file
from tests.graphs import HOSTILE, branching, chain, functional, save


def test_it_holds_the_graph_and_its_size_on_disk(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.onnx", weight=100_000)
    view = view_file(path)
    assert (view.nodes, view.graph.opset, view.graph.operators) == (3, 20, {"Add": 3})
    assert view.graph.size == path.stat().st_size > 400_000 > 4000 > len(view.model)
    assert view.graph.inputs[0].shape == ("batch_size", 100_000)


def test_it_stands_when_the_model_is_gone(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.onnx")
    view = view_file(path)
    path.unlink()
    assert onnx.ModelProto.FromString(view.model).graph.node[0].name == "node_a"
    with pytest.raises(GraphFileError, match="no such .onnx file"):
        view_file(path)


def test_subgraphs_hostile_names_and_no_nodes(tmp_path: Path) -> None:
    assert view_file(branching(tmp_path / "if.onnx")).graph.operators == {"Constant": 2, "If": 1}
    assert view_file(chain(tmp_path / "bad.onnx", HOSTILE)).nodes == len(HOSTILE)
    assert view_file(save(tmp_path / "none.onnx", [], "x", [])).nodes == 0


def test_a_function_and_its_nodes(tmp_path: Path) -> None:
    view = view_file(functional(tmp_path / "f.onnx"), {"call_1": 1.0})
    assert view.nodes == 2 and view.graph.operators == {"Add": 1, "Relu": 1, "my.domain.TwiceRelu": 2}
    [function] = onnx.ModelProto.FromString(view.model).functions
    assert [node.name for node in function.node] == ["inner_add", "inner_relu"]


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x00" * 500, b"\x08\x0a", b"PK\x03\x04" * 20, b"\xff" * 90])
def test_what_is_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(GraphFileError, match="is no ONNX model") as caught:
        view_file(path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("highlight", [{"nowhere": 1.0}, {"node_a": "x"}, {1: 2.0}, [1], {"node_a": float("nan")}])
def test_highlights_that_cannot_be_meant(tmp_path: Path, highlight: object) -> None:
    with pytest.raises(UsageError, match="highlight") as caught:
        view_file(chain(tmp_path / "m.onnx"), highlight)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 2
