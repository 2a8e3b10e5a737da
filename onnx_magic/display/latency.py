"""Latency as blocks: a bar per backend, with its provider and threads. Shown where a person asked for times."""

from __future__ import annotations

from onnx_magic.display.blocks import Blocks, Cell, Column, Facts, Table
from onnx_magic.display.verdict import inputs_text
from onnx_magic.display.wording import DASH, plural, rate
from onnx_magic.records.latency import BackendTime, Latency


def latency_blocks(latency: Latency) -> Blocks:
    """A row per backend: provider, threads, median, how far the runs spread, how many times as fast as PyTorch."""
    if not latency.timings:
        return [Facts((Cell("nothing was timed", "quiet"),))]
    longest = max(timing.median for timing in latency.timings) or 1.0
    rates = any(timing.tokens for timing in latency.timings)
    table = Table(
        "latency of each backend",
        (
            Column("latency"),
            Column("provider"),
            Column("median", right=True),
            Column(""),
            Column("threads", right=True),
            Column("speed", right=True),
            *((Column("tokens/s", right=True),) if rates else ()),
            Column("fastest", right=True),
            Column("slowest", right=True),
        ),
        tuple(_row(timing, latency.timings[0], longest, rates) for timing in latency.timings),
    )
    runs = min(timing.runs for timing in latency.timings)
    shapes = f"inputs {inputs_text(latency.shapes)}, " if latency.shapes else ""
    return [
        table,
        Facts((Cell(f"{shapes}{_runs_text(runs, latency.warm)}", "quiet", limit=160),)),
    ]


def _runs_text(runs: int, warm: bool) -> str:
    return f"{plural(runs, 'run')} each, in turns, after one that does not count" if warm else "one run each, the first"


def _row(timing: BackendTime, first: BackendTime, longest: float, rates: bool) -> tuple[Cell, ...]:
    tokens = rate(timing.tokens_per_second) if timing.tokens else ""
    return (
        Cell(timing.name),
        Cell(timing.provider, mono=True),
        Cell(duration(timing.median), mono=True),
        Cell("", bar=timing.median / longest),
        Cell(DASH if timing.threads is None else str(timing.threads), mono=True),
        Cell(f"{first.median / timing.median:.3g}×" if timing.median > 0 else "", mono=True),
        *((Cell(tokens, mono=True),) if rates else ()),
        Cell(duration(timing.fastest), "quiet", mono=True),
        Cell(duration(timing.slowest), "quiet", mono=True),
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that is read most easily, with 3 significant digits.

    Example:
        >>> duration(0.00041234), duration(0.0123), duration(2.0)
        ('412 µs', '12.3 ms', '2.00 s')
    """
    for unit, name in ((1e-3, "µs"), (1.0, "ms")):
        if seconds < unit * 0.9995:
            scaled = seconds / unit * 1000
            return (
                f"{scaled:.2f} {name}"
                if scaled < 9.995
                else f"{scaled:.1f} {name}"
                if scaled < 99.95
                else f"{scaled:.0f} {name}"
            )
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
