"""A graph without its weights: all of its structure, none of its values, and no crash on garbage."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest

from onnx_magic.runtime.protobuf import Malformed
from onnx_magic.runtime.stripping import module_path, source_line, strip
from tests.graphs import branching, chain


def test_large_weights_go_and_small_ones_stay(tmp_path: Path) -> None:
    for weight, kept in ((64, True), (65, False)):  # 256 and 260 bytes
        data = chain(tmp_path / "m.onnx", weight=weight).read_bytes()
        before, after = onnx.ModelProto.FromString(data), onnx.ModelProto.FromString(strip(data)[0])
        tensor = after.graph.initializer[0]
        assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("weight", 1, [weight])
        assert bool(tensor.raw_data) is kept
        assert (tensor.data_location == onnx.TensorProto.EXTERNAL) is not kept
        assert [n.op_type for n in after.graph.node] == [n.op_type for n in before.graph.node]
        assert after.graph.input == before.graph.input and after.graph.output == before.graph.output


def test_a_node_tells_its_module_and_line_and_no_folder(tmp_path: Path) -> None:
    stripped, _ = strip(chain(tmp_path / "m.onnx").read_bytes(), {"node_b": 0.5})
    notes = [{e.key: e.value for e in n.metadata_props} for n in onnx.ModelProto.FromString(stripped).graph.node]
    told = {"PyTorch module": "encoder.layer", "source line": "net.py:9 in attend"}
    assert notes == [told, {**told, "highlight": "0.5"}, told]
    assert b"secret" not in stripped


def test_constants_in_subgraphs_go_too(tmp_path: Path) -> None:
    data = branching(tmp_path / "m.onnx").read_bytes()
    stripped, _ = strip(data)
    assert len(data) > 8000 > 1000 > len(stripped)
    node = onnx.ModelProto.FromString(stripped).graph.node[0]
    assert [a.g.node[0].op_type for a in node.attribute] == ["Constant", "Constant"]


def test_weights_beside_the_file_are_counted_and_not_opened(tmp_path: Path) -> None:
    model = onnx.load(chain(tmp_path / "m.onnx", weight=1000))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("length", "4000")):
        tensor.external_data.add(key=key, value=value)
    stripped, outside = strip(model.SerializeToString())
    assert outside == 4000
    assert b"passwd" not in stripped


def test_garbage_is_malformed_or_a_message_and_nothing_else(tmp_path: Path) -> None:
    chance = random.Random(7)
    sound = chain(tmp_path / "m.onnx").read_bytes()
    malformed = 0
    for trial in range(600):
        data = bytearray(sound)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        del data[chance.randrange(len(data)) if trial % 2 else len(data) :]
        try:
            strip(bytes(data))
        except Malformed:
            malformed += 1
    assert malformed > 100


def test_subgraphs_without_an_end_are_refused() -> None:
    def wrap(number: int, inner: bytes) -> bytes:
        size, length = len(inner), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + inner

    data = b""
    for _ in range(200):
        data = wrap(1, wrap(5, wrap(6, data)))
    with pytest.raises(Malformed, match="too deep"):
        strip(wrap(7, data))


@pytest.mark.parametrize("scopes", ["", "[", "['x']", "[1, 2]", "__import__('os')", "(" * 5000, "{'a': 1}"])
def test_scopes_that_say_nothing(scopes: str) -> None:
    assert module_path(scopes) == ""


@pytest.mark.parametrize(
    ("trace", "line"),
    [
        ("", ""),
        ("/home/me/net.py:3", ""),
        ("C:\\me\\net.py:3", ""),
        ('File "C:\\me\\net.py", line 3, in f', "net.py:3 in f"),
        ("cell[3]:4 in forward", "cell[3]:4 in forward"),
    ],
)
def test_source_lines(trace: str, line: str) -> None:
    assert source_line(trace) == line
