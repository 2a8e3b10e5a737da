"""Example sounds at any size: samples with an attention mask, or spectrograms; from a feature extractor or a config."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.examples import BATCH, SEED, Array, Examples
from onnx_magic.runtime.listening import FEATURES, MASK, WAVES

if TYPE_CHECKING:
    from onnx_magic.engine.sources import ModelSource

SAMPLES, FRAMES = "num_samples", "num_frames"

TRACED_SAMPLES = 4000
"""A quarter of a second at 16 kHz: eleven frames of wav2vec2, so that a padded row still holds some."""

USUAL_BANDS, USUAL_FRAMES = 80, 3000


def audio_examples(source: ModelSource, dtype: str) -> Iterator[Examples]:
    """Ways to make up a sound for a model, the likeliest first; nothing when it takes none."""
    takes = inspect.signature(source.model.forward).parameters
    if WAVES in takes:
        for mask in (wants_mask(source), False):
            yield _waves(mask and MASK in takes, dtype)
    elif FEATURES in takes:
        for bands, frames in _spectrogram_sizes(source):
            yield _spectrograms(bands, frames, dtype)


def wants_mask(source: ModelSource) -> bool:
    """Whether a model of samples was trained with an attention mask.

    As its feature extractor says; without one, as Transformers' documentation of wav2vec2 has it: those with layer
    normalisation were, those with group normalisation were not, and answer worse with one.
    """
    extractor = getattr(source.processor, "feature_extractor", source.processor)
    stated = getattr(extractor, "return_attention_mask", None)
    if stated is not None:
        return bool(stated)
    return getattr(source.config, "feat_extract_norm", "layer") == "layer"


def _waves(mask: bool, dtype: str) -> Examples:
    """Normal noise, float[batch, samples]; all rows but the first are padded where there is a mask."""

    def make(sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        shape = sizes[BATCH], sizes[SAMPLES]
        values = np.random.default_rng([SEED, seed, *shape]).standard_normal(shape).astype(dtype)
        if not mask:
            return {WAVES: values}
        kept = np.ones(shape, np.int64)
        kept[1:, shape[1] - shape[1] // 4 :] = 0
        return {WAVES: values * kept.astype(dtype), MASK: kept}

    traced = make({BATCH: 2, SAMPLES: TRACED_SAMPLES}, seed=0)
    axes = {name: {0: BATCH, 1: SAMPLES} for name in traced}
    return Examples(traced, axes, make, "config", padded=mask)


def _spectrograms(bands: int, frames: int, dtype: str) -> Examples:
    """Normal noise, float[batch, bands, frames]."""

    def make(sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
        shape = sizes[BATCH], bands, sizes[FRAMES]
        return {FEATURES: np.random.default_rng([SEED, seed, *shape]).standard_normal(shape).astype(dtype)}

    return Examples(make({BATCH: 2, FRAMES: frames}, 0), {FEATURES: {0: BATCH, 2: FRAMES}}, make, "config")


def _spectrogram_sizes(source: ModelSource) -> Iterator[tuple[int, int]]:
    """Bands and frames: the feature extractor's, else the config's, whose positions are frames after a stride of 2."""
    extractor: Any = getattr(source.processor, "feature_extractor", source.processor)
    stated = getattr(extractor, "feature_size", None), getattr(extractor, "nb_max_frames", None)
    bands = getattr(source.config, "num_mel_bins", None) or stated[0] or USUAL_BANDS
    positions = getattr(source.config, "max_source_positions", None)
    frames = [stated[1], 2 * positions if positions else None, positions, USUAL_FRAMES]
    for count in dict.fromkeys(n for n in frames if n):
        yield int(bands), int(count)
