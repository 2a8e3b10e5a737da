"""A CTC model from a checkpoint folder to a transcript, against Transformers' processor and model."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_magic
from onnx_magic.engine.audio_examples import audio_examples, wants_mask
from onnx_magic.engine.playing import Player
from onnx_magic.engine.sources import resolve_source
from onnx_magic.errors import FeedError

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
RATE = 16000
TINY = {
    "vocab_size": len(LETTERS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


def model_of() -> Any:
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY)).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 1)
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    folder = tmp_path_factory.mktemp("speech") / "tiny-ctc"
    folder.mkdir()
    vocabulary = folder / "letters.json"
    vocabulary.write_text(json.dumps({letter: number for number, letter in enumerate(LETTERS)}))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(vocabulary))).save_pretrained(folder)
    vocabulary.unlink()
    model_of().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Any:
    return onnx_magic.export(str(checkpoint), output=checkpoint.parent / "out")


def sounds() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(0, 0.1, n).astype(np.float32) for n in (8000, 6000)]


def test_it_is_verified_at_other_lengths(exported: Any) -> None:
    assert exported.validation, exported.validation.findings
    assert exported.report.task == "automatic-speech-recognition"
    assert [str(spec) for spec in exported.inputs] == [
        "input_values: float32[batch_size, num_samples]",
        "attention_mask: int64[batch_size, num_samples]",
    ]
    frames = exported.outputs[0].shape[1]
    assert isinstance(frames, str) and "num_samples" in frames
    assert sorted(path.name for path in exported.path.iterdir()) == [
        "config.json",
        "onnx",
        "onnx_magic.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


def test_transcripts_are_those_of_transformers(exported: Any, checkpoint: Path) -> None:
    import torch
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    processor, model = Wav2Vec2Processor.from_pretrained(checkpoint), Wav2Vec2ForCTC.from_pretrained(checkpoint)
    with torch.no_grad():
        arrays = processor(sounds(), sampling_rate=RATE, padding=True, return_tensors="pt")
        expected = processor.batch_decode(model(**arrays).logits.argmax(-1))
    result = onnx_magic.load(exported.path).run(sounds())
    assert [answer["text"] for answer in result.decoded] == expected
    assert len(set(expected)) == 2 and all(len(text) > 3 for text in expected)
    assert result.notes == ("an array does not tell its sampling rate: 16000 samples a second were taken",)


def recording(path: Path, rate: int) -> Path:
    """A file of a second of noise."""
    random = np.random.default_rng(1)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((random.normal(0, 0.1, rate).clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def test_a_file_of_another_rate_is_resampled(exported: Any, tmp_path: Path) -> None:
    from onnx_magic.runtime.resampling import at_rate
    from onnx_magic.runtime.sounds import read_sound

    path = recording(tmp_path / "song.wav", 44100)
    result = exported.run(path)
    assert result.notes == ("song.wav was resampled from 44100 to 16000 samples a second",)
    array = at_rate(read_sound(path), RATE, "tiny")[0].samples
    assert array.shape == (RATE,)
    assert result.decoded == exported.run(array).decoded and len(result.decoded[0]["text"]) > 3


def test_a_sound_that_cannot_be_heard_is_refused(exported: Any, tmp_path: Path) -> None:
    path = recording(tmp_path / "odd.wav", 44099)
    with pytest.raises(FeedError, match="odd.wav has 44099 samples a second, .* takes 16000"):
        exported.run(path)
    with pytest.raises(FeedError, match="holds no samples"):
        exported.run(np.zeros(0, np.float32))


def test_the_live_panel_asks_for_a_sound(exported: Any, tmp_path: Path) -> None:
    player = Player(exported)
    assert player.form.kind == "sound" and [field.kind for field in player.form.fields] == ["sound"]
    noise = player.sample_inputs()
    assert noise["array"].size == noise["sampling_rate"] == RATE
    path = tmp_path / "hello.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes((sounds()[0] * 32767).astype("<i2").tobytes())
    upload = player.sound(path.read_bytes())
    assert upload["sampling_rate"] == RATE
    answers = [player.run(given).answers for given in (upload, str(path))]
    texts = {answer.result.decoded[0]["text"] for pair in answers for answer in pair if answer.result}
    assert [len(pair) for pair in answers] == [2, 2] and len(texts) == 1 and len(texts.pop()) > 3
    for data in (b"", b"RIFF", path.read_bytes()[:30]):
        with pytest.raises(FeedError, match=r"upload (is no|holds no)"):
            player.sound(data)


def test_a_mask_goes_with_layer_normalisation() -> None:
    source = resolve_source(model_of(), None)
    assert source.task == "automatic-speech-recognition"
    assert wants_mask(source)
    first, second = audio_examples(source, "float32")
    assert set(first.traced) == {"input_values", "attention_mask"} and first.padded
    assert set(second.traced) == {"input_values"}
    source.config.feat_extract_norm = "group"
    assert not wants_mask(source)
