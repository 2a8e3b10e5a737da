"""What optimum-onnx answers from exported folders, as JSON: run it with a Python that has optimum-onnx.

    python -m venv optimum && optimum/bin/pip install "transformers==4.57.*" "optimum-onnx==0.1.0" onnxruntime torch
    optimum/bin/python tests/interop/answer_with_optimum.py /tmp/interop/llama-onnx ...

Each folder holds the ``interop.json`` that cases.py wrote. A line of JSON a folder: ``{"answers": ...}`` or the error.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def answers(folder: Path) -> list[Any]:
    """Load the folder as it is and answer its texts."""
    from optimum import onnxruntime as ort
    from transformers import AutoTokenizer, pipeline

    asked = json.loads((folder / "interop.json").read_text(encoding="utf-8"))
    kinds = {
        "text-classification": ort.ORTModelForSequenceClassification,
        "text-generation": ort.ORTModelForCausalLM,
        "text2text-generation": ort.ORTModelForSeq2SeqLM,
    }
    model = kinds[asked["task"]].from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if asked["task"] == "text-classification":
        found = pipeline(asked["task"], model=model, tokenizer=tokenizer)(asked["texts"])
        return [[one["label"], one["score"]] for one in found]
    inputs = tokenizer(asked["texts"], padding=True, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=asked["max_new_tokens"], do_sample=False)
    start = inputs["input_ids"].shape[1] if asked["task"] == "text-generation" else 0
    return list(written[:, start:].tolist())


def main() -> None:
    """Print a line for each folder."""
    warnings.filterwarnings("ignore")
    for name in sys.argv[1:]:
        try:
            record: dict[str, Any] = {"answers": answers(Path(name))}
        except Exception as error:  # whatever it refuses is the answer
            record = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
