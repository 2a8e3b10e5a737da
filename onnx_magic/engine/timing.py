"""How long PyTorch, ONNX Runtime and variants take on one feed: in turns, on as many threads, a first run left out."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.precision import widened
from onnx_magic.engine.state import comparable_attention, preserved
from onnx_magic.engine.tensors import to_tensors
from onnx_magic.records.latency import BackendTime, Latency
from onnx_magic.runtime.feeds import fit_feed
from onnx_magic.runtime.sessions import CPU, Session, open_session

if TYPE_CHECKING:
    import torch

    from onnx_magic.exported import ExportedModel

Array: TypeAlias = np.ndarray[Any, Any]
_Form: TypeAlias = tuple[Callable[[], object], str]

RUNS = 5
LEAST_RUNS = 3
PATIENCE = 5.0
"""Seconds after which no further round is begun, once every backend has run `LEAST_RUNS` times."""


class Stopwatch:
    """Times one model in all its forms, again and again (a live panel); sessions are made once.

    ONNX Runtime's sessions are made for it, with torch's number of threads: each side's default is another, and a
    comparison of the two would be one of thread counts.

    Args:
        exported: The exported model.
        flat: The PyTorch model, as a function of the graph's inputs; `None` where there is none.
        variants: Further forms by name: `{"int8": ExportedModel}`.
        provider: Execution provider.
        threads: Threads per operator, on both sides; torch's own number when `None`.

    Example:
        >>> watch = Stopwatch(exported, exported.live)  # doctest: +SKIP
        >>> watch.measure({"x": x}).timings[0].median  # doctest: +SKIP
        0.0021
    """

    def __init__(
        self,
        exported: ExportedModel,
        flat: FlatModel | None = None,
        variants: Mapping[str, ExportedModel] | None = None,
        *,
        provider: str | None = None,
        threads: int | None = None,
    ) -> None:
        import torch

        self.flat, self.provider = flat, provider
        self.threads = torch.get_num_threads() if threads is None else threads
        self._forms = {"ONNX Runtime": exported, **(variants or {})}
        self._sessions: dict[str, Session] = {}

    def measure(
        self, feed: Mapping[str, Array], runs: int = RUNS, *, tensors: Mapping[str, torch.Tensor] | None = None
    ) -> Latency:
        """The time of every form on this feed.

        Args:
            feed: Arrays as the graph takes them.
            runs: How many runs count; fewer, but at least 3, where they take long.
            tensors: What PyTorch takes, in the model's own dtype; the feed, and bfloat16 widened, when not given.

        Raises:
            FeedError: the graph does not take the feed.
            GraphFileError: ONNX Runtime does not load a graph, or a node of it fails.
        """
        with self._callables(feed, tensors) as forms:
            seconds = _in_turns({name: run for name, (run, _) in forms.items()}, runs)
            timings = tuple(self._timing(name, forms[name][1], taken) for name, taken in seconds.items())
        return Latency(timings, {name: tuple(array.shape) for name, array in feed.items()})

    @contextlib.contextmanager
    def _callables(
        self, feed: Mapping[str, Array], tensors: Mapping[str, torch.Tensor] | None
    ) -> Iterator[dict[str, _Form]]:
        """What is timed: by name, a function that runs it and the device or provider that does."""
        forms: dict[str, _Form] = {}
        with contextlib.ExitStack() as stack:
            if self.flat is not None:
                if tensors is None:
                    stack.enter_context(widened(self.flat.model))
                    tensors = to_tensors(feed)
                stack.enter_context(preserved(self.flat.model))
                stack.enter_context(comparable_attention())
                stack.enter_context(_torch_threads(self.threads))
                forms["PyTorch"] = (_forward(self.flat, tensors), str(self.flat.device))
            for name in self._forms:
                session = self._session(name)
                fitted, _ = fit_feed(feed, self._forms[name].inputs)
                forms[name] = (functools.partial(session.run, fitted), session.provider)
            yield forms

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            path = self._forms[name].model_path
            self._sessions[name] = Session(open_session(path, self.provider, self.threads))
        return self._sessions[name]

    def _timing(self, name: str, place: str, taken: list[float]) -> BackendTime:
        threads = self.threads if place in ("cpu", CPU) else None
        return BackendTime(name, place, threads, statistics.median(taken), min(taken), max(taken), len(taken))


def _in_turns(forms: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run: round after round, so that a machine that grows busy slows all of them alike."""
    for run in forms.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    began = time.perf_counter()
    for done in range(runs):
        if done >= LEAST_RUNS and time.perf_counter() - began > PATIENCE:
            break
        for name, run in forms.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _forward(flat: FlatModel, tensors: Mapping[str, torch.Tensor]) -> Callable[[], object]:
    """PyTorch's forward, waited for where it runs on a GPU."""
    import torch

    accelerated = flat.device.type == "cuda"

    def run() -> None:
        flat.run(tensors)
        if accelerated:
            torch.cuda.synchronize()

    return run


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
