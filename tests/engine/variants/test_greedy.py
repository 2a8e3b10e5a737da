"""Greedy tokens of variants that generate are counted against the graphs they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.engine.variants import asking
from onnx_magic.engine.variants.greedy import greedy_tokens
from onnx_magic.records.variants import VariantRecord


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A tiny gpt2, exported; without a tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 120}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 if "wte" in name else 1.5 / parameter.shape[-1] ** 0.5)
    exported = onnx_magic.export(model, output=tmp_path_factory.mktemp("greedy") / "gpt2-onnx")
    yield exported
    exported.release()


def test_quantizing_counts_the_greedy_tokens(decoder: Any) -> None:
    small = decoder.quantize("int8")
    tokens = small.made.tokens
    assert tokens.total == 200 and tokens.prompts == 5 and 0 < tokens.same <= 200
    shown = bundle(small)["text/plain"]
    assert f"{tokens.same} of 200 greedy tokens are the same (40 after each of 5 prompts" in shown
    row = next(row for row in decoder.variants.table.rows if row.name == "int8")
    assert row.agreed == (tokens.same, 200)
    assert f"{200 - tokens.same}/200" in bundle(decoder.variants.table)["text/plain"]
    assert VariantRecord.from_json(small.made.to_json()) == small.made
    loaded = onnx_magic.load(decoder.path, variant="int8")
    assert loaded.made.tokens == tokens


def test_the_same_graph_gives_the_same_tokens_and_a_broken_one_does_not(
    decoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert greedy_tokens(decoder.opened, decoder.opened).same == 200
    half = decoder.quantize("fp16")
    assert half.made.tokens.same > 150
    whole = asking.quantize_graph

    def broken(*args: Any) -> Any:
        import onnx_ir

        model = whole(*args)
        value = next(v for name, v in model.graph.initializers.items() if name.endswith("_scale"))
        value.const_value = onnx_ir.tensor(value.const_value.numpy() * 30, name=value.name)
        return model

    monkeypatch.setattr(asking, "quantize_graph", broken)
    wrong = decoder.quantize("int8", overwrite=True)
    assert wrong.made.tokens.same < 100 and "! tokens: " in bundle(wrong)["text/plain"]


def test_a_model_that_does_not_generate_has_none(sample: Any, texts: list[str]) -> None:
    assert sample.quantize("int8").made.tokens is None


def test_fresh_process_makes_fp16(decoder: Any, workdir: Path) -> None:
    """What a mode needs of onnx_ir is imported by it, not by an export that went before."""
    import subprocess
    import sys

    code = f"import onnx_magic; print(onnx_magic.load({str(decoder.path)!r}).quantize('fp16', overwrite=True).variant)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fp16", done.stderr[-2000:]
