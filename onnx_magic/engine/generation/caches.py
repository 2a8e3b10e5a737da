"""A key/value cache as flat, named tensors: `past_key_values.0.key` in, `present.0.key` out.

Transformers' cache classes are no inputs of a graph; tensors are. Shapes are read off one run of the model, so that
nothing here needs to know an architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import Binding
from onnx_magic.engine.probing import one_line
from onnx_magic.errors import ExportError

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.sources import ModelSource

PAST, PRESENT = "past_key_values", "present"
KINDS = ("key", "value")


@dataclass(frozen=True)
class LayerShape:
    """Heads and head size of one layer's keys and of its values."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass(frozen=True)
class CacheShape:
    """What a cache holds: every tensor is [batch, heads, length, head size].

    Args:
        layers: One per layer, in order.
        dtype: torch's name of the dtype (`float32`).
    """

    layers: tuple[LayerShape, ...]
    dtype: str

    def names(self, root: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name, and heads and head size, of every tensor: `past_key_values.0.key`, `past_key_values.0.value`, ..."""
        for number, layer in enumerate(self.layers):
            yield f"{root}.{number}.key", layer.key
            yield f"{root}.{number}.value", layer.value


def read_cache(source: ModelSource, cache: Any) -> CacheShape:
    """The shape of a cache that the model returned for two tokens.

    Raises:
        ExportError: it is none of keys and values, one of each per layer, that grow with the tokens.
    """
    layers = getattr(cache, "layers", None)
    if not layers:
        raise no_cache(source, f"it returned {type(cache).__name__}" if cache is not None else "it returned none")
    shapes, dtype = [], ""
    for number, layer in enumerate(layers):
        if hasattr(layer, "conv_states") or hasattr(layer, "recurrent_states"):
            raise no_cache(source, f"layer {number} keeps a state ({type(layer).__name__})")
        pair = [t for t in (getattr(layer, name, None) for name in ("keys", "values")) if t is not None]
        if len(pair) != len(KINDS) or any(tensor.ndim != 4 or tensor.shape[2] != 2 for tensor in pair):
            raise no_cache(source, f"layer {number} ({type(layer).__name__}) holds no keys and values of its own")
        key, value = ((int(tensor.shape[1]), int(tensor.shape[3])) for tensor in pair)
        shapes.append(LayerShape(key, value))
        dtype = str(pair[0].dtype).removeprefix("torch.")
    return CacheShape(tuple(shapes), dtype)


def no_cache(source: ModelSource, why: str) -> ExportError:
    """The error for a model whose state between tokens is no key/value cache."""
    return ExportError(
        f"{source.architecture} keeps no key/value cache that a graph could take: {why}", fix="cache=no", stage="plan"
    )


def cache_shape(source: ModelSource, inputs: Mapping[str, torch.Tensor]) -> CacheShape:
    """Run a decoder once on two tokens, and read the shape of its cache.

    Raises:
        ExportError: it raises when it is asked for a cache, or returns another kind of state.
    """
    import torch

    try:
        with torch.no_grad():
            returned = source.model(**inputs, use_cache=True, return_dict=True)
    except Exception as error:  # the user's model may raise anything
        raise no_cache(source, one_line(error)) from error
    return read_cache(source, getattr(returned, PAST, None))


def filled_cache(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    """A DynamicCache that holds these keys and values, a pair per layer; every layer keeps its whole past.

    Sliding windows are in the attention mask, so that a layer with a window needs no cache of its own kind.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    for keys, values in pairs:
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


class CacheBinding(Binding):
    """A Binding whose argument `past_key_values` is pairs of tensors, which the model gets as a cache."""

    def call(self, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keyword arguments with the tensors in their places."""
        args, kwargs = super().call(tensors)
        return args, kwargs | {PAST: filled_cache(kwargs[PAST])}


def read_presents(returned: Any) -> dict[str, torch.Tensor]:
    """Logits, and the cache as flat tensors, of what a decoder returned."""
    presents = {
        f"{PRESENT}.{number}.{kind}": tensor
        for number, layer in enumerate(returned.past_key_values.layers)
        for kind, tensor in zip(KINDS, (layer.keys, layer.values), strict=True)
    }
    return {"logits": returned.logits, **presents}
