"""Sound as a person has it (a .wav file, an array, samples with their rate) as mono float32 samples at a known rate."""

from __future__ import annotations

import importlib.util
import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnx_magic.errors import FeedError
from onnx_magic.records.results import Array

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".m4a", ".opus", ".webm"})
"""How the name of a sound file ends."""

_RATES = ("sampling_rate", "sample_rate")
_SAMPLES = ("array", "raw")
_FULL_SCALE = {1: 2.0**7, 2: 2.0**15, 3: 2.0**23, 4: 2.0**31}


@dataclass(frozen=True, eq=False)
class Sound:
    """Samples, and how many of them make a second.

    Args:
        samples: float32[samples], one channel, within -1 and 1 where they came from a file.
        rate: Samples per second; `None` where nothing tells it.
        name: What an error calls it.
    """

    samples: Array
    rate: int | None
    name: str


def is_sound(value: Any) -> bool:
    """Whether it is a sound file's path, `{"array": ..., "sampling_rate": ...}`, or an array of one sound.

    Example:
        >>> is_sound("a.wav"), is_sound({"raw": [0.1], "sampling_rate": 16000}), is_sound("a text")
        (True, True, False)
    """
    if isinstance(value, str | Path):
        return Path(value).suffix.lower() in SUFFIXES
    if isinstance(value, Mapping):
        return any(key in value for key in _SAMPLES) and any(key in value for key in _RATES)
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fi"


def read_sound(value: Any) -> Sound:
    """A path, a file's bytes, samples with their rate, or bare samples, as a `Sound`.

    Integer samples are scaled by their dtype's range, several channels are averaged.

    Raises:
        FeedError: no such file, a format that nothing here reads, no samples, or samples that are not finite.
    """
    if isinstance(value, str | Path):
        sound = _from_path(Path(value).expanduser())
    elif isinstance(value, bytes):
        sound = _from_file(io.BytesIO(value), Path("upload"))
    elif isinstance(value, Mapping):
        found = next((value[key] for key in _SAMPLES if key in value), None)
        rate = next((value[key] for key in _RATES if key in value), None)
        sound = Sound(_mono(np.asarray(found), "the sound"), int(rate) if rate else None, "the sound")
    else:
        sound = Sound(_mono(np.asarray(value), "the sound"), None, "the sound")
    if sound.samples.size == 0:
        raise FeedError(f"{sound.name} holds no samples", fix="give a sound of at least a tenth of a second")
    if not np.isfinite(sound.samples).all():
        raise FeedError(
            f"{sound.name} holds samples that are not finite (NaN or infinite)", fix="np.nan_to_num(samples)"
        )
    return sound


def _from_path(path: Path) -> Sound:
    if not path.is_file():
        raise FeedError(f"{path}: no such sound file", fix="give the path of a .wav file, or samples as an array")
    with path.open("rb") as file:
        return _from_file(file, path)


def _from_file(file: BinaryIO, path: Path) -> Sound:
    try:
        return _from_wave(file, path.name)
    except (wave.Error, EOFError) as error:
        if importlib.util.find_spec("soundfile") is None:
            raise FeedError(
                f"{path.name} is no PCM .wav file ({error or 'it ends too early'}), and soundfile is not installed",
                fix=f"pip install soundfile  # or: ffmpeg -i {path.name} -ar 16000 -ac 1 {path.stem}.wav",
            ) from error
    file.seek(0)
    return _from_soundfile(file, path)


def _from_wave(file: BinaryIO, name: str) -> Sound:
    with wave.open(file, "rb") as read:
        width, channels, rate = read.getsampwidth(), read.getnchannels(), read.getframerate()
        data = read.readframes(read.getnframes())
    count = len(data) // (width * channels) * channels
    raw = np.frombuffer(data, np.uint8, count * width)
    if width == 1:
        values = raw.astype(np.float64) - 128
    elif width == 3:
        wide = np.zeros((count, 4), np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        values = (wide.view("<i4")[:, 0] >> 8).astype(np.float64)
    else:
        values = raw.view(f"<i{width}").astype(np.float64)
    return Sound((values / _FULL_SCALE[width]).reshape(-1, channels).mean(-1).astype(np.float32), rate, name)


def _from_soundfile(file: BinaryIO, path: Path) -> Sound:
    import soundfile

    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise FeedError(
            f"{path.name} is no sound that soundfile reads",
            fix=f"ffmpeg -i {path.name} -ar 16000 -ac 1 {path.stem}.wav",
        ) from error
    return Sound(samples.mean(-1).astype(np.float32), int(rate), path.name)


def _mono(samples: Array, name: str) -> Array:
    """One channel of float32; of two axes the shorter one is the channels."""
    if samples.dtype.kind not in "fiu" or samples.ndim not in (1, 2):
        raise FeedError(
            f"{name} is {samples.dtype}{list(samples.shape)}, expected numbers on one axis, or two with the channels",
            fix="samples = np.asarray(samples, np.float32)",
        )
    scale = 1.0 if samples.dtype.kind == "f" else _FULL_SCALE.get(samples.dtype.itemsize, 1.0)
    values = samples.astype(np.float32) / np.float32(scale)
    if values.ndim == 2:
        values = values.mean(axis=int(np.argmin(values.shape)))
    return np.ascontiguousarray(values, np.float32)
