from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnx_magic.errors import FeedError, GraphFileError, UsageError
from onnx_magic.runtime.sessions import Session, find_provider, one_line, open_session

Make = Callable[..., onnx.ModelProto]


def test_a_session_opens_from_bytes_and_from_a_file(tmp_path: Path, make_linear: Make) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make_linear(), path)
    x = np.ones((2, 3), np.float32)
    for given in (path, str(path), make_linear().SerializeToString()):
        session = Session(open_session(given, threads=1))
        assert (session.inputs, session.outputs, session.provider) == (("x",), ("y",), "CPUExecutionProvider")
        assert np.array_equal(session.run({"x": x})["y"], x @ np.arange(12, dtype=np.float32).reshape(3, 4))


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", None])
def test_a_provider_is_found_by_its_short_name(name: str | None) -> None:
    assert find_provider(name) == "CPUExecutionProvider"


def test_a_provider_that_is_not_there_names_those_that_are(make_linear: Make) -> None:
    with pytest.raises(UsageError, match="'npu'.*CPUExecutionProvider"):
        open_session(make_linear().SerializeToString(), provider="npu")


def broken(make_linear: Make) -> bytes:
    model = make_linear()
    model.graph.node[0].op_type = "NoSuchOperator"
    return model.SerializeToString()


def test_a_model_that_does_not_load_says_why_in_one_line(make_linear: Make, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GraphFileError, match="NoSuchOperator") as caught:
        open_session(broken(make_linear))
    assert "\n" not in caught.value.what and "[ONNXRuntimeError]" not in caught.value.what
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_a_node_that_fails_writes_nothing_to_stderr(make_graph: Make, capfd: pytest.CaptureFixture[str]) -> None:
    model = make_graph(
        [("x", TensorProto.FLOAT, ["n", 3])],
        [("y", TensorProto.FLOAT, [6])],
        [helper.make_node("Reshape", ["x", "six"], ["y"], name="flatten")],
        {"six": np.array([6])},
    )
    session = Session(open_session(model.SerializeToString()))
    assert session.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (6,)
    with pytest.raises(GraphFileError, match="flatten.*cannot be reshaped") as caught:
        session.run({"x": np.ones((3, 3), np.float32)})
    assert caught.value.stage == "run" and "onnxruntime_src" not in caught.value.what and "\n" not in caught.value.what
    assert capfd.readouterr() == ("", "")


def test_a_value_out_of_range_is_the_feeds_fault(make_text_model: Make) -> None:
    session = Session(open_session(make_text_model(("input_ids",)).SerializeToString()))
    with pytest.raises(FeedError, match="idx=100000") as caught:
        session.run({"input_ids": np.array([[100000]])})
    assert isinstance(caught.value.__cause__, Exception)


def test_a_text_that_is_not_built_as_usual_stays_whole() -> None:
    assert one_line(RuntimeError("out of\n  luck")) == "out of luck"
    assert one_line(RuntimeError("[ONNXRuntimeError] : 7 : INVALID : a : b")) == "a : b"


@pytest.mark.parametrize(
    ("onnx_type", "dtype"),
    [
        (TensorProto.FLOAT16, np.dtype(np.float16)),
        (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
        (TensorProto.BOOL, np.dtype(bool)),
        (TensorProto.DOUBLE, np.dtype(np.float64)),
    ],
)
@pytest.mark.parametrize("rows", [2, 0])
def test_dtypes_go_in_and_come_out(make_graph: Make, onnx_type: int, dtype: np.dtype, rows: int) -> None:
    inputs = [("x", onnx_type, ["n", 3]), ("k", TensorProto.INT64, ["n"])]
    outputs = [("y", onnx_type, ["n", 3]), ("m", TensorProto.INT64, ["n"])]
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["k"], ["m"])]
    session = Session(open_session(make_graph(inputs, outputs, nodes).SerializeToString()))
    x = np.linspace(-2, 2, rows * 3).reshape(rows, 3).astype(dtype)
    found = session.run({"x": x, "k": np.arange(rows)})
    assert found["y"].dtype == dtype and session.dtype("y") == dtype.name
    assert found["y"].flags.writeable
    assert np.array_equal(found["y"], x) and np.array_equal(found["m"], np.arange(rows))


def test_a_bfloat16_output_outlives_its_session(make_graph: Make) -> None:
    model = make_graph(
        [("x", TensorProto.FLOAT, ["n"])],
        [("y", TensorProto.BFLOAT16, ["n"])],
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)],
    )
    session = Session(open_session(model.SerializeToString()))
    first = session.run({"x": np.ones(1000, np.float32)})["y"]
    for _ in range(20):
        session.run({"x": np.zeros(1000, np.float32)})
    del session
    assert (first == 1).all()


def test_the_library_is_told_not_to_fall_back(make_linear: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def spy(*args: object, **options: object) -> None:
        seen.update(options)
        raise RuntimeError("stop here")

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    with pytest.raises(GraphFileError, match="stop here"):
        open_session(make_linear().SerializeToString())
    assert seen == {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
