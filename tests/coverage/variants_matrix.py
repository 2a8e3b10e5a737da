"""Every variant of the tiny decoders and encoder-decoders; run by hand, its table is committed.

    python tests/coverage/variants_matrix.py [--only t5,whisper] [--write]

`--write` puts the table in tests/coverage/variants_matrix.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from decoders_matrix import ROWS, tiny_model

TABLE = Path(__file__).with_suffix(".md")
MODES = ("optimized", "int8", "uint8", "fp16", "q4", "q4f16")
COLUMNS = ("architecture", *MODES, "why")


def made(exported: Any, mode: str) -> Any:
    """One variant, proven."""
    if mode == "optimized":
        return exported.optimize(overwrite=True)
    return exported.quantize(mode, overwrite=True)


def row(model_type: str, overrides: dict[str, Any], task: str) -> Iterator[tuple[str, str, str]]:
    """Mode, verdict and reason of every variant of one model."""
    import onnx_magic

    try:
        exported = onnx_magic.export(
            tiny_model(model_type, overrides, task), task, output=f"{model_type}-{task}", overwrite=True
        )
    except onnx_magic.OnnxMagicError as error:
        yield "export", "refused", error.what
        return
    for mode in MODES:
        try:
            variant = made(exported, mode)
        except onnx_magic.OnnxMagicError as error:
            yield mode, "refused", error.what
            continue
        except Exception as error:  # a cell must not end the table
            yield mode, "error", f"{type(error).__name__}: {error}".partition("\n")[0]
            continue
        verdict = variant.validation
        cosines = [t.cosine for c in verdict.comparisons for t in c.diffs]
        tokens = variant.report.made.tokens
        counted = f"; {tokens.same}/{tokens.total} tokens" if tokens else ""
        failed = next((f.sentence for f in verdict.failures), "")
        yield mode, f"{verdict.status}, cosine {min(cosines, default=float('nan')):.4f}{counted}", failed
        variant.release()
    exported.release()


def main() -> None:
    """Print the table; with `--write`, keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    wanted, counts = set(options.only.split(",")) - {""}, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, (model_type, overrides, task) in ROWS.items():
            if wanted and name not in wanted and model_type not in wanted:
                continue
            cells = {"architecture": name}
            for mode, verdict, why in row(model_type, overrides, task):
                cells[mode] = verdict
                counts[verdict.partition(",")[0]] += 1
                if why:
                    cells["why"] = f"{cells['why']} / {mode}: {why}" if "why" in cells else f"{mode}: {why}"
            lines.append(f"| {' | '.join(cells.get(c, '').replace('|', '/')[:400] for c in COLUMNS)} |")
            print(lines[-1], flush=True)
    summary = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    print(summary)
    if options.write:
        text = "# Variants of generators: the verdict, the smallest cosine of an output, greedy tokens that agree\n\n"
        TABLE.write_text(f"{text}{summary}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
