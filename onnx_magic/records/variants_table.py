"""All variants of a folder side by side: what each weighs, how fast it is, and what it does to the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx_magic.records.artifact import ExportReport
from onnx_magic.records.benchmarks import Benchmark
from onnx_magic.records.results import Status, Validation
from onnx_magic.records.variants import Answers, VariantRecord

PLAIN = "float32"
"""What the plain export is called beside its variants."""


SMALLER, FASTER = 0.9, 1.02
"""What counts as a gain: a tenth of the size, or 2 % of the time, which is what a quiet machine's medians vary by."""


@dataclass(frozen=True)
class VariantRow:
    """One variant.

    Args:
        name: Its name; `float32` for the plain export.
        size: Bytes on disk.
        max_drift: Largest absolute difference of any output from PyTorch, over the shapes tried; NaN when unknown.
        cosine: Smallest cosine of any output with PyTorch's; NaN when unknown.
        answers: How the answers on the user's own data compare; `None` when no data was given.
        agreed: Of the greedy tokens, else of the answers at the shapes tried, so many of so many are PyTorch's; (0, 0)
            without answers.
        status: The verdict.
        made: What was done to it; `None` for the plain export.
        median: Median seconds of a run; `None` when it was not measured.
        speed_up: How many times as fast as PyTorch (or the first that was measured).
        load_seconds: Seconds until it could run.
        memory: Peak memory of its process in bytes.
    """

    name: str
    size: int
    max_drift: float
    cosine: float
    answers: Answers | None
    agreed: tuple[int, int]
    status: Status
    made: VariantRecord | None = None
    median: float | None = None
    speed_up: float | None = None
    load_seconds: float | None = None
    memory: int | None = None

    @property
    def changed(self) -> int | None:
        """How many answers are others than the reference's; `None` where there are no answers to count."""
        if self.answers is not None and self.answers.kind != "cosine":
            return self.answers.changed
        return self.agreed[1] - self.agreed[0] if self.agreed[1] else None


def _gains(row: VariantRow, plain: VariantRow) -> bool:
    """Whether a variant is worth its place: clearly smaller, or faster; where no times are known it may be."""
    if row.median is None or plain.median is None:
        return True
    return row.size < SMALLER * plain.size or row.median * FASTER < plain.median


@dataclass(frozen=True)
class VariantsTable:
    """The variants of one model; the plain export is the first row.

    Args:
        name: The model's name.
        rows: The plain export, then a row per variant.
        load: At which inputs the times were measured; empty when they were not.
        baseline: What speed-ups are against.
    """

    name: str
    rows: tuple[VariantRow, ...]
    load: str = ""
    baseline: str = ""

    @property
    def smallest(self) -> VariantRow:
        """The smallest that did not fail; the plain export when all the others did."""
        return min(self._sound, key=lambda row: row.size)

    @property
    def fastest(self) -> VariantRow | None:
        """The fastest that did not fail; `None` when nothing was measured."""
        measured = [row for row in self._sound if row.median is not None]
        return min(measured, key=lambda row: row.median or math.inf, default=None)

    @property
    def _sound(self) -> list[VariantRow]:
        return [row for row in self.rows if row.status != "failed"] or list(self.rows[:1])

    @property
    def advice(self) -> str:
        """One sentence: which to ship, and at what price."""
        plain, others = self.rows[0], [row for row in self._sound if row is not self.rows[0]]
        if not others:
            return "no variant passes its check: ship the plain export" if len(self.rows) > 1 else "no variants yet"
        gainful = [row for row in others if _gains(row, plain)]
        if not gainful:
            return f"no variant is smaller or faster: ship {plain.name}"
        unchanged = [row for row in gainful if row.changed == 0]
        best = min(unchanged or gainful, key=lambda row: (row.median if row.median is not None else math.inf, row.size))
        said = f"{best.name} is {best.size / plain.size:.0%} of the size"
        if best.median is not None and plain.median is not None:
            said += f" and {plain.median / best.median:.2f} times as fast as {plain.name}"
        if best.changed is None:
            return f"{said}, with a cosine of at least {best.cosine:.3f}"
        total = best.answers.total if best.answers is not None and best.answers.kind != "cosine" else best.agreed[1]
        price = "no answer changed" if best.changed == 0 else f"{best.changed} answers changed"
        return f"{said}, with {price} of {total}"

    def with_times(self, bench: Benchmark, names: Mapping[str, str]) -> VariantsTable:
        """The same with what a benchmark measured at its first load.

        Args:
            bench: The benchmark.
            names: `{row's name: contender's name}`.
        """
        if not bench.loads:
            return self
        load = bench.loads[0].label
        known = {one.name: one for one in bench.contenders}

        def timed(row: VariantRow) -> VariantRow:
            who = names.get(row.name, row.name)
            timing = bench.timing(who, load)
            if timing is None:
                return row
            return replace(
                row,
                median=timing.median,
                speed_up=bench.speed_up(who, load),
                load_seconds=known[who].load_seconds,
                memory=known[who].memory,
            )

        return replace(self, rows=tuple(timed(row) for row in self.rows), load=load, baseline=bench.baseline or "")


def variants_table(plain: ExportReport, variants: Sequence[ExportReport]) -> VariantsTable:
    """The table of an export and its variants, without times."""
    return VariantsTable(plain.name, tuple(_row(report) for report in (plain, *variants)))


def _row(report: ExportReport) -> VariantRow:
    drift, cosine = _furthest(report.validation)
    agreements = [c.agreement for c in report.validation.comparisons if c.agreement is not None]
    tokens = report.made.tokens if report.made is not None else None
    return VariantRow(
        name=report.variant or PLAIN,
        size=sum(graph.size for graph in report.graphs.values()),
        max_drift=drift,
        cosine=cosine,
        answers=report.made.answers if report.made is not None else None,
        agreed=(tokens.same, tokens.total)
        if tokens is not None
        else (sum(a.agreed for a in agreements), sum(a.total for a in agreements)),
        status=report.validation.status,
        made=report.made,
    )


def _furthest(validation: Validation) -> tuple[float, float]:
    """The largest difference and the smallest cosine of all outputs; NaN of none."""
    diffs = [diff for comparison in validation.comparisons for diff in comparison.diffs]
    drift = [diff.max_abs for diff in diffs if not math.isnan(diff.max_abs)]
    cosine = [diff.cosine for diff in diffs if not math.isnan(diff.cosine)]
    return max(drift, default=math.nan), min(cosine, default=math.nan)
