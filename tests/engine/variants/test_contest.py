"""A whole benchmark on real files: who takes part, what is refused, what a deleted file or an interrupt leaves."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import onnx_magic
from onnx_magic.engine.variants.contending import make_loads
from onnx_magic.errors import UsageError
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.benchmarks import PYTORCH, Benchmark
from onnx_magic.records.plan import TensorSpec


class Net(torch.nn.Module):
    """Two layers, importable by a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(16, 32)
        self.last = torch.nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` is (batch, 16)."""
        return self.last(self.first(x).relu())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    return onnx_magic.export(Net().eval(), inputs=torch.randn(2, 16), output=tmp_path_factory.mktemp("net") / "net")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is measured does not matter here."""
    monkeypatch.setattr("onnx_magic.engine.variants.benchmarking.SLICE", 0.0)
    yield


def names(bench: Benchmark) -> list[str]:
    return [one.name for one in bench.contenders]


def test_all_take_part_in_processes_of_their_own(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker must be able to import the model's class, as it can that of an installed package.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    module = sys.modules[Net.__module__]
    monkeypatch.setitem(sys.modules, Path(__file__).stem, module)
    monkeypatch.setattr(Net, "__module__", Path(__file__).stem)
    exported.quantize("int8")
    bench = exported.benchmark(batch="1,3", rounds=2, threads=1)
    assert names(bench) == [PYTORCH, "PyTorch int8", "ONNX Runtime", "int8"]
    assert [one.error for one in bench.contenders] == [None] * 4
    assert all(one.own_process and one.memory and one.load_seconds for one in bench.contenders)
    assert len(bench.timings) == 8 and all(len(t.rounds) == 2 for t in bench.timings)
    assert bench.contenders[2].size == exported.graph.size
    assert bench.table is not None and [row.name for row in bench.table.rows] == ["float32", "int8"]
    assert all(row.median and row.speed_up and row.memory for row in bench.table.rows)
    assert not torch.ao.quantization.get_default_qconfig_propagation_list() & {type(exported.live.model)}
    assert type(exported.live.model.first) is torch.nn.Linear, "the user's model is not the one that is quantized"


def test_a_class_of_the_notebook_runs_here_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    monkeypatch.setattr(Net, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    model = Net().eval()
    made = onnx_magic.export(model, inputs=torch.randn(2, 16), output=tmp_path / "net")
    bench = made.benchmark(batch=1, rounds=1, threads=1)
    assert [one.own_process for one in bench.contenders] == [False, False, True]
    assert [one.error for one in bench.contenders] == [None] * 3
    assert "PyTorch ran in this process: its class is defined in the notebook" in bench.notes
    assert type(model.first) is torch.nn.Linear and not model.training


def test_a_file_that_is_gone_is_a_contender_that_is_out(exported: Any) -> None:
    exported.quantize("fp16")
    small = exported.variants["fp16"]
    from onnx_magic.engine.variants.contest import ContestRequest, run_contest

    small.model_path.unlink()
    request = ContestRequest(batches=(1,), rounds=1, threads=1)
    bench = run_contest(exported.opened, {"fp16": small.opened}, None, request)
    gone = bench.contenders[-1]
    assert gone.name == "fp16" and gone.error and "does not load" in gone.error
    assert [t.contender for t in bench.timings] == ["ONNX Runtime"]


def test_without_pytorch_the_export_is_measured_all_the_same(exported: Any) -> None:
    bench = onnx_magic.load(exported.path).benchmark(batch=1, rounds=1, threads=1)
    assert bench.baseline == "ONNX Runtime" and PYTORCH not in names(bench)
    assert any(note.startswith("PyTorch was not measured: ") for note in bench.notes)


def test_the_users_inputs(exported: Any) -> None:
    bench = exported.benchmark(inputs=torch.randn(5, 16).numpy(), rounds=1, threads=1, variants=())
    assert [load.label for load in bench.loads] == ["your inputs"] and bench.loads[0].samples == 5


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"provider": "cuda"}, "execution provider 'cuda' is not in this ONNX Runtime"),
        ({"length": 8}, "has no dynamic axis sequence_length; it has batch_size"),
        ({"batch": "0"}, "expected 1 or above"),
        ({"batch": "many"}, "expected whole numbers"),
        ({"rounds": 0}, "rounds=0: expected 1 to"),
        ({"threads": 0}, "threads=0: expected 1 to"),
        ({"variants": "int3"}, "has no variant 'int3'"),
        ({"inputs": torch.randn(2, 16).numpy(), "batch": 2}, "inputs were given"),
    ],
)
def test_what_cannot_be_meant(exported: Any, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        exported.benchmark(**options)
    assert refused.value.fix


def test_plots(exported: Any) -> None:
    pytest.importorskip("matplotlib")
    bench = onnx_magic.load(exported.path).benchmark(batch="1,2,4", rounds=1, threads=1, variants="int8")
    bars, sweep = bench.plot(), bench.plot("sweep")
    assert len(bars.axes[0].patches) == len(bench.timings)
    assert [list(line.get_xdata()) for line in sweep.axes[0].lines] == [[1, 2, 4]] * 2
    one = onnx_magic.load(exported.path).benchmark(batch=1, rounds=1, threads=1)
    with pytest.raises(UsageError, match="a sweep needs several sizes"):
        one.plot("sweep")
    with pytest.raises(UsageError, match="there is no plot 'pie'"):
        one.plot("pie")


def test_a_decoder_is_measured_at_the_prompt_and_at_one_more_token(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    made = onnx_magic.export(model, task="text-generation", output=tmp_path / "llama")
    bench = made.benchmark(batch=2, length=8, rounds=1, threads=1)
    assert [load.label for load in bench.loads] == ["batch 2, prompt of 8", "batch 2, token after 8"]
    assert [one.error for one in bench.contenders] == [None] * 3 and len(bench.timings) == 6


def test_of_an_encoder_decoder_each_part_is_measured(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    made = onnx_magic.export(model, task="text2text-generation", output=tmp_path / "t5")
    bench = made.benchmark(batch=1, length="8,16", rounds=1, threads=1)
    assert names(bench) == ["PyTorch", "PyTorch int8", "ONNX Runtime"]
    assert [one.error for one in bench.contenders] == [None] * 3 and len(bench.timings) == 18
    assert [load.label for load in bench.loads[:3]] == [
        "batch 1, token after 8",
        "batch 1, first token, 8 read",
        "batch 1, encoder, length 8",
    ]
    assert [load.graph for load in bench.loads[:3]] == ["decoder", "decoder", "encoder"]
    assert bench.loads[0].sizes["encoder_sequence_length"] == 8 and "each part is timed alone" in bench.notes[-1]


@pytest.mark.parametrize("past", [0, 5])
def test_a_token_after_others_runs_the_branch_with_a_cache(past: int) -> None:
    """The branch that reads no past is quicker, and is no step."""
    specs = (
        TensorSpec("input_ids", "int64", ("batch_size", "sequence_length")),
        TensorSpec("encoder_hidden_states", "float32", ("batch_size", "encoder_sequence_length", 4)),
        TensorSpec("past_key_values.0.decoder.key", "float32", ("batch_size", 1, "past_sequence_length", 4)),
        TensorSpec("use_cache_branch", "bool", (1,)),
    )
    graphs = {
        "encoder": GraphFile(Path("e.onnx"), specs[:1], (), 20, 1),
        "decoder": GraphFile(Path("d.onnx"), specs, (), 20, 1),
    }
    opened = SimpleNamespace(graphs=graphs, graph=graphs["decoder"], reading=graphs["encoder"], config={}, name="x")
    loads, feeds = make_loads(opened, None, (1,), (5,))
    found = {load.sizes["past_sequence_length"]: feed for load, feed in zip(loads[:2], feeds, strict=False)}
    assert found[past]["use_cache_branch"].tolist() == [past > 0]
    assert found[past]["past_key_values.0.decoder.key"].shape == (1, 1, past, 4)
