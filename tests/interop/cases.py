"""Folders for other programs to load: tiny models of each kind, exported by onnx_magic, with what PyTorch answers.

    python tests/interop/cases.py /tmp/interop [name ...]

writes /tmp/interop/<name>-onnx, each with an ``interop.json``: the texts, the options and PyTorch's answers. The two
programs beside this file read it and print what they answer, `test_clients.py` compares.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

MODELS = Path(__file__).parents[2] / "notebooks" / "models"
TEXTS = ["Once upon a time there was a king", "The old woman"]
"""Of unlike lengths: the batch is padded."""
REVIEWS = ["I loved every minute of it", "A dull, lifeless mess"]
NEW_TOKENS = 16


def tokenizer_for(eos_first: bool) -> Any:
    """A byte-level BPE tokenizer trained on the texts; encoder-decoders end what the encoder reads with </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet)
    backend.train_from_iterator([*TEXTS, *REVIEWS] * 8, trainer)
    frame, token = ("$A </s>", ("</s>", 2)) if eos_first else ("<s> $A", ("<s>", 1))
    backend.post_processor = processors.TemplateProcessing(single=frame, special_tokens=[token])
    side = "right" if eos_first else "left"
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side=side
    )


SIZES = {"vocab_size": 320, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.4}


def gpt2() -> Any:
    """Absolute positions, one matrix for query, key and value."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **SIZES))


def llama() -> Any:
    """Rotary positions, fewer heads for key and value than for the query."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=64, max_position_embeddings=64, **layers, **SIZES)
    )


def qwen3() -> Any:
    """A head size of its own, and norms of query and key."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    return Qwen3ForCausalLM(
        Qwen3Config(hidden_size=32, intermediate_size=64, max_position_embeddings=64, **layers, **SIZES)
    )


def bloom() -> Any:
    """No position_ids: ALiBi from the mask."""
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **SIZES))


def t5() -> Any:
    """Relative positions, the decoder starts with <pad>."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {key: SIZES[key] for key in ("vocab_size", "eos_token_id", "pad_token_id")}
    config = T5Config(
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        initializer_factor=2.0,
        **sizes,
    )
    return T5ForConditionalGeneration(config)


def bart() -> Any:
    """Learned positions in encoder and decoder."""
    from transformers import BartConfig, BartForConditionalGeneration

    layers = {f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in LAYER.items()}
    sizes = {**SIZES, "init_std": 0.4, "decoder_start_token_id": 2, "forced_eos_token_id": None}
    return BartForConditionalGeneration(BartConfig(d_model=32, max_position_embeddings=64, **layers, **sizes))


LAYER = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}
DECODERS: dict[str, Callable[[], Any]] = {"gpt2": gpt2, "llama": llama, "qwen3": qwen3, "bloom": bloom}
ENCODER_DECODERS: dict[str, Callable[[], Any]] = {"t5": t5, "bart": bart}
SHIPPED = ("sentiment-mini", "fairy-tales-mini")
NAMES = (*SHIPPED, *DECODERS, *ENCODER_DECODERS)


def make(name: str, place: Path) -> Path:
    """Export the model of this name into `place` and write PyTorch's answers beside it; returns the export's folder."""
    import torch
    from transformers import AutoTokenizer

    import onnx_magic

    torch.manual_seed(0)
    if name in SHIPPED:
        source = MODELS / name
    else:
        source = place / name
        {**DECODERS, **ENCODER_DECODERS}[name]().save_pretrained(source)
        tokenizer_for(eos_first=name in ENCODER_DECODERS).save_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    task = {"sentiment-mini": "text-classification"}.get(
        name, "text2text-generation" if name in ENCODER_DECODERS else "text-generation"
    )
    answer = classes if task == "text-classification" else tokens
    exported = onnx_magic.export(source, task, output=place / f"{name}-onnx", overwrite=True)
    exported.require_verified()
    record = answer(source, tokenizer, task)
    (exported.path / "interop.json").write_text(json.dumps({"task": task, **record}, indent=2) + "\n", encoding="utf-8")
    return Path(exported.path)


def tokens(source: Path, tokenizer: Any, task: str) -> dict[str, Any]:
    """Greedy tokens that PyTorch adds to a padded batch (for an encoder-decoder: all that it writes)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = AutoModelForCausalLM if task == "text-generation" else AutoModelForSeq2SeqLM
    model = kind.from_pretrained(source).eval()
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        found = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    start = inputs["input_ids"].shape[1] if task == "text-generation" else 0
    return {"texts": TEXTS, "max_new_tokens": NEW_TOKENS, "answers": found[:, start:].tolist()}


def classes(source: Path, tokenizer: Any, task: str) -> dict[str, Any]:
    """Label and probability that PyTorch gives."""
    from transformers import pipeline

    found = pipeline(task, model=str(source), tokenizer=tokenizer)(REVIEWS)
    return {"texts": REVIEWS, "answers": [[one["label"], one["score"]] for one in found]}


def main(arguments: Sequence[str]) -> None:
    """Make the folders that are named, or all of them."""
    warnings.filterwarnings("ignore")
    place = Path(arguments[0])
    place.mkdir(parents=True, exist_ok=True)
    for name in arguments[1:] or NAMES:
        print(make(name, place), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
