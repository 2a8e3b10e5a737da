"""No path of this machine stays in a graph, and its bytes are the same wherever it is exported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir
import pytest

from onnx_magic.engine.scrubbing import STACK_TRACE, scrub_paths, without_prefixes

EXPORT = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
from transformers import BertConfig, BertForSequenceClassification
from onnx_magic.engine.packing import save_graph
from onnx_magic.engine.scrubbing import scrub_paths
from pathlib import Path

torch.manual_seed(0)
sizes = dict(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
model = BertForSequenceClassification(BertConfig(**sizes)).eval()
ids = torch.arange(8).reshape(2, 4)
mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
axes = {0: "batch_size", 1: "sequence_length"}
program = torch.onnx.export(
    model, (), kwargs={"input_ids": ids, "attention_mask": mask}, dynamo=True, verbose=False,
    output_names=["logits"], dynamic_shapes={"input_ids": axes, "attention_mask": axes},
)
raw, scrubbed = (Path(p) for p in os.environ["TARGETS"].split(os.pathsep))
save_graph(program.model, raw)
scrub_paths(program.model)
save_graph(program.model, scrubbed)
"""


def run_export(folder: Path, seed: str, as_script: bool) -> subprocess.Popen[bytes]:
    folder.mkdir()
    (folder / "my_export.py").write_text(EXPORT)
    targets = os.pathsep.join(str(folder / name) for name in ("raw.onnx", "scrubbed.onnx"))
    env = {**os.environ, "PYTHONHASHSEED": seed, "TARGETS": targets, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "my_export.py"] if as_script else [sys.executable, "-c", EXPORT]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same model exported by a script and by `python -c`, in two folders, with two hash seeds."""
    root = tmp_path_factory.mktemp("exports")
    running = [run_export(root / "one", "1", True), run_export(root / "two", "2", False)]
    assert [process.wait(240) for process in running] == [0, 0]
    return root / "one", root / "two"


@pytest.mark.slow
def test_no_path_of_this_machine_is_left(exports: tuple[Path, Path]) -> None:
    raw, scrubbed = ((exports[0] / name).read_bytes() for name in ("raw.onnx", "scrubbed.onnx"))
    private = {sys.prefix, os.path.expanduser("~"), tempfile.gettempdir(), str(exports[0]), "site-packages", " at 0x"}
    assert any(text.encode() in raw for text in private)  # the exporter does write them
    assert [text for text in private if text.encode() in scrubbed] == []
    assert b"+cpu" not in scrubbed and b"my_export" not in scrubbed
    assert b"transformers/models/bert/modeling_bert.py:" in scrubbed
    assert len(scrubbed) < len(raw)


@pytest.mark.slow
def test_bytes_are_the_same_through_a_script_and_a_command(exports: tuple[Path, Path]) -> None:
    one, two = ((folder / "scrubbed.onnx").read_bytes() for folder in exports)
    assert one == two


@pytest.mark.slow
def test_the_graph_itself_and_the_module_paths_stay(exports: tuple[Path, Path]) -> None:
    raw, scrubbed = (onnx_ir.load(exports[0] / name) for name in ("raw.onnx", "scrubbed.onnx"))
    assert [(n.op_type, n.name) for n in raw.graph] == [(n.op_type, n.name) for n in scrubbed.graph]
    assert [v.name for v in raw.graph.initializers.values()] == [v.name for v in scrubbed.graph.initializers.values()]
    for before, after in zip(raw.graph, scrubbed.graph, strict=True):
        for key in ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"):
            assert before.metadata_props.get(key) == after.metadata_props.get(key)
    traces = [node.metadata_props.get(STACK_TRACE, "") for node in scrubbed.graph]
    assert any(" in forward\ntransformers/models/bert/modeling_bert.py:" in trace for trace in traces)
    onnx_ir.to_proto(scrubbed)


# Traces by hand


def scrubbed(trace: str, cells: dict[str, str] | None = None, key: str = STACK_TRACE) -> str | None:
    """What becomes of one node's metadata."""
    value = onnx_ir.Value(name="y")
    node = onnx_ir.Node("", "Relu", [onnx_ir.Value(name="x")], outputs=[value], metadata_props={key: trace})
    graph = onnx_ir.Graph([node.inputs[0]], [value], nodes=[node], opset_imports={"": 20})
    scrub_paths(onnx_ir.Model(graph, ir_version=10), cells)
    return node.metadata_props.get(key)


def frame(file: str, line: int, function: str) -> str:
    return f'  File "{file}", line {line}, in {function}\n    x = "/home/somebody/secret" + self.l(x)\n'


def test_a_cells_lines_have_the_cells_number() -> None:
    file = "/tmp/ipykernel_12/345.py"
    assert scrubbed(frame(file, 4, "forward"), {file: "cell[3]"}) == "cell[3]:4 in forward"
    assert scrubbed(frame(file, 4, "forward")) == "cell:4 in forward"
    assert scrubbed(frame("<ipython-input-3-abcdef>", 4, "forward")) == "cell:4 in forward"


def test_the_callers_frames_are_dropped() -> None:
    import torch.nn.modules.linear as theirs

    import onnx_magic.engine.scrubbing as ours

    cell = "/tmp/ipykernel_12/1.py"
    trace = (
        frame(cell, 9, "<cell line: 9>")
        + frame("/home/me/project/main.py", 20, "main")
        + frame(ours.__file__, 3, "run_export")
        + frame(cell, 4, "forward")
        + frame(theirs.__file__, 134, "forward")
        + frame(os.path.join(os.path.dirname(os.__file__), "contextlib.py"), 81, "inner")
    )
    assert scrubbed(trace, {cell: "cell[2]"}) == "cell[2]:4 in forward"


def test_a_users_module_is_named_as_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mynets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    file = importlib.import_module("mynets.deep").__file__
    try:
        assert scrubbed(frame(str(file), 7, "forward")) == "mynets/deep.py:7 in forward"
    finally:
        del sys.modules["mynets.deep"], sys.modules["mynets"]
    assert scrubbed(frame("/data/elsewhere/net.py", 7, "forward")) == "net.py:7 in forward"
    other = "/another/venv/lib/python3.12/site-packages/timm/models/vit.py"
    assert scrubbed(frame(other, 7, "forward")) == "timm/models/vit.py:7 in forward"


def test_a_trace_with_nothing_of_the_model_goes_altogether() -> None:
    assert scrubbed(frame("torch/fx/passes/runtime_assert.py", 24, "insert")) is None


def test_other_texts_lose_folders_and_addresses() -> None:
    home = os.path.expanduser("~")
    text = f"call[target=<function f at 0x7f12ab34cd>] from {home}/nets/a.py"
    assert scrubbed(text, key="pkg.torch.onnx.fx_node") == "call[target=<function f>] from nets/a.py"
    assert scrubbed("%mul : [num_users=1]", key="pkg.torch.onnx.fx_node") == "%mul : [num_users=1]"


def test_every_holder_is_reached() -> None:
    """Model, graph, subgraph, function, values, initializers, attributes, doc strings."""
    secret = os.path.join(os.path.expanduser("~"), "secret.py")
    props: Callable[[], dict[str, str]] = lambda: {"k": secret}  # noqa: E731

    def small(name: str) -> Any:
        x = onnx_ir.Value(name=f"{name}_x", metadata_props=props())
        y = onnx_ir.Value(name=f"{name}_y", doc_string=secret)
        node = onnx_ir.Node("", "Relu", [x], outputs=[y], metadata_props=props(), doc_string=secret, name=name)
        return x, y, node

    x, y, node = small("inner")
    inner = onnx_ir.Graph([], [y], nodes=[node], name="inner", metadata_props=props(), doc_string=secret)
    inner.initializers["inner_x"] = x
    x.const_value = onnx_ir.tensor([1.0], name="inner_x", doc_string=secret)
    flag, out = onnx_ir.Value(name="flag"), onnx_ir.Value(name="out")
    branch = onnx_ir.AttrGraph("then_branch", inner, doc_string=secret)
    outer = onnx_ir.Node("", "If", [flag], [branch, onnx_ir.AttrGraph("else_branch", _constant())], outputs=[out])
    fx, fy, fnode = small("f")
    body = onnx_ir.Graph([fx], [fy], nodes=[fnode], opset_imports={"": 20}, metadata_props=props(), doc_string=secret)
    function = onnx_ir.Function("d", "f", graph=body, attributes=[])
    graph = onnx_ir.Graph([flag], [out], nodes=[outer], opset_imports={"": 20, "d": 1}, metadata_props=props())
    texts = {"metadata_props": props(), "doc_string": secret, "producer_version": "2.13.0+cpu"}
    model = onnx_ir.Model(graph, ir_version=10, functions=[function], **texts)
    home = os.path.expanduser("~").encode()
    assert onnx_ir.to_proto(model).SerializeToString().count(home) > 10
    scrub_paths(model)
    assert home not in onnx_ir.to_proto(model).SerializeToString()
    assert model.producer_version == "2.13.0"


def _constant() -> onnx_ir.Graph:
    value = onnx_ir.Value(name="c")
    node = onnx_ir.Node("", "Constant", [], [onnx_ir.AttrFloat32("value_float", 1.0)], outputs=[value])
    return onnx_ir.Graph([], [value], nodes=[node], name="else")


def test_folders_that_are_imported_from_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/opt/elsewhere/lib", *sys.path])
    assert scrubbed("from /opt/elsewhere/lib/nets/a.py", key="note") == "from nets/a.py"


def test_longest_folder_first() -> None:
    assert without_prefixes("/a/b/c.py and /a/d.py", ("/a/b", "/a")) == "c.py and d.py"
    assert without_prefixes("/a", ("/a",)) == ""
    assert without_prefixes("/abc/d", ("/a",)) == "/abc/d"


def test_scrubbing_twice_changes_nothing() -> None:
    once = scrubbed(frame("/data/net.py", 7, "forward"))
    assert once is not None and scrubbed(once) == once
