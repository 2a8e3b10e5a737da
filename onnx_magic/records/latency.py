"""How long each backend takes on one and the same feed, with the same number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BackendTime:
    """One backend's time, over several runs after one that does not count.

    Args:
        name: `PyTorch`, `ONNX Runtime`, or the name of a variant.
        provider: The execution provider, or the torch device.
        threads: How many threads one operator may use; `None` where that says nothing (a GPU).
        median: Seconds.
        fastest: Seconds.
        slowest: Seconds.
        runs: How many runs that is of.
        tokens: Tokens that were generated in each run; 0 where none were.
    """

    name: str
    provider: str
    threads: int | None
    median: float
    fastest: float
    slowest: float
    runs: int
    tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second; NaN where none were generated."""
        return self.tokens / self.median if self.tokens and self.median > 0 else float("nan")


@dataclass(frozen=True)
class Latency:
    """The times of all backends on one feed, PyTorch's first. Shown where a person asks for times, and nowhere else.

    Args:
        timings: One per backend.
        shapes: Shape of each input: `{name: shape}`.
        warm: Whether a run that does not count came before those that do.

    Example:
        >>> Latency((BackendTime("PyTorch", "cpu", 1, 0.004, 0.004, 0.005, 5),)).timings[0].median
        0.004
    """

    timings: tuple[BackendTime, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warm: bool = True
