"""Export tiny decoders of many architectures with their cache; run by hand, its table is committed.

    python tests/coverage/decoders_matrix.py [--only gpt2,llama] [--write]

`--write` puts the table in tests/coverage/decoders_matrix.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TABLE = Path(__file__).with_suffix(".md")
SEED = 0
CAUSAL = "text-generation"

TOKENS = {"vocab_size": 120, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {
    **TOKENS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
SLIDING = {**GROUPED, "head_dim": 8, "sliding_window": 12}
GPT = {**TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
FALCON = {**TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 64}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2": ("gpt2", GPT, CAUSAL),
    "gpt_neo": (
        "gpt_neo",
        {
            **TOKENS,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 12,
            "max_position_embeddings": 128,
        },
        CAUSAL,
    ),
    "gpt_neox": ("gpt_neox", PLAIN, CAUSAL),
    "gptj": ("gptj", {**GPT, "rotary_dim": 4}, CAUSAL),
    "opt": ("opt", {**PLAIN, "word_embed_proj_dim": 32, "ffn_dim": 64}, CAUSAL),
    "bloom": ("bloom", {**TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4}, CAUSAL),
    "llama": ("llama", GROUPED, CAUSAL),
    "mistral": ("mistral", {**GROUPED, "sliding_window": 12}, CAUSAL),
    "qwen2": ("qwen2", GROUPED, CAUSAL),
    "qwen3": ("qwen3", {**GROUPED, "head_dim": 8}, CAUSAL),
    "gemma2": ("gemma2", SLIDING, CAUSAL),
    "gemma3 (text)": (
        "gemma3_text",
        {**SLIDING, "layer_types": ["sliding_attention", "full_attention"]},
        CAUSAL,
    ),
    "phi3": ("phi3", GROUPED, CAUSAL),
    "falcon": ("falcon", {**FALCON, "multi_query": True}, CAUSAL),
    "falcon (grouped)": (
        "falcon",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        CAUSAL,
    ),
    "falcon (alibi)": ("falcon", {**FALCON, "multi_query": False, "alibi": True}, CAUSAL),
    "mpt": ("mpt", {**TOKENS, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}, CAUSAL),
    "olmo2": ("olmo2", GROUPED, CAUSAL),
    "granite": ("granite", GROUPED, CAUSAL),
    "smollm3": ("smollm3", {**GROUPED, "num_hidden_layers": 4}, CAUSAL),
    "mixtral": ("mixtral", {**GROUPED, **EXPERTS}, CAUSAL),
    "gpt_oss": ("gpt_oss", {**SLIDING, **EXPERTS, "layer_types": ["sliding_attention", "full_attention"]}, CAUSAL),
}
"""`{name: (model_type, config of a tiny model, task)}`."""

COLUMNS = ("architecture", "task", "verdict", "runs", "tokens equal", "max abs", "seconds", "nodes", "files", "why")


def tiny_model(model_type: str, overrides: dict[str, Any], task: str) -> Any:
    """A random model that generates more than one token for ever: weights spread wider than the default 0.02."""
    import torch
    import transformers

    from onnx_magic.engine.tasks import TASKS

    torch.manual_seed(SEED)
    config = transformers.AutoConfig.for_model(model_type, **overrides)
    model = getattr(transformers, TASKS[task].auto_class).from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            spread = 1.0 if "emb" in name else 1.5 / parameter.shape[-1] ** 0.5
            torch.nn.init.normal_(parameter, std=spread)
    return model


def row(model_type: str, overrides: dict[str, Any], task: str) -> dict[str, str]:
    """Export one model and say how it went."""
    import onnx_magic

    started = time.perf_counter()
    try:
        model = tiny_model(model_type, overrides, task)
        started = time.perf_counter()
        exported = onnx_magic.export(model, task, output=f"{model_type}-{task}", overwrite=True)
    except onnx_magic.OnnxMagicError as error:
        return {"verdict": "refused", "why": error.what, "seconds": f"{time.perf_counter() - started:.1f}"}
    except Exception as error:  # a row must not end the table
        return {"verdict": "error", "why": f"{type(error).__name__}: {error}".partition("\n")[0]}
    seconds = time.perf_counter() - started
    verdict = exported.validation
    generated = [c for c in verdict.comparisons if c.label.startswith(("greedy", "3 beams"))]
    told = [f.sentence for f in (*verdict.findings, *exported.report.findings)]
    exported.release()
    return {
        "verdict": verdict.status,
        "runs": f"{sum(c.passed for c in verdict.comparisons)}/{len(verdict.comparisons)}",
        "tokens equal": ", ".join(f"{c.agreement.agreed}/{c.agreement.total}" for c in generated if c.agreement),
        "max abs": f"{max((c.max_abs for c in verdict.comparisons), default=float('nan')):.0e}",
        "nodes": " + ".join(str(graph.nodes) for graph in exported.graphs.values()),
        "files": ", ".join(f"{g.path.name} {g.size / 1e3:.0f} kB" for g in exported.graphs.values()),
        "seconds": f"{seconds:.1f}",
        "why": " / ".join(told),
    }


def main() -> None:
    """Print the table; with `--write`, keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    wanted = set(options.only.split(",")) - {""}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, (model_type, overrides, task) in ROWS.items():
            if wanted and name not in wanted and model_type not in wanted:
                continue
            cells = {"architecture": name, "task": task, **row(model_type, overrides, task)}
            counts[cells["verdict"]] = counts.get(cells["verdict"], 0) + 1
            lines.append(f"| {' | '.join(cells.get(c, '').replace('|', '/')[:300] for c in COLUMNS)} |")
            print(lines[-1], flush=True)
    summary = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    print(summary)
    if options.write:
        text = "# Generators: tokens equal are 40 greedy ones after each of five prompts, then 12 with three beams\n\n"
        TABLE.write_text(f"{text}{summary}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
