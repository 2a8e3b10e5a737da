"""Export tiny models of many architectures, a row per (architecture, task); run by hand, its table is committed.

    python tests/coverage/tasks_matrix.py [--only bert,vit] [--write]

`--write` puts the table in tests/coverage/tasks_matrix.md.
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

TEXT = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
DECODER = {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VIT = {
    **{k: v for k, v in TEXT.items() if k not in ("vocab_size", "max_position_embeddings")},
    "image_size": 32,
    "patch_size": 8,
}
SMALL = {"hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 16}
ALL_TEXT = (
    "feature-extraction", "text-classification", "token-classification",
    "question-answering", "fill-mask", "multiple-choice",
)  # fmt: skip
FOUR = ("text-classification", "token-classification", "question-answering", "fill-mask")
CLASSIFY = ("text-classification",)
IMAGE = ("image-classification",)

ROWS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "bert": (TEXT, ALL_TEXT),
    "distilbert": (
        {"vocab_size": 120, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 128},
        ("feature-extraction", *FOUR, "multiple-choice"),
    ),
    "roberta": (TEXT | {"pad_token_id": 1}, ALL_TEXT),
    "xlm-roberta": (TEXT | {"pad_token_id": 1}, FOUR),
    "camembert": (TEXT | {"pad_token_id": 1}, ("fill-mask", "token-classification")),
    "albert": (TEXT | {"embedding_size": 16}, FOUR),
    "electra": (TEXT | {"embedding_size": 16}, FOUR),
    "mpnet": (TEXT | {"pad_token_id": 1}, ("feature-extraction", "text-classification")),
    "deberta": (TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, FOUR),
    "deberta-v2": (
        TEXT | {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["c2p", "p2c"]},
        FOUR,
    ),
    "modernbert": (
        TEXT | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        ("feature-extraction", *FOUR),
    ),
    "roformer": (TEXT, CLASSIFY),
    "convbert": (TEXT | {"embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3}, CLASSIFY),
    "squeezebert": (
        TEXT
        | {
            "embedding_size": 32,
            "q_groups": 1,
            "k_groups": 1,
            "v_groups": 1,
            "post_attention_groups": 1,
            "intermediate_groups": 1,
            "output_groups": 1,
        },
        CLASSIFY,
    ),
    "mobilebert": (TEXT | {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}, CLASSIFY),
    "nystromformer": (TEXT | {"num_landmarks": 8, "segment_means_seq_len": 8}, CLASSIFY),
    "fnet": ({k: v for k, v in TEXT.items() if k != "num_attention_heads"}, CLASSIFY),
    "xlnet": ({"vocab_size": 120, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, CLASSIFY),
    "bart": (
        {
            "vocab_size": 120,
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
        },
        ("text-classification", "question-answering"),
    ),
    "big_bird": (TEXT | {"attention_type": "original_full"}, CLASSIFY),
    "longformer": (TEXT | {"attention_window": [8, 8], "pad_token_id": 1}, CLASSIFY),
    "funnel": (
        {
            "vocab_size": 120,
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 64,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
        },
        CLASSIFY,
    ),
    "ernie": (TEXT, CLASSIFY),
    "megatron-bert": (TEXT, CLASSIFY),
    "layoutlm": (TEXT, ("text-classification", "token-classification")),
    "gpt2": (
        {
            "vocab_size": 120,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        ("text-classification", "token-classification"),
    ),
    "llama": (DECODER, CLASSIFY),
    "qwen2": (DECODER, CLASSIFY),
    "mistral": (DECODER, CLASSIFY),
    "vit": (VIT, ("image-classification", "feature-extraction")),
    "deit": (VIT, IMAGE),
    "beit": (VIT, IMAGE),
    "data2vec-vision": (VIT, IMAGE),
    "dinov2": (VIT, ("image-classification", "feature-extraction")),
    "swin": (
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        IMAGE,
    ),
    "swinv2": (
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        IMAGE,
    ),
    "resnet": (SMALL, ("image-classification", "feature-extraction")),
    "regnet": (SMALL | {"groups_width": 16}, IMAGE),
    "convnext": ({"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}, IMAGE),
    "convnextv2": ({"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}, IMAGE),
    "mobilenet_v1": ({"depth_multiplier": 0.25, "image_size": 64}, IMAGE),
    "mobilenet_v2": ({"depth_multiplier": 0.35, "image_size": 64}, IMAGE),
    "mobilevit": (
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64],
            "num_attention_heads": 2,
        },
        IMAGE,
    ),
    "mobilevitv2": ({"image_size": 64, "width_multiplier": 0.25}, IMAGE),
    "efficientnet": ({"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320}, IMAGE),
    "levit": (
        {
            "image_size": 64,
            "hidden_sizes": [16, 32, 48],
            "num_attention_heads": [1, 2, 3],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
        IMAGE,
    ),
    "poolformer": ({"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]}, IMAGE),
    "pvt": (
        {
            "image_size": 64,
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
        },
        IMAGE,
    ),
    "segformer": (
        {
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 32,
        },
        IMAGE,
    ),
    "focalnet": (
        {
            "image_size": 32,
            "embed_dim": 16,
            "depths": [1, 1],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
            "hidden_sizes": [16, 32],
        },
        IMAGE,
    ),
    "bit": ({"hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 16, "num_groups": 4}, IMAGE),
}
"""`{model_type: (config of a tiny model, tasks)}`."""


def tiny_model(model_type: str, overrides: dict[str, Any], task: str) -> Any:
    """A random model whose outputs move with its inputs: default initialisations of some vision models do not."""
    import torch
    import transformers

    from onnx_magic.engine.tasks import TASKS

    torch.manual_seed(SEED)
    config = transformers.AutoConfig.for_model(model_type, **overrides)
    config.architectures = []
    model = getattr(transformers, TASKS[task].auto_class).from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            # Convolutions keep their signal through many ReLUs; attention stays in a range where it still chooses.
            torch.nn.init.kaiming_uniform_(parameter, a=0.0 if parameter.ndim == 4 else 1.0)
    return calibrated(model)


def calibrated(model: Any) -> Any:
    """Let batch norms see a batch, so that what they pass on is neither too small nor too large to compare."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.eps = 1e-12  # EfficientNet's 1e-3 swallows the small signal of random weights
        side = getattr(model.config, "image_size", None) or 64
        with torch.no_grad():
            model.train()(torch.randn(8, 3, side, side))
    return model.eval()


def row(model_type: str, overrides: dict[str, Any], task: str) -> dict[str, str]:
    """Export one model and say how it went."""
    import onnx_magic

    started = time.perf_counter()
    try:
        model = tiny_model(model_type, overrides, task)
        started = time.perf_counter()
        exported = onnx_magic.export(model, task, output=f"{model_type}-{task}")
    except onnx_magic.OnnxMagicError as error:
        return {"verdict": "refused", "why": error.what, "seconds": f"{time.perf_counter() - started:.1f}"}
    except Exception as error:  # a row must not end the table
        return {"verdict": "error", "why": f"{type(error).__name__}: {error}".partition("\n")[0]}
    verdict = exported.validation
    axes = sorted({dim for spec in exported.inputs for dim in spec.dynamic_axes.values()})
    told = [f.sentence for f in (*verdict.findings, *exported.report.findings) if f.level != "note"]
    seconds = time.perf_counter() - started
    exported.release()
    return {
        "verdict": verdict.status,
        "shapes": f"{sum(c.passed for c in verdict.comparisons)}/{len(verdict.comparisons)}",
        "max abs": f"{max((c.max_abs for c in verdict.comparisons), default=float('nan')):.0e}",
        "dynamic axes": ", ".join(axes),
        "exporter": exported.report.exporter,
        "nodes": str(exported.graph.nodes),
        "seconds": f"{seconds:.1f}",
        "why": " / ".join(told),
    }


def main() -> None:
    """Print the table; with `--write`, keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    columns = (
        "architecture",
        "task",
        "verdict",
        "shapes",
        "max abs",
        "dynamic axes",
        "exporter",
        "nodes",
        "seconds",
        "why",
    )
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    wanted = set(options.only.split(",")) - {""}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for model_type, (overrides, tasks) in ROWS.items():
            for task in tasks if not wanted or model_type in wanted else ():
                cells = {"architecture": model_type, "task": task, **row(model_type, overrides, task)}
                counts[cells["verdict"]] = counts.get(cells["verdict"], 0) + 1
                lines.append(f"| {' | '.join(cells.get(c, '').replace('|', '/')[:300] for c in columns)} |")
                print(lines[-1], flush=True)
    summary = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    print(summary)
    if options.write:
        TABLE.write_text(f"# Architectures and tasks\n\n{summary}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
