"""How long a cell that generates takes with PyTorch and with ONNX Runtime, and how many tokens that is per second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from onnx_magic.records.latency import BackendTime, Latency

if TYPE_CHECKING:
    import torch

RUNS = 3
PATIENCE = 20.0
"""Seconds after which no further round is begun."""


def timed_generation(
    model: torch.nn.Module,
    run: Callable[[], object],
    swaps: Mapping[str, Callable[[], AbstractContextManager[Any]]],
    provider: str,
) -> Latency:
    """Run what generates with every backend, in turns; the runs before were the warming up.

    Args:
        model: The live model.
        run: Generates with the model, the same at every call.
        swaps: By name, what puts another backend in the model's place.
        provider: Execution provider of these.
    """
    import torch

    seconds: dict[str, list[float]] = {name: [] for name in ("PyTorch", *swaps)}
    tokens = dict.fromkeys(seconds, 0)
    began = time.perf_counter()
    for done in range(RUNS):
        if done and time.perf_counter() - began > PATIENCE:
            break
        seconds["PyTorch"].append(_timed(run))
        for name, swap in swaps.items():
            with swap() as report:
                seconds[name].append(_timed(run))
            tokens[name] = report.rows
    tokens["PyTorch"] = max(tokens.values())
    device = str(next(iter(model.parameters())).device)
    places = {name: provider if name in swaps else device for name in seconds}
    threads = torch.get_num_threads()
    return Latency(
        tuple(
            BackendTime(
                name,
                places[name],
                threads if places[name] == "cpu" else None,
                statistics.median(taken),
                min(taken),
                max(taken),
                len(taken),
                tokens[name],
            )
            for name, taken in seconds.items()
        )
    )


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
