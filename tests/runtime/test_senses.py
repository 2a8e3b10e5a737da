"""What an encoder reads: sounds and images become its arrays, texts get what the task puts before them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_magic.errors import FeedError
from onnx_magic.records.artifact import Manifest
from onnx_magic.runtime.folder import OpenedFolder
from onnx_magic.runtime.graphs import read_graph
from onnx_magic.runtime.prompting import positions_of, prompt_of
from onnx_magic.runtime.samples import arrays_of


def opened(folder: Path, name: str, dtype: int, shape: list[Any], **wording: Any) -> OpenedFolder:
    """A folder with an encoder that gives back what it reads, and a decoder that is never run."""
    info = helper.make_tensor_value_info
    graphs = {}
    for role, (inside, outside) in {"encoder": (name, "last_hidden_state"), "decoder": ("x", "logits")}.items():
        kind = dtype if role == "encoder" else TensorProto.FLOAT
        graph = helper.make_graph(
            [helper.make_node("Identity", [inside], [outside])],
            role,
            [info(inside, kind, shape if role == "encoder" else ["n"])],
            [info(outside, kind, shape if role == "encoder" else ["n"])],
        )
        path = folder / f"{role}_model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        graphs[role] = read_graph(path)
    manifest = Manifest("tiny", "translation", "Tiny", None, "0" * 16, "dynamo", {}, wording=wording)
    return OpenedFolder(folder, graphs, manifest=manifest)


def test_a_sound_becomes_the_encoders_spectrogram(tmp_path: Path) -> None:
    config = {"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000, "chunk_length": 1}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    folder = opened(tmp_path, "input_features", TensorProto.FLOAT, ["batch_size", 80, 100])
    prompt = prompt_of(folder, {"raw": np.zeros(4000, np.float32), "sampling_rate": 16000}, 0)
    assert prompt.arrays["input_features"].shape == (1, 80, 100) and prompt.alone
    prompt = prompt_of(folder, [np.zeros(4000, np.float32), np.zeros(8000, np.float32)], 0)
    assert prompt.arrays["input_features"].shape == (2, 80, 100) and not prompt.alone
    assert "16000 samples a second were taken" in prompt.notes[0]
    # Ready arrays pass through.
    ready = np.ones((1, 80, 100), np.float32)
    assert prompt_of(folder, {"input_features": ready}, 0).arrays["input_features"] is ready
    with pytest.raises(FeedError, match="tiny takes no text: it takes input_features"):
        prompt_of(folder, "a text", 0)
    with pytest.raises(FeedError, match="tiny takes input_features, not int") as caught:
        prompt_of(folder, 3, 0)
    assert caught.value.fix == 'exported.run("sound.wav")'


def test_a_sound_without_a_feature_extractor(tmp_path: Path) -> None:
    folder = opened(tmp_path, "input_features", TensorProto.FLOAT, ["batch_size", 80, 100])
    with pytest.raises(FeedError, match=r"tiny has no preprocessor_config.json for sounds: it takes input_features"):
        arrays_of(folder, np.zeros(4000, np.float32))


def test_an_image_becomes_the_encoders_pixels(tmp_path: Path) -> None:
    config = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    folder = opened(tmp_path, "pixel_values", TensorProto.FLOAT, ["batch_size", 3, 8, 8])
    prompt = prompt_of(folder, np.zeros((20, 30, 3), np.uint8), 0)
    assert prompt.arrays["pixel_values"].shape == (1, 3, 8, 8)
    with pytest.raises(FeedError, match="tiny takes pixel_values"):
        prompt_of(folder, {"input_ids": [[1]]}, 0)


def test_a_text_gets_the_tasks_prefix(tmp_path: Path, save_tokenizer: Callable[..., Path]) -> None:
    save_tokenizer(tmp_path)
    shape = ["batch_size", "sequence_length"]
    plain = opened(tmp_path, "input_ids", TensorProto.INT64, shape)
    told = opened(tmp_path, "input_ids", TensorProto.INT64, shape, prefix="the cat ")
    expected = prompt_of(plain, ["the cat ran fast", "the cat sat"], 0).arrays["input_ids"]
    np.testing.assert_array_equal(prompt_of(told, ["ran fast", "sat"], 0).arrays["input_ids"], expected)
    # Negative control: without the prefix the tokens are others.
    assert prompt_of(plain, ["ran fast", "sat"], 0).arrays["input_ids"].shape != expected.shape
    with pytest.raises(FeedError, match="the prompt is empty"):
        prompt_of(told, "", 0)


def test_a_decoders_positions_are_its_own() -> None:
    assert positions_of({"is_encoder_decoder": True, "max_source_positions": 50, "max_target_positions": 64}) == 64
    assert positions_of({"is_encoder_decoder": True, "decoder": {"n_positions": 32}}) == 32
    assert positions_of({"is_encoder_decoder": True, "n_positions": 512}) is None
