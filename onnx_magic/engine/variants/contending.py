"""Who takes part in a benchmark, and what each is given to run."""

from __future__ import annotations

import copy
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.variants.benchmarking import Entry
from onnx_magic.engine.variants.references import FeedMaker
from onnx_magic.engine.variants.torch_turns import prepared, run_of
from onnx_magic.engine.variants.workers import HereWorker, ProcessWorker, Worker
from onnx_magic.errors import UsageError
from onnx_magic.records.benchmarks import PYTORCH, Contender, Load
from onnx_magic.records.results import Array
from onnx_magic.runtime.running import build_feed
from onnx_magic.runtime.sessions import find_provider, told_threads
from onnx_magic.runtime.taking_turns import Contestant, write_feeds

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

BATCH, LENGTH, PAST = "batch_size", "sequence_length", "past_sequence_length"
READ = "encoder_sequence_length"
SEED = 11

PLAIN = "ONNX Runtime"
"""The plain export's name among the contenders."""

TORCH_KINDS = {PYTORCH: "eager", "PyTorch int8": "int8", "PyTorch compiled": "compiled"}
GRAPH_WORKER = "onnx_magic.runtime.taking_turns"
TORCH_WORKER = "onnx_magic.engine.variants.torch_turns"


@dataclass(frozen=True)
class Settings:
    """How the contenders run: the same for all.

    Args:
        provider: ONNX Runtime's execution provider; the CPU when `None`.
        threads: Threads within one operator.
        inter_op: Operators at the same time.
    """

    provider: str | None = None
    threads: int = 1
    inter_op: int = 1


def usual_threads() -> int:
    """The threads both sides get unless told otherwise: OMP_NUM_THREADS, else the cores this process may use."""
    return told_threads() or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def make_loads(
    opened: OpenedFolder, inputs: object, batches: Sequence[int], lengths: Sequence[int]
) -> tuple[tuple[Load, ...], list[dict[str, Array]]]:
    """What is run: the user's inputs, or made ones of every batch size and length; and the feed of each.

    A decoder with a past has two loads for each length: the prompt, and one more token behind it.

    Raises:
        UsageError: sizes for an axis that the graph does not have, or that is static; sizes beside inputs.
        FeedError: the inputs do not fit.
    """
    if inputs is not None:
        if batches or lengths:
            raise UsageError("batch and length are sizes of made inputs, and inputs were given", fix="leave one out")
        feed = dict(build_feed(opened, inputs).arrays)
        first = next(iter(feed.values()))
        return (Load("your inputs", {}, int(first.shape[0]) if first.ndim else 1),), [feed]
    names = {part for spec in opened.graph.inputs for dim in spec.shape if isinstance(dim, str) for part in _parts(dim)}
    for word, axis, wanted in (("batch", BATCH, batches), ("length", LENGTH, lengths)):
        if wanted and axis not in names:
            raise UsageError(
                f"{word}={','.join(map(str, wanted))}: {opened.name} has no dynamic axis {axis}; "
                f"it has {', '.join(sorted(names)) or 'none'}",
                fix=f"leave {word} out",
            )
    grid: list[tuple[str, dict[str, int]]] = []
    for batch in batches or ((1, 8) if BATCH in names else (0,)):
        for length in lengths or ((32, 128) if LENGTH in names else (0,)):
            sizes = {axis: n for axis, n in ((BATCH, batch), (LENGTH, length)) if n}
            sizes |= {READ: length} if READ in names and length else {}
            shown = [f"batch {batch}"] if batch else []
            if PAST in names:
                grid.append((", ".join([*shown, f"prompt of {length}"]), {**sizes, PAST: 0}))
                grid.append((", ".join([*shown, f"token after {length}"]), {**sizes, LENGTH: 1, PAST: length}))
            else:
                grid.append((", ".join([*shown, *([f"length {length}"] if length else [])]) or "as exported", sizes))
    maker = FeedMaker(opened, opened.graph)
    loads = tuple(Load(label, sizes, sizes.get(BATCH, 1)) for label, sizes in grid)
    return loads, [maker.at(load.sizes, SEED + i) for i, load in enumerate(loads)]


def _parts(dim: str) -> list[str]:
    return [part.strip() for part in dim.split("+") if not part.strip().isdecimal()]


def make_entries(
    opened: OpenedFolder,
    variants: Mapping[str, OpenedFolder],
    flat: FlatModel | None,
    feeds: Sequence[Mapping[str, Array]],
    settings: Settings,
    place: Path,
    kinds: Sequence[str] = (PYTORCH, "PyTorch int8"),
) -> list[Entry]:
    """The contenders: PyTorch as it is (and int8, compiled), the plain export, every variant.

    Args:
        opened: The plain export.
        variants: The variants, by name.
        flat: The PyTorch side; `None` where there is none.
        feeds: One per load.
        settings: Threads and provider.
        place: A folder for what the workers read.
        kinds: Which of TORCH_KINDS take part.

    Raises:
        UsageError: this ONNX Runtime does not have the provider.
    """
    provider = find_provider(settings.provider)
    feeds_file = place / "feeds.npz"
    write_feeds(feeds_file, feeds)
    common = {
        "feeds": str(feeds_file),
        "loads": len(feeds),
        "threads": settings.threads,
        "inter_op": settings.inter_op,
    }
    entries: list[Entry] = []
    if flat is not None:
        path = _pickled(flat, place / "model.pt")
        size = _weight_bytes(flat)
        modules = sorted({type(module).__module__ for module in flat.model.modules()})
        for name in kinds:
            told = {**common, "path": str(path), "kind": TORCH_KINDS[name], "modules": modules}
            worker: Worker = (
                ProcessWorker(TORCH_WORKER, told) if path else HereWorker(_here(flat, TORCH_KINDS[name], feeds))
            )
            row = Contender(name, "pytorch", threads=settings.threads, inter_op=settings.inter_op, size=size)
            entries.append(Entry(row, worker))
    for name, one in {PLAIN: opened, **variants}.items():
        told = {**common, "path": str(one.graph.path), "provider": provider}
        size = sum(graph.size for graph in one.graphs.values())
        row = Contender(
            name, "onnxruntime", asked=provider, threads=settings.threads, inter_op=settings.inter_op, size=size
        )
        entries.append(Entry(row, ProcessWorker(GRAPH_WORKER, told)))
    return entries


def _pickled(flat: FlatModel, path: Path) -> Path | None:
    """The model in a file that another process can read; `None` where its classes live in the notebook alone."""
    import torch

    if any(type(module).__module__ == "__main__" for module in flat.model.modules()):
        return None
    try:
        torch.save(flat, path)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):  # what cannot be pickled says so in any way
        return None
    return path


def _here(flat: FlatModel, kind: str, feeds: Sequence[Mapping[str, Array]]) -> Callable[[], Contestant]:
    def make() -> Contestant:
        import torch

        started = time.perf_counter()
        own = prepared(FlatModel(copy.deepcopy(flat.model), flat.binding), kind)
        seconds = time.perf_counter() - started
        facts = {"provider": str(own.device), "threads": torch.get_num_threads(), "load_seconds": seconds}
        return Contestant(tuple(run_of(own, feed) for feed in feeds), facts)

    return make


def _weight_bytes(flat: FlatModel) -> int:
    """Bytes of the weights, each counted once however often it is used."""
    tensors = [*flat.model.parameters(), *flat.model.buffers()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
