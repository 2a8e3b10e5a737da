"""The cache that Transformers' `generate()` carries from step to step, its tensors held by ONNX Runtime."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import SwapError

if TYPE_CHECKING:
    from onnxruntime import OrtValue

    from onnx_magic.runtime.stepping import DecoderSteps, Past


@functools.cache
def ort_cache_class() -> Any:
    """The class; made when it is first asked for, since its base needs torch.

    It answers what `generate()` asks of a cache (length, rows picked and repeated, tokens taken away), and holds no
    tensor of torch: `past` is ONNX Runtime's.
    """
    from transformers.cache_utils import Cache

    class OrtCache(Cache):
        """A cache in ONNX Runtime."""

        is_compileable = False
        is_initialized = True
        is_croppable = True

        def __init__(self, steps: DecoderSteps, past: Past) -> None:
            super().__init__(layers=[])
            self.steps, self.past = steps, past

        def __len__(self) -> int:
            return len({name.split(".")[1] for name in self.steps.names})

        def __repr__(self) -> str:
            return f"<OrtCache of {len(self)} layers: {self.past.batch} rows of {self.past.length} tokens>"

        def __deepcopy__(self, memo: dict[int, Any]) -> OrtCache:
            return OrtCache(self.steps, self.past)  # a Past is never changed, it is replaced

        def __copy__(self) -> OrtCache:
            return OrtCache(self.steps, self.past)

        def get_seq_length(self, layer_idx: int = 0) -> int:
            return self.past.length

        def get_max_length(self, layer_idx: int | None = None) -> int:
            return -1

        def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
            return self.past.length + query_length, 0

        def get_query_offset(self, layer_idx: int = 0) -> int:
            return self.past.length

        @property
        def batch_size(self) -> int:
            return self.past.batch

        @property
        def is_sliding(self) -> list[bool]:
            return [False] * len(self)

        is_linear = is_dummy = is_sliding

        @property
        def self_attention_cache(self) -> Any:
            return _as_dynamic(self.past, "decoder")  # Whisper's generate reads both parts when it has ended

        @property
        def cross_attention_cache(self) -> Any:
            return _as_dynamic(self.past, "encoder")

        def reorder_cache(self, beam_idx: Any) -> None:
            self.past = self.steps.select(self.past, beam_idx.cpu().numpy())

        def batch_select_indices(self, indices: Any) -> None:
            self.reorder_cache(indices)

        def batch_repeat_interleave(self, repeats: int) -> None:
            import numpy as np

            self.past = self.steps.select(self.past, np.repeat(np.arange(self.past.batch), repeats))

        def crop(self, tokens_to_remove: int) -> None:
            if tokens_to_remove > 0:
                raise ValueError(f"crop({tokens_to_remove}): expected a number of tokens to remove, 0 or below")
            self.past = self.steps.crop(self.past, max(0, self.past.length + tokens_to_remove))

        def reset(self) -> None:
            self.past = self.steps.empty(self.past.batch)

        def activate_past_recording(self) -> None:
            """All of the past is kept anyway."""

        def is_recording_past(self, layer_idx: int) -> bool:
            return True

        def update(self, *args: Any, **kwargs: Any) -> Any:
            raise SwapError("this cache belongs to ONNX Runtime: PyTorch cannot add to it", fix="past_key_values=None")

    return OrtCache


def cache_of(past: Any, steps: DecoderSteps, rows: int) -> Any:
    """The OrtCache for a `past_key_values` as it is given to a forward.

    Its own kind goes on as it is; an empty one of Transformers is replaced; the tensors of a filled one are taken over
    without a copy.

    Raises:
        SwapError: a static, quantized or other special cache.
        FeedError: tensors of a shape that the graph does not take.
    """
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    kind = ort_cache_class()
    if isinstance(past, kind):
        return past
    if past is None:
        return kind(steps, steps.empty(rows))
    two = isinstance(past, EncoderDecoderCache)
    parts = (past.self_attention_cache, past.cross_attention_cache) if two else (past,)
    # type(), not isinstance(): a subclass keeps its tensors in a way of its own
    odd = next((part for part in parts if type(part) is not DynamicCache), None)
    if odd is not None:
        raise SwapError(
            f"past_key_values is a {type(odd).__name__}, which ONNX Runtime cannot carry on: expected a DynamicCache",
            fix='cache_implementation="dynamic"',
        )
    if past.get_seq_length() == 0:
        return kind(steps, steps.empty(rows))
    return kind(steps, steps.given(_values_of(parts, steps)))


def _as_dynamic(past: Past, side: str) -> Any:
    """One part of an encoder-decoder's past as a cache of PyTorch's, in the same memory.

    Raises:
        AttributeError: the past has no such part, as that of a decoder alone.
    """
    import torch

    from onnx_magic.engine.generation.caches import filled_cache

    names = [name for name in past.values if f".{side}." in name]
    if not names:
        raise AttributeError(f"this cache has no {side} part")
    tensors = [torch.utils.dlpack.from_dlpack(past.values[name]) for name in names]
    return filled_cache(list(zip(tensors[::2], tensors[1::2], strict=True)))


def _values_of(parts: tuple[Any, ...], steps: DecoderSteps) -> dict[str, OrtValue]:
    """The tensors of PyTorch's cache by the graph's names."""
    from onnxruntime import OrtValue

    values = {}
    for name in steps.names:
        _, layer, *side, kind = name.split(".")
        part = parts[-1] if side == ["encoder"] else parts[0]
        if int(layer) < len(part.layers):
            tensor = part.layers[int(layer)].keys if kind == "key" else part.layers[int(layer)].values
            values[name] = OrtValue.from_dlpack(tensor.detach().cpu().contiguous())
    return values
