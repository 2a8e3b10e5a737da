"""Sounds at another rate: tones keep their pitch and height, and what the lower rate cannot hold is gone."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_magic.runtime.resampling import at_rate
from onnx_magic.runtime.sounds import Sound


def tone(hertz: float, rate: int, seconds: float = 0.2) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100, 48000, 96000])
def test_a_tone_stays_what_it_is(rate: int) -> None:
    sound, note = at_rate(Sound(tone(440, rate), rate, "a.wav"), 16000, "tiny")
    expected = tone(440, 16000)
    assert sound.rate == 16000 and sound.samples.dtype == np.float32 and sound.samples.shape == expected.shape
    assert note == f"a.wav was resampled from {rate} to 16000 samples a second"
    # Away from the ends, where the filter sees silence; its ripple is of that size.
    np.testing.assert_allclose(sound.samples[50:-50], expected[50:-50], atol=5e-3)


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    """The negative control: taking every third sample would leave a tone of 4 kHz."""
    sound, _ = at_rate(Sound(tone(12000, 48000), 48000, "a.wav"), 16000, "tiny")
    assert np.abs(sound.samples[50:-50]).max() < 0.01 < 0.5 < np.abs(tone(12000, 48000)[1::3]).max()


def test_the_same_rate_and_none_are_left_alone() -> None:
    for rate in (16000, None):
        sound = Sound(tone(440, 16000), rate, "a.wav")
        assert at_rate(sound, 16000, "tiny") == (sound, "")
