"""What the generators' tests share: tiny decoders of unlike kinds, each exported once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOKENS = {"vocab_size": 120, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {
    **TOKENS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 96,
}
DECODERS: dict[str, dict[str, Any]] = {
    # learned positions, and an embedding that is the head too
    "gpt2": {**TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96},
    # rotary positions, fewer heads of keys than of queries
    "llama": PLAIN,
    # ALiBi: no position_ids at all
    "bloom": {**TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    # layers that look back 12 tokens only, beside layers that look at all
    "gemma3_text": {
        **PLAIN,
        "head_dim": 8,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    # experts, of which each token takes two
    "mixtral": {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Five unlike decoders; tests/coverage/decoders_matrix.py has all."""


def tiny_decoder(model_type: str, **changes: Any) -> Any:
    """A seeded decoder of two layers whose weights are spread wide enough that it generates more than one token."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **{**DECODERS[model_type], **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 if "emb" in name else 1.5 / parameter.shape[-1] ** 0.5)
    return model


@pytest.fixture(scope="session")
def make_decoder() -> Callable[..., Any]:
    """`make_decoder("gpt2", n_layer=1)`."""
    return tiny_decoder


@pytest.fixture(scope="session")
def exported_decoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`exported_decoder("gpt2")`: the tiny decoder of that name, exported with its cache; once for all tests."""
    import onnx_magic

    @functools.cache
    def export(model_type: str) -> Any:
        folder: Path = tmp_path_factory.mktemp(model_type) / "exported"
        return onnx_magic.export(tiny_decoder(model_type), output=folder)

    return export
