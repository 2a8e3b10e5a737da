"""Tiny ONNX graphs, tokenizers and folders, made in code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WORDS = (
    "the a cat sat on mat dog ran fast in paris ada lives who where she is france capital of un ##happy happy ##s"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [letter for c in "abcdefghijklmnopqrstuvwxyz.,?!'" for letter in (c, f"##{c}")]
CHINESE = list("我爱北京天安门大家好")
VOCABULARY = [*SPECIAL, *WORDS, *LETTERS, *CHINESE]

Info = tuple[str, int, Sequence[int | str] | None]


def build(
    inputs: Sequence[Info],
    outputs: Sequence[Info],
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*info) for info in inputs],
        [helper.make_tensor_value_info(*info) for info in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def linear(batch: int | str = "batch_size") -> onnx.ModelProto:
    """y = x @ w, x: float32[batch, 3], w: 3 x 4."""
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return build([("x", TensorProto.FLOAT, [batch, 3])], [("y", TensorProto.FLOAT, [batch, 4])], [node], weights)


def text_model(
    names: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
    shape: Sequence[int | str] = ("batch_size", "sequence_length"),
    labels: int = 2,
    per_token: bool = False,
    seed: int = 0,
) -> onnx.ModelProto:
    """A bag of tokens: logits are a sum over the tokens' random rows, masked; or one row of logits per token."""
    table = np.random.default_rng(seed).normal(size=(200, labels)).astype(np.float32)
    weights = {"table": table, "axes": np.array([-2])}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    rows = "rows"
    if "token_type_ids" in names:
        weights["types"] = np.random.default_rng(seed + 1).normal(size=(2, labels)).astype(np.float32)
        nodes += [
            helper.make_node("Gather", ["types", "token_type_ids"], ["type_rows"]),
            helper.make_node("Add", [rows, "type_rows"], ["typed"]),
        ]
        rows = "typed"
    if "attention_mask" in names:
        weights["last"] = np.array([-1])
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
            helper.make_node("Mul", [rows, "mask3"], ["masked"]),
        ]
        rows = "masked"
    if per_token:
        nodes.append(helper.make_node("Identity", [rows], ["logits"]))
        out = [*shape, labels]
    else:
        nodes.append(helper.make_node("ReduceSum", [rows, "axes"], ["logits"], keepdims=0))
        out = [*shape[:-1], labels]
    inputs = [(name, TensorProto.INT64, list(shape)) for name in names]
    return build(inputs, [("logits", TensorProto.FLOAT, out)], nodes, weights)


def wordpiece() -> Any:
    """A BERT tokenizer over the tiny vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: i for i, token in enumerate(VOCABULARY)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    backend.add_special_tokens(SPECIAL)
    return backend


def save_wordpiece(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wordpiece().save(str(folder / "tokenizer.json"))
    record = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 32,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(record))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    return folder


@pytest.fixture
def make_linear() -> Callable[..., onnx.ModelProto]:
    return linear


@pytest.fixture
def make_text_model() -> Callable[..., onnx.ModelProto]:
    return text_model


@pytest.fixture
def make_graph() -> Callable[..., onnx.ModelProto]:
    return build


@pytest.fixture
def save_tokenizer() -> Callable[..., Path]:
    return save_wordpiece


@pytest.fixture
def vocabulary() -> list[str]:
    return VOCABULARY


@pytest.fixture
def text_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder in the exported layout: graph under onnx/, tokenizer, config.json of the class given."""

    def write(architecture: str, model: onnx.ModelProto | None = None, **config: Any) -> Path:
        folder = save_wordpiece(tmp_path / "tiny-onnx")
        record = {"model_type": "bert", "architectures": [architecture], **config}
        (folder / "config.json").write_text(json.dumps(record))
        (folder / "onnx").mkdir(exist_ok=True)
        onnx.save(model if model is not None else text_model(), folder / "onnx" / "model.onnx")
        return folder

    return write
