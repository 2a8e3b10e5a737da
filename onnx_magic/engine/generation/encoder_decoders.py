"""The graphs of an encoder-decoder: its encoder, its decoder at the first step, and its decoder with a cache.

Each is a FlatModel around a small module of ours, which takes flat tensors, builds Transformers' cache from them and
takes it apart again. Nothing here knows an architecture: the cache is `EncoderDecoderCache`, its shapes come from one
run of the model, and whether the decoder looks at the encoder's mask is tried.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import Binding, FlatModel, Leaf

if TYPE_CHECKING:
    import torch

PAST = "past_sequence_length"
ENCODER_SEQUENCE = "encoder_sequence_length"
PAST_ENCODER_SEQUENCE = "encoder_sequence_length_out"
"""The length of the encoder's part of a past: 0 before the first step, where the encoder's states are not."""

STATES, MASK = "encoder_hidden_states", "encoder_attention_mask"
OURS = ("decoder", "encoder")
KINDS = ("key", "value")


@dataclass(frozen=True)
class CacheShape:
    """What the cache of a decoder looks like.

    Args:
        heads: Per layer, `(heads, size)` of the keys and of the values of its self-attention.
        crossed: Per layer, the same of its cross-attention; empty where the decoder makes these anew at each step.
        roles: Whether names say whose they are: `past_key_values.0.decoder.key`, else `past_key_values.0.key`.
    """

    heads: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    crossed: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    roles: bool

    def names(self, prefix: str) -> list[list[str]]:
        """Names of the tensors, layer by layer: `[["past_key_values.0.decoder.key", ...], ...]`.

        Example:
            >>> CacheShape((((2, 4), (2, 4)),), (), False).names("present")
            [['present.0.key', 'present.0.value']]
        """
        parts = [f"{role}.{kind}" for role in OURS for kind in KINDS] if self.roles else list(KINDS)
        return [[f"{prefix}.{layer}.{part}" for part in parts] for layer in range(len(self.heads))]


def decoder_config(model: Any) -> Any:
    """The config that the decoder's layers are built from: the model's own, or its `decoder` part."""
    own = getattr(model.config, "decoder", None)
    return own if own is not None and hasattr(own, "vocab_size") else model.config


def caches_encoder(model: Any) -> bool:
    """Whether clients keep the encoder's keys and values in the cache.

    transformers.js and optimum name a past by the decoder's config: one that is part of an encoder-decoder
    (`decoder_layers`, `num_decoder_layers`) has both parts, one of a plain language model (GPT-2, BERT) its own alone.
    """
    config = decoder_config(model)
    own = getattr(model.config, "decoder", None)
    return config is not own or hasattr(config, "decoder_layers") or hasattr(config, "num_decoder_layers")


@functools.cache
def _modules() -> tuple[type, type]:
    """The two modules; made when torch is there."""
    import torch

    class Encoder(torch.nn.Module):
        """`last_hidden_state` of a model's encoder."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.encoder = model.get_encoder()
            self.training = False

        def forward(self, **inputs: torch.Tensor) -> Any:
            return {"last_hidden_state": self.encoder(**inputs, return_dict=True).last_hidden_state}

    class Decoder(torch.nn.Module):
        """Logits and the cache after the step, from token ids, the encoder's states and the cache before it."""

        def __init__(self, model: Any, shape: CacheShape, *, first: bool) -> None:
            super().__init__()
            self.model = model
            self.shape = shape
            self.first = first
            self.training = False

        def forward(
            self,
            input_ids: torch.Tensor,
            encoder_hidden_states: torch.Tensor,
            encoder_attention_mask: torch.Tensor | None = None,
            past: Sequence[Sequence[torch.Tensor]] = (),
        ) -> Any:
            from transformers.cache_utils import DynamicCache, EncoderDecoderCache
            from transformers.modeling_outputs import BaseModelOutput

            ours, theirs = DynamicCache(), DynamicCache()
            for layer, tensors in enumerate(past):
                ours.update(tensors[0], tensors[1], layer)
                if len(tensors) > len(KINDS):
                    theirs.update(tensors[2], tensors[3], layer)
            mask = {} if encoder_attention_mask is None else {"attention_mask": encoder_attention_mask}
            out = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoder_hidden_states),
                decoder_input_ids=input_ids,
                past_key_values=EncoderDecoderCache(ours, theirs),
                use_cache=True,
                return_dict=True,
                **mask,
            )
            after = out.past_key_values
            caches = [after.self_attention_cache]
            if self.shape.roles and self.first:
                caches.append(after.cross_attention_cache)
            named = {"logits": out.logits}
            for layer, names in enumerate(self.shape.names("present")):
                tensors = [t for cache in caches for t in (cache.layers[layer].keys, cache.layers[layer].values)]
                named |= dict(zip(names, tensors, strict=False))
            return named

    return Encoder, Decoder


def encoder_model(model: Any, names: Sequence[str]) -> FlatModel:
    """The encoder as a function of `names` (`input_ids`, `attention_mask`; `pixel_values`)."""
    return FlatModel(_modules()[0](model), Binding((), {name: Leaf(name) for name in names}))


def decoder_model(model: Any, shape: CacheShape, *, masked: bool, first: bool) -> FlatModel:
    """The decoder as a function of flat tensors.

    Args:
        masked: Whether the encoder's mask is an input.
        first: Whether it is the first step of a merged pair: no past goes in, the encoder's keys and values come out.
    """
    kwargs: dict[str, Any] = {"input_ids": Leaf("input_ids")}
    if masked:
        kwargs[MASK] = Leaf(MASK)
    kwargs[STATES] = Leaf(STATES)
    if not first:
        kwargs["past"] = [[Leaf(name) for name in names] for names in shape.names("past_key_values")]
    return FlatModel(_modules()[1](model, shape, first=first), Binding((), kwargs))


def read_cache(model: Any, states: torch.Tensor, start: int = 0) -> CacheShape:
    """Run one step of the decoder on the encoder's states, and read the shapes of its cache."""
    import torch

    crossed = caches_encoder(model)
    probe = _modules()[1](model, CacheShape((), (), crossed), first=True)
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    del probe
    with torch.no_grad():
        cache = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            decoder_input_ids=torch.full((states.shape[0], 2), start, dtype=torch.long),
            past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
            use_cache=True,
            return_dict=True,
        ).past_key_values

    def sizes(part: Any) -> tuple[Any, ...]:
        return tuple(tuple((t.shape[1], t.shape[3]) for t in (layer.keys, layer.values)) for layer in part.layers)

    ours = sizes(cache.self_attention_cache)
    return CacheShape(ours, sizes(cache.cross_attention_cache) if crossed else (), crossed)
