"""Tokens a second of generation: ONNX Runtime (`exported.generate`, `exported.run`) against PyTorch's `generate`.

    python tests/benchmarks/generate.py [--models 10m 124m] [--batches 1 8] [--rounds 3] [--threads 1]

Random GPT-2 models, prompts of 32 tokens, 64 new ones, greedy. Every measurement is a fresh process with one side
alone (an idle pool of the other's threads would spin): a call to warm up, then the best of three. The sides take turns,
so that a busy machine slows all; reported are medians, and ratios to PyTorch of the same round, by the clock on the
wall and by the processor's time (with one thread the fairer of the two on a busy machine). Peak memory is the whole
process's, model and libraries included. All sides must give the same tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROMPT, NEW = 32, 64
MODELS: dict[str, dict[str, int]] = {
    "10m": {"n_embd": 320, "n_layer": 6, "n_head": 5, "vocab_size": 8192},
    "124m": {},  # GPT-2's own sizes
}

EXPORT = """
import json, sys, torch, transformers, onnx_magic
torch.manual_seed(0)
config = transformers.GPT2Config(**json.loads(sys.argv[1]), bos_token_id=0, eos_token_id=None)
model = transformers.GPT2LMHeadModel(config).eval()
model.save_pretrained("model")
exported = onnx_magic.export("model", "text-generation", output="model-onnx")
assert exported.validation.status == "verified", exported.validation.status
"""

START = """
import json, resource, sys, time
import numpy
folder, batch, threads, prompt, new = sys.argv[1], *map(int, sys.argv[2:6])
ids = numpy.random.default_rng(0).integers(1, 8000, (batch, prompt))
"""

# ONNX Runtime asks neither OMP_NUM_THREADS nor the process's affinity how many threads to start, and they spin.
SAME_THREADS = """
import onnxruntime
make = onnxruntime.SessionOptions
def with_threads():
    made = make()
    made.intra_op_num_threads = threads
    return made
onnxruntime.SessionOptions = with_threads
"""

SIDES = {
    "PyTorch": """
import torch, transformers
torch.set_num_threads(threads)
model = transformers.GPT2LMHeadModel.from_pretrained(f"{folder}/model").eval()
options = dict(max_new_tokens=new, do_sample=False, pad_token_id=0)
inputs = torch.from_numpy(ids)
mask = torch.ones_like(inputs)
def call():
    return model.generate(input_ids=inputs, attention_mask=mask, **options)[:, prompt:].tolist()
""",
    "generate": SAME_THREADS
    + """
import torch, onnx_magic
torch.set_num_threads(threads)
exported = onnx_magic.load(f"{folder}/model-onnx")
inputs = torch.from_numpy(ids)
mask = torch.ones_like(inputs)
options = dict(max_new_tokens=new, do_sample=False, pad_token_id=0)
def call():
    return exported.generate(input_ids=inputs, attention_mask=mask, **options)[:, prompt:].tolist()
""",
    "run": SAME_THREADS
    + """
import onnx_magic
exported = onnx_magic.load(f"{folder}/model-onnx")
def call():
    return exported.run({"input_ids": ids}, max_new_tokens=new).outputs["sequences"][:, prompt:].tolist()
""",
}

MEASURE = """
first = call()
clocks = {"wall": time.perf_counter, "processor": time.process_time}
speeds = {name: 0.0 for name in clocks}
for _ in range(3):
    started = {name: clock() for name, clock in clocks.items()}
    assert call() == first
    for name, clock in clocks.items():
        speeds[name] = max(speeds[name], batch * new / (clock() - started[name]))
print(json.dumps({**speeds, "tokens": first, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def python(body: str, *arguments: str, folder: Path, threads: int) -> str:
    """Run a program in a fresh process and return what it prints last."""
    place = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-W", "ignore", "-c", body, *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **place}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return (done.stdout.strip().splitlines() or [""])[-1]


def prepared(name: str, place: Path) -> Path:
    """Make and export a model, unless an earlier run has left it in `place`."""
    folder = place / name
    if not (folder / "model-onnx" / "onnx_magic.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        python(EXPORT, json.dumps(MODELS[name]), folder=folder, threads=1)
    return folder


def rounds_of(folder: Path, batch: int, sides: list[str], rounds: int, threads: int) -> dict[str, list[dict[str, Any]]]:
    """Measure every side once a round; the sides must agree on the tokens."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            arguments = (str(folder), str(batch), str(threads), str(PROMPT), str(NEW))
            line = python(START + SIDES[side] + MEASURE, *arguments, folder=folder, threads=threads)
            record = json.loads(line)
            record["tokens"] = hashlib.sha256(json.dumps(record["tokens"]).encode()).hexdigest()
            found[side].append(record)
    tokens = {record["tokens"] for records in found.values() for record in records}
    assert len(tokens) == 1, f"{folder.name}, batch {batch}: the sides write different tokens"
    return found


def report(title: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians, and the median ratios to PyTorch of the same round."""
    for side, records in found.items():
        cells = []
        for clock in ("wall", "processor"):
            speed = statistics.median(record[clock] for record in records)
            pairs = zip(records, found["PyTorch"], strict=True)
            ratio = statistics.median(ours[clock] / theirs[clock] for ours, theirs in pairs)
            cells.append(f"{speed:8.1f} tokens a {clock} second, {ratio:5.2f} x PyTorch")
        peak = statistics.median(record["peak_mb"] for record in records)
        print(f"{title}  {side:9} {'; '.join(cells)}; peak {peak:6.0f} MB", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the exported models here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.models:
            folder = prepared(name, (args.folder or Path(temporary)).absolute())
            for batch in args.batches:
                title = f"{name:5} batch {batch}"
                report(title, rounds_of(folder, batch, args.sides, args.rounds, args.threads))


if __name__ == "__main__":
    main()
