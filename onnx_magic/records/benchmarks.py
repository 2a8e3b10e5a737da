"""What a benchmark measured: who ran, at which sizes, how long each took, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from onnx_magic.records.variants_table import VariantsTable

PYTORCH = "PyTorch"
"""Name of the contender that every ratio is against, where it could be run."""


@dataclass(frozen=True)
class Load:
    """What is run: a graph, and the sizes of its named axes.

    Args:
        label: `batch 8, length 128`, or `your inputs`.
        sizes: `{axis name: size}`.
        samples: How many samples one run answers: the batch size.
        graph: Which graph of the folder runs, by its role.
    """

    label: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    samples: int = 1
    graph: str = "model"


@dataclass(frozen=True)
class Contender:
    """One that was measured, in a process of its own.

    Args:
        name: `PyTorch`, `PyTorch int8`, `ONNX Runtime`, `int8`, ...
        backend: `pytorch` or `onnxruntime`.
        provider: The execution provider or torch device that answered.
        asked: The provider that was asked for, where another one answered.
        threads: Threads within one operator.
        inter_op: Operators at the same time.
        size: Bytes on disk, or of the weights in memory for PyTorch.
        load_seconds: From the start of loading until it could run; imports left out.
        memory: Peak of the process' resident memory in bytes: interpreter, libraries and loading included.
        own_process: Whether it had one: a class that only the notebook knows runs in the notebook's.
        steady: Whether its times had settled when the warm-up ended.
        error: Why it did not run, or not to the end, in one line.
    """

    name: str
    backend: str
    provider: str = ""
    asked: str = ""
    threads: int = 0
    inter_op: int = 1
    size: int = 0
    load_seconds: float | None = None
    memory: int | None = None
    own_process: bool = True
    steady: bool = True
    error: str | None = None

    @property
    def runs_here(self) -> bool:
        """Whether it shared the notebook's process, and ran."""
        return not self.own_process and self.error is None


@dataclass(frozen=True)
class Timing:
    """How long one contender took for one load.

    Args:
        contender: Its name.
        load: The load's label.
        rounds: Seconds of each run, a tuple per round.
    """

    contender: str
    load: str
    rounds: tuple[tuple[float, ...], ...]

    @property
    def seconds(self) -> tuple[float, ...]:
        """Seconds of every run, sorted."""
        return tuple(sorted(s for one in self.rounds for s in one))

    @property
    def median(self) -> float:
        """Median seconds of a run."""
        return median(self.seconds)

    def percentile(self, share: float) -> float:
        """Seconds that this share of the runs did not exceed: nearest rank.

        Example:
            >>> Timing("a", "b", ((3.0, 1.0, 2.0),)).percentile(0.9)
            3.0
        """
        seconds = self.seconds
        return seconds[max(0, ceil(share * len(seconds)) - 1)]


@dataclass(frozen=True)
class Benchmark:
    """Contenders that took turns at the same loads; every ratio is of times that were measured in the same round.

    Args:
        name: The model's name.
        contenders: Who was measured, PyTorch first.
        loads: What was run.
        timings: One per contender and load that were reached.
        rounds: How many rounds were asked for.
        complete: False when it was interrupted: what was measured until then is here.
        notes: What a reader must know, a sentence each.
        table: The variants that were measured, with these times; `None` without variants.
    """

    name: str
    contenders: tuple[Contender, ...]
    loads: tuple[Load, ...]
    timings: tuple[Timing, ...]
    rounds: int = 0
    complete: bool = True
    notes: tuple[str, ...] = ()
    table: VariantsTable | None = None

    def timing(self, contender: str, load: str) -> Timing | None:
        """What `contender` took for `load`; `None` where it was not reached."""
        return next((t for t in self.timings if (t.contender, t.load) == (contender, load)), None)

    @property
    def baseline(self) -> str | None:
        """The contender that ratios are against: PyTorch, else the first that ran."""
        ran = [t.contender for t in self.timings]
        return PYTORCH if PYTORCH in ran else next(iter(ran), None)

    def speed_up(self, contender: str, load: str) -> float | None:
        """How many times as fast as the baseline: the median over the rounds of the ratio of the rounds' medians."""
        base = self.timing(self.baseline or "", load)
        mine = self.timing(contender, load)
        if base is None or mine is None:
            return None
        return median(median(b) / median(m) for b, m in zip(base.rounds, mine.rounds, strict=False))

    def rows(self) -> list[dict[str, Any]]:
        """A dict per contender and load: milliseconds, ratio, samples per second, bytes."""
        samples = {load.label: load.samples for load in self.loads}
        found = []
        for contender in self.contenders:
            for load in self.loads:
                timing = self.timing(contender.name, load.label)
                if timing is None:
                    continue
                found.append(
                    {
                        "contender": contender.name,
                        "load": load.label,
                        "median ms": timing.median * 1e3,
                        "p10 ms": timing.percentile(0.1) * 1e3,
                        "p90 ms": timing.percentile(0.9) * 1e3,
                        "speed-up": self.speed_up(contender.name, load.label),
                        "samples/s": samples[load.label] / timing.median,
                        "runs": len(timing.seconds),
                        "threads": contender.threads,
                        "provider": contender.provider,
                        "size": contender.size,
                        "load s": contender.load_seconds,
                        "peak memory": contender.memory,
                    }
                )
        return found

    def to_frame(self) -> pandas.DataFrame:
        """One row per contender and load, as a pandas DataFrame.

        Raises:
            UsageError: pandas is not installed.
        """
        from onnx_magic.errors import UsageError

        try:
            import pandas
        except ImportError as error:
            raise UsageError("to_frame() needs pandas, which is not installed", fix="pip install pandas") from error
        return pandas.DataFrame(self.rows())

    def plot(self, kind: str = "bar") -> Figure:
        """A matplotlib figure: `bar`, the medians of every contender; `sweep`, time against batch or length.

        Raises:
            UsageError: matplotlib is not installed, or a sweep of one size is asked for.

        Example:
            >>> exported.benchmark(batch="1,4,16").plot("sweep")  # doctest: +SKIP
        """
        from onnx_magic.records.plots import plot

        return plot(self, kind)
