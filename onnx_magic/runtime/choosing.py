"""Logits to the next tokens: the options of GenerationSettings, applied in Transformers' order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_magic.records.results import Array
from onnx_magic.runtime.generation_settings import GenerationSettings

_NEVER = -np.inf


@dataclass(eq=False)
class Chooser:
    """Chooses the next token of every row.

    Args:
        settings: How.
        prompt: Tokens of the longest prompt, padding included.
        padding: Padding before each row's prompt, in tokens.

    Example:
        >>> Chooser(GenerationSettings(), 1, [0])(np.array([[0.0, 2.0, 1.0]]), np.array([[0]])).tolist()
        [1]
    """

    settings: GenerationSettings
    prompt: int
    padding: Sequence[int]
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.settings.seed)

    def __call__(self, logits: Array, ids: Array) -> Array:
        """The next tokens int64[batch].

        Args:
            logits: float32[batch, vocabulary]; changed in place.
            ids: All tokens so far, int64[batch, tokens].
        """
        self._process(logits, ids)
        if not self.settings.sample:
            return np.asarray(np.argmax(logits, axis=-1))
        probabilities = self._probabilities(logits)
        reached = np.cumsum(probabilities, axis=-1, dtype=np.float64)
        drawn = self.random.random((len(logits), 1)) * reached[:, -1:]
        return np.asarray((reached <= drawn).sum(axis=-1).clip(max=logits.shape[-1] - 1))

    def _process(self, logits: Array, ids: Array) -> None:
        settings, made = self.settings, ids.shape[1] - self.prompt
        if settings.repetition_penalty != 1.0:
            for row, (tokens, padding) in enumerate(zip(ids, self.padding, strict=True)):
                seen = np.unique(tokens[padding:])
                scores = logits[row, seen]
                penalty = settings.repetition_penalty
                logits[row, seen] = np.where(scores < 0, scores * penalty, scores / penalty)
        if made < settings.min_new_tokens:
            logits[:, list(settings.eos)] = _NEVER
        if settings.forced_bos is not None and ids.shape[1] == 1:
            _only(logits, (settings.forced_bos,))
        if settings.forced_eos and made == settings.max_new_tokens - 1:
            _only(logits, settings.forced_eos)
        if settings.suppress:
            logits[:, list(settings.suppress)] = _NEVER
        first = 1 if settings.forced_bos is not None and self.prompt == 1 else 0
        if settings.begin_suppress and made == first:
            logits[:, list(settings.begin_suppress)] = _NEVER

    def _probabilities(self, logits: Array) -> Array:
        settings = self.settings
        logits = logits / settings.temperature
        if 0 < settings.top_k < logits.shape[-1]:
            least = np.partition(logits, -settings.top_k, axis=-1)[:, -settings.top_k, None]
            logits = np.where(logits < least, _NEVER, logits)
        probabilities = _softmax(logits)
        if settings.top_p < 1.0:
            order = np.argsort(probabilities, axis=-1, kind="stable")
            below = np.cumsum(np.take_along_axis(probabilities, order, -1), axis=-1) <= 1 - settings.top_p
            below[:, -1] = False  # the likeliest token stays
            dropped = np.zeros_like(below)
            np.put_along_axis(dropped, order, below, -1)
            probabilities = np.where(dropped, 0.0, probabilities)
        return probabilities


def _only(logits: Array, tokens: Sequence[int]) -> None:
    """Leave these tokens alone possible."""
    logits[:] = _NEVER
    logits[:, list(tokens)] = 0.0


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Array = shifted.sum(axis=-1, keepdims=True)
    return np.asarray(shifted / total)
