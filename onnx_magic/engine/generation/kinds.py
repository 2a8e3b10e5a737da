"""The kinds of generators, a row each: which graphs they are exported as, and what their proof begins from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_magic.engine.generation.decoders import decoder_parts
from onnx_magic.engine.generation.encoder_decoder_parts import encoder_decoder_parts
from onnx_magic.engine.generation.parts import Part, Prompt
from onnx_magic.engine.generation.prompts import decoder_prompts, encoder_decoder_prompts

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.sources import ModelSource


@dataclass(frozen=True)
class Kind:
    """One kind of generator.

    Args:
        parts: Its graphs, the one that yields the answer last.
        prompts: What the proof by tokens begins from.
    """

    parts: Callable[[ModelSource, ExportRequest], tuple[Part, ...]]
    prompts: Callable[[ModelSource, ExportRequest], tuple[Prompt, ...]]


KINDS: Mapping[str, Kind] = {
    "causal": Kind(decoder_parts, decoder_prompts),
    "encoder-decoder": Kind(encoder_decoder_parts, encoder_decoder_prompts),
}
"""`TaskRow.graphs` → the kind; a task of one graph has none."""
