"""A Benchmark as a matplotlib figure: bars of the medians, or a sweep over the sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_magic.errors import UsageError
from onnx_magic.records.benchmarks import Benchmark, Load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("bar", "sweep")
WIDTH, ROW = 8.0, 0.34
"""Inches: of a figure, and of one bar with its gap."""


def plot(bench: Benchmark, kind: str = "bar") -> Figure:
    """Draw a benchmark.

    Args:
        bench: What was measured.
        kind: `bar`: a group of bars per load, p10 to p90 as a line on each; `sweep`: median against each size.

    Raises:
        UsageError: no such kind, matplotlib is not installed, nothing was measured, or a sweep of one size.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no plot {kind!r}: expected {' or '.join(KINDS)}", fix='bench.plot("bar")')
    if not bench.timings:
        raise UsageError("nothing was measured: there is nothing to plot", fix="exported.benchmark()")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plot() needs matplotlib, which is not installed", fix="pip install matplotlib") from error
    # A Figure without pyplot: no window, no state of the user's own plots is touched.
    return _bars(bench, Figure) if kind == "bar" else _sweep(bench, Figure)


def _bars(bench: Benchmark, figure_class: Any) -> Figure:
    shown = [t for load in bench.loads for t in bench.timings if t.load == load.label]
    figure: Figure = figure_class(figsize=(WIDTH, 1.2 + ROW * (len(shown) + len(bench.loads))), layout="constrained")
    axes = figure.subplots()
    place, ticks, names = 0.0, [], []
    colours = {one.name: f"C{i % 10}" for i, one in enumerate(bench.contenders)}
    for load in bench.loads:
        place += 1
        for timing in (t for t in shown if t.load == load.label):
            low, high = timing.percentile(0.1), timing.percentile(0.9)
            errors = [[max(timing.median - low, 0) * 1e3], [max(high - timing.median, 0) * 1e3]]
            axes.barh(place, timing.median * 1e3, xerr=errors, color=colours[timing.contender], ecolor="grey")
            ticks.append(place)
            names.append(f"{timing.contender}\n{load.label}" if len(bench.loads) > 1 else timing.contender)
            place += 1
    axes.set_yticks(ticks, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a run: median, p10 to p90")
    axes.set_title(_title(bench))
    return figure


def _sweep(bench: Benchmark, figure_class: Any) -> Figure:
    axes_names = [name for name in _axes(bench) if len({load.sizes[name] for load in _along(bench, name)}) > 1]
    if not axes_names:
        raise UsageError(
            "a sweep needs several sizes, and one was measured", fix='exported.benchmark(batch="1,4,16").plot("sweep")'
        )
    figure: Figure = figure_class(figsize=(WIDTH, 4.0), layout="constrained")
    drawn = figure.subplots(1, len(axes_names), squeeze=False)[0]
    for one, name in zip(drawn, axes_names, strict=True):
        _sweep_axes(bench, name, one)
    drawn[0].set_ylabel("milliseconds a run: median")
    drawn[-1].legend(fontsize=8)
    figure.suptitle(_title(bench))
    return figure


def _sweep_axes(bench: Benchmark, name: str, axes: Axes) -> None:
    """A line per contender; the other sizes are those of the first load."""
    first, loads = dict(bench.loads[0].sizes), _along(bench, name)
    for contender in bench.contenders:
        points = [(load.sizes[name], t) for load in loads if (t := bench.timing(contender.name, load.label))]
        if points:
            axes.plot([x for x, _ in points], [t.median * 1e3 for _, t in points], marker="o", label=contender.name)
    others = ", ".join(f"{axis} {size}" for axis, size in first.items() if axis != name)
    axes.set_xlabel(name + (f" ({others})" if others else ""))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")


def _along(bench: Benchmark, name: str) -> list[Load]:
    """The loads that differ from the first in the size of one axis alone, by that size."""
    first = bench.loads[0]

    def comparable(load: Load) -> bool:
        same = {**load.sizes, name: 0} == {**first.sizes, name: 0}
        return name in load.sizes and same and load.graph == first.graph

    return sorted(filter(comparable, bench.loads), key=lambda load: load.sizes[name])


def _axes(bench: Benchmark) -> list[str]:
    return list(dict.fromkeys(name for load in bench.loads for name in load.sizes))


def _title(bench: Benchmark) -> str:
    ran = next(one for one in bench.contenders if not one.error)
    return f"{bench.name}: {ran.threads} thread{'s' if ran.threads != 1 else ''}"
