"""Log-mel spectrograms as Whisper takes them, in NumPy.

After Whisper (Radford et al. 2022, section 2.2), with the mel scale of the Auditory Toolbox (Slaney 1998).
"""

from __future__ import annotations

import functools

import numpy as np

from onnx_magic.records.results import Array

LOWEST_POWER = 1e-10
RANGE = 8.0
"""Powers of ten below the loudest that are kept."""

_KNEE_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3
_KNEE_MEL, _MELS_PER_LOG = _KNEE_HZ / _HZ_PER_MEL, 27.0 / np.log(6.4)
HIGHEST_HZ = 8000.0


def log_mel(samples: Array, *, rate: int, window: int, hop: int, bands: int) -> Array:
    """The scaled log-mel spectrogram of one sound, float32[bands, samples // hop].

    Args:
        samples: float32[samples], more than half a window of them.
        rate: Samples per second.
        window: Samples of a Hann window, which is the Fourier transform's size too.
        hop: Samples between two windows.
        bands: Number of mel bands from 0 to 8000 Hz.

    Example:
        >>> log_mel(np.zeros(1600, np.float32), rate=16000, window=400, hop=160, bands=80).shape
        (80, 10)
    """
    padded = np.pad(samples.astype(np.float64), window // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: len(samples) // hop]
    # A periodic Hann window: the symmetric one of one sample more, without its last.
    power = np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1])) ** 2
    energy = _filters(rate, window, bands) @ power.T
    logs = np.log10(np.maximum(energy, LOWEST_POWER))
    logs = np.maximum(logs, logs.max() - RANGE)
    return np.asarray((logs + 4.0) / 4.0, np.float32)


@functools.lru_cache(maxsize=4)
def _filters(rate: int, window: int, bands: int) -> Array:
    """Triangles on the mel scale, each of area 2 per Hz: float64[bands, window // 2 + 1]."""
    corners = _to_hz(np.linspace(_to_mel(np.asarray(0.0)), _to_mel(np.asarray(HIGHEST_HZ)), bands + 2))
    bins = np.linspace(0, rate // 2, window // 2 + 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    triangles: Array = np.maximum(0, np.minimum(rising, falling)) * (2.0 / (high - low))
    return triangles


def _to_mel(hertz: Array) -> Array:
    """Linear below 1 kHz, logarithmic above."""
    logarithmic = _KNEE_MEL + np.log(np.maximum(hertz, _KNEE_HZ) / _KNEE_HZ) * _MELS_PER_LOG
    return np.where(hertz < _KNEE_HZ, hertz / _HZ_PER_MEL, logarithmic)


def _to_hz(mels: Array) -> Array:
    logarithmic = _KNEE_HZ * np.exp((np.maximum(mels, _KNEE_MEL) - _KNEE_MEL) / _MELS_PER_LOG)
    return np.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, logarithmic)
