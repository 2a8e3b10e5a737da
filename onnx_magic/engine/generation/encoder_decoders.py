"""An encoder-decoder as functions of flat tensors: its encoder, its decoder's first step, its decoder with a cache.

Nothing here knows an architecture: the cache is Transformers' `EncoderDecoderCache`, its shapes come from one run of
the model, and whether the decoder looks at the encoder's mask is tried.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import Binding, FlatModel, Leaf
from onnx_magic.engine.generation.caches import KINDS, PAST, PRESENT, CacheShape, filled_cache, no_cache, read_cache
from onnx_magic.engine.generation.merging import USE_CACHE
from onnx_magic.engine.probing import one_line

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.sources import ModelSource

STATES, MASK = "encoder_hidden_states", "encoder_attention_mask"
OF_DECODER, OF_ENCODER = "decoder", "encoder"
LAST_HIDDEN = "last_hidden_state"


@dataclass(frozen=True)
class TwoCaches:
    """What the cache of an encoder-decoder's decoder holds.

    Args:
        own: Of the decoder's own tokens.
        crossed: Of the encoder's states; `None` where the decoder makes these anew at each step, as decoders of plain
            language models do (GPT-2, BERT). Names then say no role: `past_key_values.0.key`.
    """

    own: CacheShape
    crossed: CacheShape | None

    def names(self, root: str, *, role: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
        """Name, and heads and head size, of every tensor, layer by layer.

        Args:
            root: `past_key_values` or `present`.
            role: `decoder` or `encoder`: of this part alone.
        """
        if self.crossed is None:
            yield from self.own.names(root) if role != OF_ENCODER else ()
            return
        parts = {OF_DECODER: self.own, OF_ENCODER: self.crossed}
        for number in range(len(self.own.layers)):
            for part, shape in parts.items():
                if role in ("", part):
                    layer = shape.layers[number]
                    yield f"{root}.{number}.{part}.key", layer.key
                    yield f"{root}.{number}.{part}.value", layer.value

    def pairs(self) -> tuple[tuple[Leaf, ...], ...]:
        """Where the tensors of a past go: of each layer its keys and values, the decoder's, then the encoder's."""
        names = [Leaf(name) for name, _ in self.names(PAST)]
        size = len(names) // len(self.own.layers)
        return tuple(tuple(names[at : at + size]) for at in range(0, len(names), size))


class DecoderBinding(Binding):
    """A Binding for the whole model that runs its decoder alone, from the encoder's states and flat caches."""

    def call(self, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keyword arguments of the model's forward, with the tensors in their places."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        _, given = super().call(tensors)
        layers = given.get(PAST, ())
        own = filled_cache([layer[:2] for layer in layers])
        crossed = filled_cache([layer[2:] for layer in layers if len(layer) > len(KINDS)])
        cache = EncoderDecoderCache(own if layers else DynamicCache(), crossed)
        kwargs: dict[str, Any] = {
            "encoder_outputs": BaseModelOutput(last_hidden_state=given[STATES]),
            "decoder_input_ids": given["input_ids"],
            "return_dict": True,
            "use_cache": given["use_cache"],
        }
        if given["use_cache"]:
            kwargs[PAST] = cache
        if MASK in given:
            kwargs["attention_mask"] = given[MASK]
        return (), kwargs


class BothBranches(FlatModel):
    """The first step and a step with a cache as one function, as the merged graph is; it is run, never traced.

    Args:
        first: The decoder without a past.
        cached: The decoder with one.
        shape: The cache; the encoder's part of it comes out empty with a cache.
    """

    def __init__(self, first: FlatModel, cached: FlatModel, shape: TwoCaches) -> None:
        kwargs = {**cached.binding.kwargs, **first.binding.kwargs, PAST: shape.pairs(), USE_CACHE: Leaf(USE_CACHE)}
        super().__init__(first.model, Binding((), kwargs), first.read)
        self._first, self._cached, self._shape = first, cached, shape

    def run(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run the branch that `use_cache_branch` chooses."""
        if not bool(tensors[USE_CACHE]):
            return self._first.run({name: tensors[name] for name in self._first.binding.names})
        outputs = self._cached.run({name: tensors[name] for name in self._cached.binding.names})
        some = outputs["logits"]
        empty = {n: some.new_zeros((0, h, 0, size)) for n, (h, size) in self._shape.names(PRESENT, role=OF_ENCODER)}
        return {"logits": some, **{n: {**outputs, **empty}[n] for n, _ in self._shape.names(PRESENT)}}


def encoder_flat(model: Any, names: tuple[str, ...]) -> FlatModel:
    """The encoder as a function of `input_ids` and `attention_mask`, of `input_features`, of `pixel_values`."""
    kwargs = {**{name: Leaf(name) for name in names}, "return_dict": True}
    return FlatModel(model.get_encoder(), Binding((), kwargs), _last_hidden)


def decoder_flat(
    model: torch.nn.Module, shape: TwoCaches | None, *, masked: bool, past: bool, crossed: bool = True
) -> FlatModel:
    """The decoder as a function of flat tensors.

    Args:
        model: The whole encoder-decoder.
        shape: Its cache; `None`: without any, the logits alone.
        masked: Whether the encoder's mask is an input.
        past: Whether a past is one.
        crossed: Whether the encoder's keys and values come out: they do at the first step.
    """
    kwargs: dict[str, Any] = {"input_ids": Leaf("input_ids")}
    if masked:
        kwargs[MASK] = Leaf(MASK)
    kwargs |= {STATES: Leaf(STATES), "use_cache": shape is not None}
    if shape is not None and past:
        kwargs[PAST] = shape.pairs()
    return FlatModel(model, DecoderBinding((), kwargs), functools.partial(_read_decoder, shape, crossed))


def _last_hidden(returned: Any) -> dict[str, torch.Tensor]:
    return {LAST_HIDDEN: returned.last_hidden_state}


def _read_decoder(shape: TwoCaches | None, crossed: bool, returned: Any) -> dict[str, torch.Tensor]:
    """Logits, and the cache as flat tensors."""
    outputs = {"logits": returned.logits}
    if shape is None:
        return outputs
    cache = returned.past_key_values
    parts = {OF_DECODER: cache.self_attention_cache}
    if crossed and shape.crossed is not None:
        parts[OF_ENCODER] = cache.cross_attention_cache
    for number in range(len(shape.own.layers)):
        for role, part in parts.items():
            stem = f"{PRESENT}.{number}.{role}" if shape.crossed is not None else f"{PRESENT}.{number}"
            layer = part.layers[number]
            outputs |= {f"{stem}.key": layer.keys, f"{stem}.value": layer.values}
    return outputs


def decoder_config(source: ModelSource) -> Any:
    """The config that the decoder is built from: the model's own, or its `decoder` part."""
    part = getattr(source.config, "decoder", None)
    return part if hasattr(part, "vocab_size") else source.config


def keeps_encoder(source: ModelSource) -> bool:
    """Whether the encoder's keys and values are part of the cache, for whoever runs the graphs.

    transformers.js names a past by the decoder's config: one with `decoder_layers` has both parts, that of a plain
    language model (GPT-2, BERT as a decoder) its own alone; optimum-onnx does the same.
    """
    config = decoder_config(source)
    return config is source.config or hasattr(config, "decoder_layers")


def read_caches(source: ModelSource, states: torch.Tensor) -> TwoCaches:
    """Run the decoder once, on two tokens and two of the encoder's states, and read the shapes of its cache.

    Raises:
        ExportError: it raises when it is asked for a cache, or its state is none of keys and values.
    """
    import torch

    nothing = decoder_flat(source.model, None, masked=False, past=False)
    binding = DecoderBinding((), {**nothing.binding.kwargs, "use_cache": True})
    two = {"input_ids": torch.zeros((1, 2), dtype=torch.long, device=states.device), STATES: states[:1, :2]}
    try:
        with torch.no_grad():
            _, kwargs = binding.call(two)
            cache = source.model(**kwargs).past_key_values
        own, crossed = cache.self_attention_cache, cache.cross_attention_cache
    except Exception as error:  # the user's model may raise anything
        raise no_cache(source, one_line(error)) from error
    return TwoCaches(read_cache(source, own), read_cache(source, crossed) if keeps_encoder(source) else None)


def reads_mask(source: ModelSource, states: torch.Tensor) -> bool:
    """Whether the encoder's mask changes what the decoder says: tried (Whisper takes one and ignores it)."""
    import torch

    if "attention_mask" not in inspect.signature(source.model.forward).parameters:
        return False
    flat = decoder_flat(source.model, None, masked=True, past=False)
    ones = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    some = ones.clone()
    some[:, -(states.shape[1] // 2) :] = 0
    ids = torch.zeros((states.shape[0], 2), dtype=torch.long, device=states.device)
    both = [flat.run({"input_ids": ids, MASK: mask, STATES: states})["logits"] for mask in (ones, some)]
    return not torch.equal(*both)
