"""Who takes part in a benchmark, and what each is given to run."""

from __future__ import annotations

import copy
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnx_magic.engine.generation.merging import USE_CACHE
from onnx_magic.engine.variants.benchmarking import Entry
from onnx_magic.engine.variants.references import FeedMaker, axes_of
from onnx_magic.engine.variants.torch_turns import Side, contestant
from onnx_magic.engine.variants.workers import HereWorker, ProcessWorker, Worker
from onnx_magic.errors import UsageError
from onnx_magic.records.benchmarks import PYTORCH, Contender, Load
from onnx_magic.records.results import Array
from onnx_magic.runtime.running import build_feed, fed_graph
from onnx_magic.runtime.sessions import Session, find_provider, open_session, told_threads
from onnx_magic.runtime.taking_turns import Contestant, write_feeds

if TYPE_CHECKING:
    import torch

    from onnx_magic.records.artifact import GraphFile
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

    A decoder with a past has two loads for each length: the prompt, and one more token behind it. An encoder-decoder
    has three: one more token, its first token, and its encoder.

    Raises:
        UsageError: sizes for an axis that the graphs do not have, or that is static; sizes beside inputs.
        FeedError: the inputs do not fit.
    """
    if inputs is not None:
        if batches or lengths:
            raise UsageError("batch and length are sizes of made inputs, and inputs were given", fix="leave one out")
        feed = dict(build_feed(opened, inputs).arrays)
        first = next(iter(feed.values()))
        role = role_of(opened, fed_graph(opened, feed))
        label = "your inputs" if len(opened.graphs) == 1 else f"your inputs, {role}"
        return (Load(label, {}, int(first.shape[0]) if first.ndim else 1, role),), [feed]
    names = {axis for graph in opened.graphs.values() for axis in axes_of(graph)}
    for word, axis, wanted in (("batch", BATCH, batches), ("length", LENGTH, lengths)):
        if wanted and axis not in names:
            raise UsageError(
                f"{word}={','.join(map(str, wanted))}: {opened.name} has no dynamic axis {axis}; "
                f"it has {', '.join(sorted(names)) or 'none'}",
                fix=f"leave {word} out",
            )
    grid: dict[str, tuple[str, dict[str, int]]] = {}
    for batch in batches or ((1, 8) if BATCH in names else (0,)):
        for length in lengths or ((32, 128) if LENGTH in names else (0,)):
            found = _loads_of_parts(opened, length) if len(opened.graphs) > 1 else _loads_of_one(opened, length)
            for label, role, sizes in found:
                sized = {axis: n for axis, n in ((BATCH, batch), *sizes.items()) if n or axis == PAST}
                shown = [text for text in (f"batch {batch}" if batch else "", label) if text]
                grid.setdefault(", ".join(shown) or "as exported", (role, sized))
    loads = tuple(Load(label, sizes, sizes.get(BATCH, 1), role) for label, (role, sizes) in grid.items())
    return loads, [_feed_of(opened, load, SEED + i) for i, load in enumerate(loads)]


_Found: TypeAlias = list[tuple[str, str, dict[str, int]]]
"""(label, role, sizes) of what is run at one length."""


def _loads_of_one(opened: OpenedFolder, length: int) -> _Found:
    role, axes = role_of(opened, opened.graph), axes_of(opened.graph)
    if PAST not in axes:
        return [(f"length {length}" if length else "", role, {LENGTH: length})]
    return [
        (f"prompt of {length}", role, {LENGTH: length, PAST: 0}),
        (f"token after {length}", role, {LENGTH: 1, PAST: length}),
    ]


def _loads_of_parts(opened: OpenedFolder, length: int) -> _Found:
    """The decoder's loads first: most of the time goes into its steps."""
    found: _Found = []
    later = [role for role, graph in opened.graphs.items() if PAST in axes_of(graph)]
    text = LENGTH in axes_of(opened.reading)
    read = length if text else _states_read(opened)
    for role in later:
        found.append((f"token after {length}", role, {LENGTH: 1, PAST: length, READ: read}))
    for role, graph in opened.graphs.items():
        if graph is opened.reading:
            continue
        if not later:
            found.append((f"all of {length} tokens", role, {LENGTH: length, READ: read}))
        elif role not in later or len(opened.graphs) == len(later) + 1:
            label = f"first token, {read} read" if text else "first token"
            found.append((label, role, {LENGTH: 1, PAST: 0, READ: read}))
    label = f"encoder, length {length}" if text else "encoder"
    return [*found, (label, role_of(opened, opened.reading), {LENGTH: length if text else 0})]


def _states_read(opened: OpenedFolder) -> int:
    """How many states the encoder gives of an image or a sound: it is run once."""
    session = Session(open_session(opened.reading.path))
    states = next(iter(session.run(FeedMaker(opened, opened.reading).at({BATCH: 1}, SEED)).values()))
    return int(states.shape[1])


def _feed_of(opened: OpenedFolder, load: Load, seed: int) -> dict[str, Array]:
    feed = FeedMaker(opened, opened.graphs[load.graph]).at(load.sizes, seed)
    if USE_CACHE in feed:
        feed[USE_CACHE] = np.full_like(feed[USE_CACHE], load.sizes.get(PAST, 0) > 0)
    return feed


def role_of(opened: OpenedFolder, graph: GraphFile) -> str:
    """The role of a graph in its folder."""
    return next(role for role, one in opened.graphs.items() if one is graph)


def make_entries(
    opened: OpenedFolder,
    variants: Mapping[str, OpenedFolder],
    side: Side | None,
    loads: Sequence[Load],
    feeds: Sequence[Mapping[str, Array]],
    settings: Settings,
    place: Path,
    kinds: Sequence[str] = (PYTORCH, "PyTorch int8"),
) -> list[Entry]:
    """The contenders: PyTorch as it is (and int8, compiled), the plain export, every variant.

    Args:
        opened: The plain export.
        variants: The variants, by name.
        side: The PyTorch side; `None` where there is none.
        loads: What is run.
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
        "loads": [load.graph for load in loads],
        "threads": settings.threads,
        "inter_op": settings.inter_op,
    }
    entries: list[Entry] = []
    if side is not None:
        path = _pickled(side, place / "model.pt")
        size = _weight_bytes(side.model)
        modules = sorted({type(module).__module__ for module in side.model.modules()})
        for name in kinds:
            told = {**common, "path": str(path), "kind": TORCH_KINDS[name], "modules": modules}
            worker: Worker = (
                ProcessWorker(TORCH_WORKER, told) if path else HereWorker(_here(side, TORCH_KINDS[name], loads, feeds))
            )
            row = Contender(name, "pytorch", threads=settings.threads, inter_op=settings.inter_op, size=size)
            entries.append(Entry(row, worker))
    for name, one in {PLAIN: opened, **variants}.items():
        paths = {role: str(graph.path) for role, graph in one.graphs.items()}
        told = {**common, "paths": paths, "provider": provider}
        size = sum(graph.size for graph in one.graphs.values())
        row = Contender(
            name, "onnxruntime", asked=provider, threads=settings.threads, inter_op=settings.inter_op, size=size
        )
        entries.append(Entry(row, ProcessWorker(GRAPH_WORKER, told)))
    return entries


def _pickled(side: Side, path: Path) -> Path | None:
    """The model in a file that another process can read; `None` where its classes live in the notebook alone."""
    import torch

    if any(type(module).__module__ == "__main__" for module in side.model.modules()):
        return None
    try:
        torch.save(side, path)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):  # what cannot be pickled says so in any way
        return None
    return path


def _here(
    side: Side, kind: str, loads: Sequence[Load], feeds: Sequence[Mapping[str, Array]]
) -> Callable[[], Contestant]:
    def make() -> Contestant:
        import torch

        started = time.perf_counter()
        flats = Side(copy.deepcopy(side.model), side.graphs, side.binding).flats(kind)
        seconds = time.perf_counter() - started
        return contestant(flats, [load.graph for load in loads], feeds, torch.get_num_threads(), seconds)

    return make


def _weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of the weights, each counted once however often it is used."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
