"""Sounds to arrays, against Transformers' own feature extractors; and sounds that cannot be taken."""

from __future__ import annotations

import importlib.util
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import FeedError, GraphFileError
from onnx_magic.runtime.listening import AudioProcessor, load_audio_processor
from onnx_magic.runtime.sounds import is_sound, read_sound

RATE = 16000


def tone(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A gliding tone with a little noise, float32[samples]."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, time.size)
    return (0.4 * np.sin(2 * np.pi * (220 + 300 * time + 40 * seed) * time) + noise).astype(np.float32)


def write_wave(path: Path, samples: np.ndarray, *, rate: int = RATE, width: int = 2, channels: int = 1) -> Path:
    scale = 2 ** (8 * width - 1) - 1
    values = np.repeat(np.round(samples * scale).astype(np.int64)[:, None], channels, 1)
    raw = (values + 128 if width == 1 else values).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width]
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", "not compressed"))
        file.writeframes(raw.tobytes())
    return path


@pytest.mark.parametrize("seconds", [0.05, 1.0, 2.3])
def test_whisper_spectrograms_are_those_of_transformers(tmp_path: Path, seconds: float) -> None:
    from transformers import WhisperFeatureExtractor

    theirs = WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    theirs.save_pretrained(tmp_path)
    processor = load_audio_processor(tmp_path)
    assert processor is not None
    sounds = [tone(seconds), tone(seconds / 2, seed=1)]
    arrays, _ = processor(sounds)
    expected = theirs(sounds, sampling_rate=RATE, return_tensors="np")["input_features"]
    assert arrays["input_features"].shape == expected.shape
    # They transform in float32, we in float64: near silence a logarithm shows that in the fourth decimal.
    np.testing.assert_allclose(arrays["input_features"], expected, atol=2e-4)
    # Negative control: another sound is far away.
    assert np.abs(processor(tone(seconds, seed=5))[0]["input_features"] - expected[:1]).max() > 0.05


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_samples_are_those_of_transformers(tmp_path: Path, mask: bool, normalize: bool) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    theirs = Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=mask)
    theirs.save_pretrained(tmp_path)
    processor = load_audio_processor(tmp_path)
    assert processor is not None
    sounds = [tone(0.3) + 0.2, tone(0.2, seed=1)]
    arrays, _ = processor(sounds)
    expected = theirs(sounds, sampling_rate=RATE, padding=True, return_tensors="np")
    assert set(arrays) == set(expected)
    # The sums of a mean and a variance in another order: float32's last digits.
    np.testing.assert_allclose(arrays["input_values"], expected["input_values"], atol=1e-5)
    if mask:
        np.testing.assert_array_equal(arrays["attention_mask"], expected["attention_mask"])


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wave_files_of_every_width(tmp_path: Path, width: int, channels: int) -> None:
    samples = tone(0.1)
    sound = read_sound(write_wave(tmp_path / "a.wav", samples, width=width, channels=channels))
    assert sound.rate == RATE
    np.testing.assert_allclose(sound.samples, samples, atol=1.01 / 2 ** (8 * width - 1) + 1e-6)


def test_integers_and_channels() -> None:
    samples = tone(0.1)
    stereo = np.stack([samples, samples])
    np.testing.assert_allclose(read_sound(stereo).samples, samples, atol=1e-7)
    np.testing.assert_allclose(read_sound(stereo.T).samples, samples, atol=1e-7)
    as_integers = np.round(samples * 32767).astype(np.int16)
    np.testing.assert_allclose(read_sound(as_integers).samples, samples, atol=1e-4)
    assert read_sound({"array": samples, "sampling_rate": 8000}).rate == 8000


def test_what_is_a_sound() -> None:
    assert is_sound(Path("a.flac")) and is_sound(np.zeros(4, np.float32))
    assert not is_sound("a text.") and not is_sound({"text": "a"}) and not is_sound(np.zeros((2, 3, 4)))


def whisper(**config: Any) -> AudioProcessor:
    return AudioProcessor({"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 1, **config}, "tiny")


def test_a_long_sound_is_cut_and_said() -> None:
    arrays, notes = whisper()({"raw": tone(1.5), "sampling_rate": RATE})
    assert arrays["input_features"].shape == (1, 80, 100)
    assert notes == ("the sound is 1.5 s long and was cut at 1 s",)
    assert whisper()(tone(0.5))[1] == ("an array does not tell its sampling rate: 16000 samples a second were taken",)


def test_another_rate_is_resampled_and_said(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "song.wav", tone(0.1, rate=44100), rate=44100)
    arrays, notes = whisper()(path)
    assert notes == ("song.wav was resampled from 44100 to 16000 samples a second",)
    expected = whisper()({"raw": tone(0.1), "sampling_rate": RATE})[0]["input_features"]
    heard, meant = (features[0, :, 1:8].argmax(axis=0) for features in (arrays["input_features"], expected))
    np.testing.assert_array_equal(heard, meant)  # the loudest band; the others hold what 16 bits leave


def test_a_rate_without_a_common_divisor_is_refused() -> None:
    with pytest.raises(FeedError, match="the sound has 44099 samples a second, tiny takes 16000") as caught:
        whisper()({"raw": tone(0.1), "sampling_rate": 44099})
    assert caught.value.fix == "ffmpeg -i sound.wav -ar 16000 -ac 1 sound-16000.wav"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros(0, np.float32), "holds no samples"),
        ({"raw": [], "sampling_rate": RATE}, "holds no samples"),
        (np.array([0.1, np.nan]), "NaN"),
        (np.zeros((2, 3, 4), np.float32), "expected numbers on one axis"),
        ("nowhere.wav", "no such sound file"),
    ],
)
def test_what_is_no_sound(given: Any, said: str) -> None:
    with pytest.raises(FeedError, match=said) as caught:
        whisper()(given)
    assert caught.value.fix


def test_a_file_that_is_no_wave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"ID3 this is no wave file")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeedError, match="song.mp3 is no PCM .wav file") as caught:
        read_sound(path)
    assert "pip install soundfile" in caught.value.fix


def test_folders_without_and_with_an_unknown_extractor(tmp_path: Path) -> None:
    assert load_audio_processor(tmp_path) is None
    config = tmp_path / "preprocessor_config.json"
    config.write_text('{"feature_extractor_type": "ClapFeatureExtractor", "sampling_rate": 48000}')
    with pytest.raises(GraphFileError, match="no rule here for ClapFeatureExtractor"):
        load_audio_processor(tmp_path)
    config.write_text('{"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 0}')
    with pytest.raises(GraphFileError, match="not above 0"):
        load_audio_processor(tmp_path)
