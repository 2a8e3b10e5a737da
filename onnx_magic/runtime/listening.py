"""Sounds to arrays: what preprocessor_config.json says of them, as Transformers' feature extractors do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_magic.errors import GraphFileError
from onnx_magic.records.results import Array
from onnx_magic.runtime.resampling import at_rate
from onnx_magic.runtime.sounds import Sound, read_sound
from onnx_magic.runtime.spectrograms import log_mel
from onnx_magic.runtime.tokenizing import read_json

WAVES, FEATURES, MASK = "input_values", "input_features", "attention_mask"
AUDIO_INPUTS = (WAVES, FEATURES)
"""What a graph that takes sound calls its input: the samples themselves, or a spectrogram."""

_VARIANCE_FLOOR = 1e-7


class AudioProcessor:
    """What a folder says of its sounds: sampling rate, normalisation, spectrogram.

    Args:
        config: preprocessor_config.json.
        name: What an error calls the model.
    """

    def __init__(self, config: Mapping[str, Any], name: str = "the model") -> None:
        self._config = config
        self._name = name
        self.rate = int(config.get("sampling_rate", 16000))
        self._make = _KINDS[_kind(config)]

    def __call__(self, sounds: Any) -> tuple[dict[str, Array], tuple[str, ...]]:
        """One sound or a list of them as the graph's arrays, and a note for each thing that was done.

        Returns:
            `input_values` float32[sounds, samples] with an `attention_mask` where the model was trained with one, or
            `input_features` float32[sounds, bands, frames].

        Raises:
            FeedError: something is no sound, holds no samples, or has a sampling rate that cannot be resampled.
        """
        given = [read_sound(one) for one in (sounds if isinstance(sounds, list | tuple) else [sounds])]
        many, told = zip(*(at_rate(sound, self.rate, self._name) for sound in given), strict=True)
        notes = tuple(dict.fromkeys(note for note in told if note))
        if any(sound.rate is None for sound in many):
            notes += (f"an array does not tell its sampling rate: {self.rate} samples a second were taken",)
        arrays, more = self._make(many, self._config, self.rate)
        return arrays, (*notes, *more)


def load_audio_processor(folder: Path, name: str = "the model") -> AudioProcessor | None:
    """The feature extractor of a folder; `None` when it has none for sounds.

    Raises:
        GraphFileError: it names a feature extractor that has no rule here, or numbers that make no sense.
    """
    config = read_json(folder / "preprocessor_config.json")
    if "feature_extractor_type" not in config:
        config = read_json(folder / "processor_config.json").get("feature_extractor") or {}
    if "sampling_rate" not in config or "feature_extractor_type" not in config:
        return None
    if _kind(config) not in _KINDS:
        raise GraphFileError(
            f"{folder.name}: no rule here for {config['feature_extractor_type']}, there are "
            f"{', '.join(f'{kind}FeatureExtractor' for kind in _KINDS)}",
            fix="make the arrays with the model's own feature extractor and run these",
        )
    numbers = [config.get(key, 1) for key in ("sampling_rate", "feature_size", "n_fft", "hop_length", "chunk_length")]
    if not all(isinstance(n, int | float) and n > 0 for n in numbers):
        raise GraphFileError(
            f"{folder.name}: preprocessor_config.json holds a size that is not above 0", fix="restore it from the model"
        )
    return AudioProcessor(config, name)


def _kind(config: Mapping[str, Any]) -> str:
    """`Whisper` of `WhisperFeatureExtractor`."""
    return str(config.get("feature_extractor_type") or "").removesuffix("FeatureExtractor")


Made = tuple[dict[str, Array], tuple[str, ...]]


def _waves(sounds: Sequence[Sound], config: Mapping[str, Any], rate: int) -> Made:
    """Samples padded to the longest, each row of mean 0 and variance 1 where the model wants that.

    As Transformers does it: over the sound alone where there is a mask, over the padded row where there is none.
    """
    longest = max(sound.samples.size for sound in sounds)
    silence, masked = float(config.get("padding_value", 0.0)), bool(config.get("return_attention_mask", False))
    values = np.full((len(sounds), longest), silence, np.float32)
    mask = np.zeros((len(sounds), longest), np.int64)
    for row, sound in enumerate(sounds):
        size = sound.samples.size
        values[row, :size], mask[row, :size] = sound.samples, 1
        if config.get("do_normalize", True):
            heard = values[row, : size if masked else longest]
            heard[:] = (heard - heard.mean()) / np.sqrt(heard.var() + _VARIANCE_FLOOR)
    return ({WAVES: values, MASK: mask} if masked else {WAVES: values}), ()


def _spectrograms(sounds: Sequence[Sound], config: Mapping[str, Any], rate: int) -> Made:
    """Log-mel spectrograms of windows of one length, silence at the end."""
    length = int(config.get("n_samples") or config.get("chunk_length", 30) * rate)
    window, hop = int(config.get("n_fft", 400)), int(config.get("hop_length", 160))
    bands = int(config.get("feature_size", 80))
    rows = []
    for sound in sounds:
        samples = np.full(length, config.get("padding_value", 0.0), np.float32)
        samples[: sound.samples.size] = sound.samples[:length]
        rows.append(log_mel(samples, rate=rate, window=window, hop=hop, bands=bands))
    cut = [sound for sound in sounds if sound.samples.size > length]
    notes = [f"{s.name} is {s.samples.size / rate:.1f} s long and was cut at {length / rate:g} s" for s in cut]
    return {FEATURES: np.stack(rows)}, tuple(notes)


_KINDS: Mapping[str, Callable[[Sequence[Sound], Mapping[str, Any], int], Made]] = {
    "Wav2Vec2": _waves,
    "Whisper": _spectrograms,
}
"""How the name of a feature extractor begins → its steps."""
