"""A Benchmark as blocks: who was fastest, then a table per load with a bar for every contender."""

from __future__ import annotations

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Facts, Item, Table, Verdict
from onnx_magic.display.latency import duration
from onnx_magic.display.variants import variants_blocks
from onnx_magic.display.wording import DASH, plural
from onnx_magic.display.wording import size as size_text
from onnx_magic.records.benchmarks import Benchmark, Contender, Load, Timing


def benchmark_blocks(bench: Benchmark) -> Blocks:
    """The fastest in a sentence, what must be known, a table per load, and who the contenders were."""
    blocks: list[Block] = [_headline(bench)]
    blocks += [Item("bad" if " was asked for, " in note else "warn", "note", note) for note in bench.notes]
    blocks += [Item("bad", one.name, f"{_ended(bench, one)}: {one.error}") for one in bench.contenders if one.error]
    blocks += [table for load in bench.loads if (table := _load_table(bench, load)) is not None]
    ran = [one for one in bench.contenders if not one.error]
    if ran:
        blocks += [_contenders_table(ran), _how(bench, ran)]
    return [*blocks, *variants_blocks(bench.table)] if bench.table is not None and bench.timings else blocks


def _ended(bench: Benchmark, contender: Contender) -> str:
    measured = any(timing.contender == contender.name for timing in bench.timings)
    return "stopped, its times are of before" if measured else "did not run"


def _headline(bench: Benchmark) -> Verdict:
    if not bench.timings:
        return Verdict("warn", "nothing measured", f"{bench.name}: interrupted before the first round")
    load = bench.loads[0].label
    rated = [(ratio, c.name) for c in bench.contenders if (ratio := bench.speed_up(c.name, load)) is not None]
    if not rated:
        return Verdict("warn", "interrupted", f"{bench.name}: what was measured stands below")
    ratio, name = max(rated)
    said = f"{bench.name}: {name} is fastest at {load}"
    if name != bench.baseline:
        said += f", {ratio:.2f} times as fast as {bench.baseline}"
    if not bench.complete:
        return Verdict("warn", "interrupted", f"{said}; what was measured until then stands below")
    return Verdict("good", "measured", said)


def _load_table(bench: Benchmark, load: Load) -> Table | None:
    timings = [t for t in bench.timings if t.load == load.label]
    if not timings:
        return None
    longest = max(t.median for t in timings) or 1.0
    return Table(
        f"times at {load.label}",
        (
            Column(load.label),
            Column("median", right=True),
            Column("p10 – p90", right=True),
            Column("speed-up", right=True),
            Column("samples/s", right=True),
            Column(""),
        ),
        tuple(_timing_row(bench, load, t, longest) for t in timings),
    )


def _timing_row(bench: Benchmark, load: Load, timing: Timing, longest: float) -> tuple[Cell, ...]:
    ratio = bench.speed_up(timing.contender, load.label)
    slower = ratio is not None and ratio < 1
    return (
        Cell(timing.contender),
        Cell(duration(timing.median), mono=True),
        Cell(f"{duration(timing.percentile(0.1))} – {duration(timing.percentile(0.9))}", "quiet", mono=True),
        Cell(f"{ratio:.2f}×" if ratio is not None else DASH, "warn" if slower else "plain", mono=True),
        Cell(_rate(load.samples / timing.median), mono=True),
        Cell("", bar=timing.median / longest),
    )


def _rate(value: float) -> str:
    """Samples per second with three digits: `7,830`, `12.4`."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _contenders_table(ran: list[Contender]) -> Table:
    return Table(
        "the contenders",
        (
            Column("contender"),
            Column("provider"),
            Column("threads", right=True),
            Column("size", right=True),
            Column("load", right=True),
            Column("peak memory", right=True),
        ),
        tuple(
            (
                Cell(one.name),
                Cell(one.provider, "bad" if one.asked else "plain", mono=True),
                Cell(f"{one.threads}" + (f" × {one.inter_op}" if one.inter_op > 1 else ""), mono=True),
                Cell(size_text(one.size), mono=True),
                Cell(duration(one.load_seconds) if one.load_seconds is not None else DASH, mono=True),
                Cell(size_text(one.memory) if one.memory else DASH, mono=True),
            )
            for one in ran
        ),
    )


def _how(bench: Benchmark, ran: list[Contender]) -> Facts:
    runs = min((len(t.seconds) for t in bench.timings), default=0)
    where = "a process each" if all(one.own_process for one in ran) else "processes of their own but for those named"
    said = (
        f"{where}, one at a time, {plural(bench.rounds, 'round')} after warm-up, {runs} runs or more each; "
        "memory is the process' peak: interpreter, libraries and loading included"
    )
    return Facts((Cell(said, "quiet", limit=240),))
