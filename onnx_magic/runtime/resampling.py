"""Sounds of another sampling rate than the model's, resampled as Transformers' pipelines do with torchaudio."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from onnx_magic.errors import FeedError
from onnx_magic.records.results import Array
from onnx_magic.runtime.sounds import Sound

ZERO_CROSSINGS, ROLLOFF = 6, 0.99
"""Of the low-pass filter: its half width, and where it cuts as a share of the lower rate's half. torchaudio's defaults:
the same samples come out, to 1e-4."""
MOST_WEIGHTS = 1 << 24
"""Rates without a common divisor need a filter per sample: 44,099 to 16,000 would be 700 million numbers."""


def at_rate(sound: Sound, rate: int, model: str) -> tuple[Sound, str]:
    """The sound at a sampling rate, and a note where it was resampled.

    Args:
        rate: Samples per second that the model was trained with.
        model: What an error calls it.

    Raises:
        FeedError: the two rates have too small a common divisor; says both, and how to resample.

    Example:
        >>> at_rate(Sound(np.zeros(441, np.float32), 44100, "a.wav"), 16000, "tiny")[1]
        'a.wav was resampled from 44100 to 16000 samples a second'
    """
    if sound.rate is None or sound.rate == rate:
        return sound, ""
    common = math.gcd(sound.rate, rate)
    old, new = sound.rate // common, rate // common
    if sound.rate < 0 or new * (old + 2 * _half_width(old, new)) > MOST_WEIGHTS:
        source = sound.name if Path(sound.name).suffix else "sound.wav"
        raise FeedError(
            f"{sound.name} has {sound.rate} samples a second, {model} takes {rate}",
            fix=f"ffmpeg -i {source} -ar {rate} -ac 1 {Path(source).stem}-{rate}.wav",
        )
    made = dataclasses.replace(sound, samples=_resampled(sound.samples, old, new), rate=rate)
    return made, f"{sound.name} was resampled from {sound.rate} to {rate} samples a second"


def _half_width(old: int, new: int) -> int:
    return math.ceil(ZERO_CROSSINGS * old / (min(old, new) * ROLLOFF))


def _resampled(samples: Array, old: int, new: int) -> Array:
    """`old` samples become `new`: a band-limited interpolation (https://ccrma.stanford.edu/~jos/resample/)."""
    width, cut = _half_width(old, new), min(old, new) * ROLLOFF
    # Row i: the filter about the time of the i-th of `new` samples, in units of zero crossings.
    times = np.arange(-width, width + old) / old - np.arange(new)[:, None] / new
    times = np.clip(times * cut, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(times * np.pi / ZERO_CROSSINGS / 2) ** 2
    filters = (np.sinc(times) * window * cut / old).astype(np.float32)
    padded = np.pad(samples, (width, width + old))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, filters.shape[1])[::old]
    count = math.ceil(new * samples.size / old)
    return np.ascontiguousarray((blocks @ filters.T).reshape(-1)[:count], np.float32)
