"""`quantize` as it is asked for, carried out: the options made sense of, then one graph after the other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from onnx_magic.engine.recording import Recorder
from onnx_magic.engine.variants.branches import Piece, joined, pieces_of
from onnx_magic.engine.variants.calibrating import read_data, samples_in
from onnx_magic.engine.variants.layers import require_meaning
from onnx_magic.engine.variants.making import (
    Making,
    Parent,
    VariantOutcome,
    finish,
    making,
    refuse_quantized,
)
from onnx_magic.engine.variants.modes import Mode, find_mode
from onnx_magic.engine.variants.overflowing import LARGEST, find_overflows
from onnx_magic.engine.variants.quantizing import Source, Wish, done_to, prepare_source, quantize_graph
from onnx_magic.engine.variants.searching import Search
from onnx_magic.errors import UsageError
from onnx_magic.events import stage
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.variants import KeptLayer, VariantRecord

SAMPLES = 256
"""Samples of the user's data that are used, unless more are asked for."""


@dataclass(frozen=True)
class QuantizeRequest:
    """What `quantize` was asked: its options, see `verbs.quantize`."""

    mode: str
    data: Any = None
    accuracy: float | None = None
    samples: int = SAMPLES
    wish: Wish = field(default_factory=Wish)
    overwrite: bool = False


def check_wanted(level: str | None, modes: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The variants that an export is to make, before any long work.

    Raises:
        UsageError: a level or mode that there is not, or one that needs data.
    """
    from onnx_magic.engine.variants.optimizing import check_level

    if level is not None:
        check_level(level)
    found = tuple(find_mode(name) for name in modes)
    for mode in found:
        if mode.needs_data:
            raise UsageError(
                f"mode {mode.name} needs data, which an export is not given: make it of the export afterwards",
                fix=f"exported.quantize({mode.name!r}, data=texts)",
            )
    return level, tuple(mode.name for mode in found)


def run_quantize(parent: Parent, request: QuantizeRequest) -> VariantOutcome:
    """Make a quantised variant and prove it; see `verbs.quantize` for what is raised."""
    mode = find_mode(request.mode)
    _check(parent, mode, request)
    with making(parent, mode.name, overwrite=request.overwrite) as (made, seen):
        if request.data is not None:
            with stage("calibrate" if mode.needs_data else "data") as row:
                made.take(read_data(parent.opened, request.data, request.samples))
                row.detail = f"{samples_in(made.feeds)} samples"
        graphs, record = _quantized(made, mode, request, seen)
        return finish(made, record, graphs, mode.tolerance, seen)


def _check(parent: Parent, mode: Mode, request: QuantizeRequest) -> None:
    refuse_quantized(parent.opened, "quantize")
    if len(parent.opened.graphs) > 1 and request.accuracy is not None:
        raise UsageError(
            f"accuracy= searches the layers of one graph, and {parent.opened.name} has "
            f"{', '.join(parent.opened.graphs)}",
            fix="exclude=<a module>  # or leave accuracy out",
        )
    if mode.needs_data and request.data is None:
        raise UsageError(
            f"mode {mode.name} needs data to measure the activations on: a few dozen samples of your own",
            fix="data=texts  # or arrays, a DataLoader, rows of a data set; mode=int8 needs none",
        )
    if request.accuracy is not None and request.data is None:
        raise UsageError("accuracy= is measured on your data, and none was given", fix="data=texts")
    if request.samples < 1:
        raise UsageError(f"samples={request.samples}: expected 1 or more", fix="samples=256")


def _quantized(
    made: Making, mode: Mode, request: QuantizeRequest, seen: Recorder
) -> tuple[dict[str, GraphFile], VariantRecord]:
    prepared = _prepared(made, mode, request, seen)
    graphs: dict[str, GraphFile] = {}
    answers = None
    steps: list[str] = []
    for role, pieces in prepared.items():
        with stage("quantize") as row:
            row.detail = mode.title
            if request.accuracy is not None:
                ((_, source),) = pieces
                graphs[role], answers, told, found = Search(made, source, mode, request.wish, request.accuracy).run()
                steps += told
                seen.findings += found
            else:
                models = []
                for piece, source in pieces:
                    target, feeds = source.path.with_name("quantized.onnx"), piece.feeds(made.feeds_of(role))
                    models.append(quantize_graph(source, mode, request.wish, target, feeds))
                inputs = [spec.name for spec in made.parent.opened.graphs[role].inputs]
                graphs[role] = made.place.write(role, joined(models, inputs))
        for piece, source in pieces:
            seen.findings += _kept_for_want_of_kernels(source)
            done = done_to(source, mode, request.wish)
            steps += [f"{piece.title}: {step}" if piece.title else step for step in done]
    sources = [source for pieces in prepared.values() for _, source in pieces]
    kept = tuple(layer for source in sources for layer in source.kept.values())
    options = {name: value for name, value in dataclasses.asdict(request.wish).items() if value not in (None, ())}
    record = VariantRecord(
        mode.name,
        mode.title,
        steps=tuple(steps),
        kept=kept,
        options=options,
        answers=answers,
        accuracy=request.accuracy,
    )
    return graphs, record


def _prepared(
    made: Making, mode: Mode, request: QuantizeRequest, seen: Recorder
) -> dict[str, list[tuple[Piece, Source]]]:
    """The pieces of every graph, ready for the quantizers.

    Raises:
        UsageError: `exclude` names what is nowhere, or the mode finds nothing to do in any.
    """
    work, found = made.place.work, {}
    with stage("quantize") as row:
        row.detail = mode.title
        for role, graph in made.parent.opened.graphs.items():
            pieces = pieces_of(graph.path, role, graph.operators, work, apart=True)
            found[role] = [(p, prepare_source(p.path, work / p.name, role, mode, request.wish)) for p in pieces]
        every = [pair for pairs in found.values() for pair in pairs]
        require_meaning([source.path for _, source in every], request.wish.exclude)
        nothing = [source.nothing for _, source in every if source.nothing is not None]
        if len(nothing) == len(every):
            raise nothing[0]
        if "float16" in mode.methods:
            for piece, source in every:
                seen.findings += _leave_overflows(made, source, piece)
    return found


def _leave_overflows(made: Making, source: Source, piece: Piece) -> list[Finding]:
    """Leave the layers in float32 whose values float16 cannot hold, and name them."""
    feeds = made.feeds_of(source.role) or [feed for _, feed in made.reference(source.role).cases]
    found = find_overflows(source.path, piece.feeds(feeds))
    for one in found:
        source.kept[one.node] = KeptLayer(one.node, one.operator, one.module, "overflow", graph=source.role)
    worst: dict[str, float] = {}
    for one in (one for one in found if one.source):
        name = one.module or one.node
        worst[name] = max(worst.get(name, 0.0), one.largest)
    return [
        Finding(
            "half-overflow",
            f"{name} reaches {largest:.3g}, and float16 ends at {LARGEST:g}: it is left in float32",
            level="warning",
            layer=name,
        )
        for name, largest in worst.items()
    ]


def _kept_for_want_of_kernels(source: Source) -> list[Finding]:
    names = [layer.name for layer in source.kept.values() if layer.reason == "no kernel"]
    if not names:
        return []
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    sentence = f"ONNX Runtime has no int8 kernel for convolutions quantised as the graph runs: {told} stay in float"
    return [Finding("layers-kept", sentence, "note", "mode=uint8  # or int8-static, with data")]
