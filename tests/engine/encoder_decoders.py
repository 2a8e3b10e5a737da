"""Encoder-decoders from tiny configs, as plain functions: the fixture `exports` gives each exported once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

VOCABULARY = 60

TOKENS = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}

SIDES = {
    f"{side}_{what}": value
    for side in ("encoder", "decoder")
    for what, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
}

BART = {**TOKENS, **SIDES, "d_model": 16, "max_position_embeddings": 64}

VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(**TOKENS, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))


def marian() -> Any:
    from transformers import MarianConfig, MarianMTModel

    return MarianMTModel(MarianConfig(**BART))


def whisper() -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {"num_mel_bins": 8, "max_source_positions": 50, "max_target_positions": 64}
    return WhisperForConditionalGeneration(
        WhisperConfig(**TOKENS, **SIDES, **sizes, d_model=16, suppress_tokens=None, begin_suppress_tokens=None)
    )


def captions() -> Any:
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    decoder = {name: TOKENS[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    return VisionEncoderDecoderModel(
        VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            ViTConfig(**VIT, image_size=32, patch_size=8),
            GPT2Config(**decoder, n_embd=16, n_layer=1, n_head=2, n_positions=64),
        )
    )


MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "t5": (t5, {}),
    "marian": (marian, {"merge": False}),
    "whisper": (whisper, {}),
    "vit-gpt2": (captions, {}),
}


def made(name: str) -> Any:
    """The model with weights that make it say more than one token."""
    import torch

    torch.manual_seed(3)
    model = MODELS[name][0]().eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    return model


def reading_feed(exported: Any) -> dict[str, np.ndarray]:
    """Two samples for the encoder."""
    from onnx_magic.engine.variants.references import FeedMaker

    maker = FeedMaker(exported.opened, exported.graphs["encoder"])
    sizes = {"batch_size": 2, "sequence_length": 7, "height": 32, "width": 32}
    return {name: array for name, array in maker.at(sizes, 0).items() if array.size}
