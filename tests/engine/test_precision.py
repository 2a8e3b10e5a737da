"""A model in bfloat16 exports as float32, and is afterwards what it was, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import onnx_magic
from onnx_magic.engine.comparing import ATOL, RTOL, compare_outputs
from onnx_magic.engine.precision import as_narrow, narrow_tolerances, widened
from onnx_magic.engine.replaying import both_answers, compare_calls, replayed
from onnx_magic.engine.swapping import stand_in_for
from onnx_magic.engine.watching import watch_modules
from onnx_magic.errors import InputsError
from onnx_magic.records.results import Validation

PROMPT = [[5, 17, 40, 3, 99, 23]]


class Tied(torch.nn.Module):
    """A shared weight under two names, a view of it, a buffer, a plain tensor, a LSTM which keeps a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 4)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.lstm = torch.nn.LSTM(4, 4, batch_first=True)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 0.5, 3.0]))
        self.bfloat16()
        self.again = torch.nn.Parameter(self.embedding.weight.data)
        self.shift = torch.full((4,), 0.25, dtype=torch.bfloat16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(ids))[0] * self.scale + self.shift)


def held(model: torch.nn.Module) -> list[tuple[Any, ...]]:
    """Which objects a model holds, where their data lies, and the bits."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return [
        (name, id(t), t.data_ptr(), t.dtype, t._version, t.requires_grad, id(t.grad) if t.grad is not None else None)
        + ((t.detach().view(torch.int16) if t.dtype == torch.bfloat16 else t.detach()).tolist(),)
        for name, t in tensors
    ]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_very_same_tensors_come_back(error: type[BaseException] | None) -> None:
    torch.manual_seed(0)
    model, ids = Tied(), torch.tensor([[1, 2, 3]])
    model(ids).sum().backward()
    before, shift, narrow = held(model), model.shift, model(ids)
    try:
        with widened(model) as was_narrow:
            assert was_narrow
            assert {t.dtype for t in [*model.parameters(), *model.buffers(), model.shift]} == {torch.float32}
            assert model.head.weight is model.embedding.weight
            assert model.again.data_ptr() == model.embedding.weight.data_ptr(), "shared storage stays shared"
            wide = model(ids)
            model.scale.data.fill_(7.0)
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt) as caught:
        assert type(caught) is error
    assert held(model) == before and model.shift is shift and shift.dtype == torch.bfloat16
    assert torch.equal(model(ids), narrow)
    # bfloat16 has 8 bits: each of some ten roundings is up to 2^-9 of values of about 3
    assert wide.dtype == torch.float32 and torch.allclose(wide, narrow.float(), atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_other_dtypes_are_left_alone(dtype: torch.dtype) -> None:
    model = torch.nn.Linear(2, 2).to(dtype)
    with widened(model) as was_narrow:
        assert not was_narrow and model.weight.dtype == dtype


def test_widened_inside_widened_narrows_at_the_end_only() -> None:
    model = torch.nn.Linear(2, 2).bfloat16()
    with widened(model):
        with widened(model) as again:
            assert not again
        assert model.weight.dtype == torch.float32
    assert model.weight.dtype == torch.bfloat16


def test_a_decoder_in_bfloat16_exports_and_generates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = _llama().to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    before = held(model)
    exported = onnx_magic.export(model, output=tmp_path / "out")
    assert exported.validation.status == "verified", exported.validation.findings
    assert [f.code for f in exported.report.findings].count("weights-widened") == 1
    assert held(model) == before and model.config.dtype == torch.bfloat16
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    manifest = exported.opened.manifest
    assert manifest is not None and "weights-widened" in {row["code"] for row in manifest.findings}
    ids = torch.tensor(PROMPT)
    asked = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    tokens = exported.generate(ids, **asked)
    with widened(model):
        expected = model.generate(ids, **asked)
    assert np.array_equal(np.asarray(tokens), expected.numpy())
    both = both_answers(exported, {"input_ids": np.array(PROMPT)}, asked={"max_new_tokens": 8})
    assert both.comparison[0].passed
    with watch_modules(type(model).__name__) as watch, torch.no_grad():
        narrow = model.generate(ids, **asked)
    with exported.swapped_into(model) as report, torch.no_grad():
        swapped = model.generate(ids, **asked)
    assert report.count and torch.equal(swapped, expected)
    compared, notes = compare_calls(stand_in_for(exported, model), watch.calls, report.calls)
    assert compared and all(compared) and any("within bfloat16's tolerance" in note for note in notes)
    parted = any("part before step" in note for note in notes)
    assert parted or torch.equal(narrow[:, : len(watch.calls)], expected[:, : len(watch.calls)])


def _llama() -> Any:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=96,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:  # spread wide enough that it generates more than one token
            torch.nn.init.normal_(parameter, std=1.0 if "emb" in name else 1.5 / parameter.shape[-1] ** 0.5)
    return model


def test_a_classifier_in_bfloat16(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_bert("SequenceClassification", num_labels=2).to(torch.bfloat16)
    before = held(model)
    exported = onnx_magic.export(model, output=tmp_path / "out")
    assert exported.validation and exported.outputs[0].dtype == "float32"
    assert held(model) == before
    feed = {spec.name: np.ones((2, 5), np.int64) for spec in exported.inputs}
    assert exported.compare(feed), "the same model: its fingerprint is that of bfloat16"
    tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
    with watch_modules(type(model).__name__) as watch, torch.no_grad():
        model(**tensors)
    side = replayed(exported, model, watch.calls)
    assert side.comparison[0].passed and side.comparison[0].diffs[0].expected_dtype == "bfloat16"
    assert any("within bfloat16's tolerance" in note for note in side.notes)
    with torch.no_grad():
        model.classifier.bias += 1.0
    with pytest.raises(onnx_magic.OnnxMagicError, match="changed"):
        exported.compare(feed)


def test_inputs_in_bfloat16_are_widened_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).bfloat16()
    exported = onnx_magic.export(model, inputs=torch.randn(2, 4, dtype=torch.bfloat16), output=tmp_path / "out")
    assert exported.validation and exported.inputs[0].dtype == "float32"
    plan = onnx_magic.plan(model, inputs=torch.randn(2, 4, dtype=torch.bfloat16))
    assert plan.inputs[0].dtype == "float32" and model[0].weight.dtype == torch.bfloat16


def test_an_export_that_fails_gives_the_weights_back(tmp_path: Path) -> None:
    class Refuses(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4).bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(f"not with {self.layer(x).dtype}")

    model = Refuses()
    before = held(model)
    with pytest.raises(InputsError, match="float32"):
        onnx_magic.export(model, inputs=torch.randn(2, 4), output=tmp_path / "out")
    assert held(model) == before


def test_a_wrong_value_fails_at_bfloat16_too() -> None:
    exact = np.float32([[1.003, -2.004, 30.01]])
    expected = {"y": exact.astype(ml_dtypes.bfloat16)}
    for actual, passes in (
        ({"y": exact}, True),
        ({"y": exact + np.float32(0.5)}, True),  # within 0.1 of its size, 17: so much a model in bfloat16 may lose
        ({"y": exact + np.float32(3)}, False),
        ({"y": exact * np.float32(1.3)}, False),
        ({"y": exact.astype(np.float64)}, False),
    ):
        atol, rtol = narrow_tolerances(expected, Validation())
        found = compare_outputs("one", expected, as_narrow(actual, expected), {}, atol=atol, rtol=rtol)
        assert found.passed is passes
    assert not compare_outputs("one", expected, {"y": exact}, {}).passed, "elsewhere another dtype is a failure"
    assert narrow_tolerances({"y": exact}, Validation()) == (dict(ATOL), dict(RTOL)), "float32 keeps its own"
