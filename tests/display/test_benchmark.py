"""Benchmarks and the table of variants as people see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from onnx_magic.display.bundles import bundle
from onnx_magic.records.benchmarks import PYTORCH, Benchmark, Contender, Load, Timing
from onnx_magic.records.variants import Answers, GraphChange, KeptLayer, VariantRecord
from onnx_magic.records.variants_table import VariantRow, VariantsTable

INT8 = VariantRecord(
    "int8",
    "int8, static",
    steps=("14 of 16 MatMul quantized",),
    changes={"model": GraphChange({"MatMul": 16, "Add": 3}, {"MatMul": 2, "QLinearMatMul": 14, "Add": 3})},
    kept=(KeptLayer("node_MatMul_3", "MatMul", "bert.<b>pooler</b>", "worst", 0.21),),
    answers=Answers("label", 995, 1000, 0.99, 0.9),
)
SAME = VariantRecord("optimized", "optimized, all", changes={"model": GraphChange({"Add": 3}, {"Add": 3})})
TABLE = VariantsTable(
    "mini",
    (
        VariantRow("float32", 5_770_000, 4e-7, 0.9999999, None, (18, 18), "verified"),
        VariantRow("optimized", 5_700_000, 4e-7, 0.9999999, None, (18, 18), "verified", SAME),
        VariantRow("int8", 1_610_000, 0.08, 0.991, INT8.answers, (18, 18), "verified", INT8),
        VariantRow("q4", 900_000, 7.0, 0.2, Answers("label", 600, 1000, 0.5, 0.1), (9, 18), "failed"),
    ),
)
LOADS = (
    Load("batch 1, length 32", {"batch_size": 1, "sequence_length": 32}),
    Load("batch 8, length 32", {"batch_size": 8, "sequence_length": 32}, 8),
)
BENCH = Benchmark(
    "mini",
    (
        Contender(PYTORCH, "pytorch", "cpu", threads=2, size=5_560_000, load_seconds=0.2, memory=370_000_000),
        Contender("ONNX Runtime", "onnxruntime", "CPUExecutionProvider", threads=2, size=5_770_000, load_seconds=0.05),
        Contender("int8", "onnxruntime", error="its file <is> gone"),
    ),
    LOADS,
    (
        Timing(PYTORCH, LOADS[0].label, ((0.004, 0.0041), (0.008, 0.0081))),
        Timing("ONNX Runtime", LOADS[0].label, ((0.001, 0.0011), (0.002, 0.0021))),
        Timing(PYTORCH, LOADS[1].label, ((0.016,),)),
        Timing("ONNX Runtime", LOADS[1].label, ((0.032,),)),
    ),
    rounds=2,
    notes=("ONNX Runtime: CUDAExecutionProvider was asked for, CPUExecutionProvider answered",),
)


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_how_they_look(golden: Callable[[str, str], None], kind: str) -> None:
    end = "txt" if kind == "plain" else "html"
    golden(f"benchmark.{end}", bundle(BENCH)[f"text/{kind}"])
    golden(f"variants_table.{end}", bundle(TABLE)[f"text/{kind}"])
    timed = TABLE.with_times(BENCH, {"float32": "ONNX Runtime"})
    golden(f"variants_timed.{end}", bundle(timed)[f"text/{kind}"])


def test_the_ratio_is_of_the_same_round() -> None:
    # The machine became twice as slow between the rounds: that is no difference between the contenders.
    assert BENCH.speed_up("ONNX Runtime", LOADS[0].label) == pytest.approx(4.05 / 1.05, rel=0.02)
    assert BENCH.speed_up("ONNX Runtime", LOADS[1].label) == 0.5
    assert BENCH.speed_up("int8", LOADS[0].label) is None


def test_advice_never_names_what_failed() -> None:
    assert TABLE.smallest.name == "int8", "q4 is smaller and failed"
    assert TABLE.advice.startswith("optimized is 99% of the size") and "no answer changed" in TABLE.advice
    without = replace(TABLE, rows=(TABLE.rows[0], TABLE.rows[2], TABLE.rows[3]))
    assert without.advice == "int8 is 28% of the size, with 5 answers changed of 1000"
    assert replace(TABLE, rows=(TABLE.rows[0], TABLE.rows[3])).advice.startswith("no variant passes")


def test_advice_names_no_variant_that_is_neither_smaller_nor_faster() -> None:
    slower = replace(TABLE.rows[1], median=0.0011)
    plain, small = replace(TABLE.rows[0], median=0.001), replace(TABLE.rows[2], median=0.0012)
    timed = replace(TABLE, rows=(plain, slower, small))
    assert timed.advice.startswith("int8 is 28% of the size and 0.83 times as fast as float32")
    assert replace(TABLE, rows=(plain, slower)).advice == "no variant is smaller or faster: ship float32"
    faster = replace(slower, median=0.0009)
    assert replace(TABLE, rows=(plain, faster, small)).advice.startswith("optimized is 99% of the size and 1.11 times")


def test_what_was_interrupted_says_so() -> None:
    cut = replace(BENCH, complete=False, timings=BENCH.timings[:2])
    assert bundle(cut)["text/plain"].startswith("! interrupted: mini: ONNX Runtime is fastest")
    nothing = replace(BENCH, complete=False, timings=())
    assert bundle(nothing)["text/plain"].startswith("! nothing measured")
