"""`accuracy=`: which layers quantising hurts most, and how few of them must stay in float until the answers agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.adapters import ort_tools
from onnx_magic.engine.variants.calibrating import samples_in
from onnx_magic.engine.variants.foreseeing import rate_of, reaches, worth
from onnx_magic.engine.variants.layers import Layer
from onnx_magic.engine.variants.making import ALL, Making
from onnx_magic.engine.variants.modes import EMBEDDING, MODES, Mode
from onnx_magic.engine.variants.quantizing import Source, Wish, quantize_graph
from onnx_magic.events import Progress, emit, stage
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.variants import Answers

Array: TypeAlias = np.ndarray[Any, Any]

LOOKED_AT = 2
"""Feeds of data on which the noise is measured: all activations for them are held in memory at once."""

HELD_BACK_FROM = 40
"""From so many samples on, half of them are kept back from the search: both halves are then worth judging by."""

MEASURED = 12
"""Of the layers that the debugger finds worst, so many are left in float alone, and ranked by what that gives."""

MOST_BACK = 4
"""Layers that are tried one by one to be quantised after all, the largest first."""


@dataclass(frozen=True, eq=False)
class Try:
    """One graph that was tried: which layers stayed in float, and what its answers are worth.

    Args:
        answers: On the data that is searched on; `None` when it does not run.
    """

    left: tuple[Layer, ...]
    graph: GraphFile
    answers: Answers | None


@dataclass(eq=False)
class Search:
    """How few layers must stay in float. `run()` leaves `source.kept` as it is to be recorded.

    The layers are ranked by ONNX Runtime's debugger, and the worst of them by how much nearer the outputs are when that
    one alone stays in float, for the weights that this costs. How many of the worst must stay is found by doubling,
    then by halving the gap; of those, the large ones are then quantised again one by one where the answers allow it.
    Every other feed is kept back: what the search chose must reach the target there too, else it searches on all.

    Args:
        made: The variant while it is made, with the user's data.
        source: The prepared graph.
        mode: The mode.
        wish: What was asked.
        target: Share of the answers that must stay the same.
    """

    made: Making
    source: Source
    mode: Mode
    wish: Wish
    target: float
    noise: Mapping[str, float] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    held: dict[tuple[Layer, ...], bool] = field(default_factory=dict)
    on_all: bool = False

    def run(self) -> tuple[GraphFile, Answers | None, tuple[str, ...], tuple[Finding, ...]]:
        """The staged graph, what its answers are worth, what was tried, and what was found."""
        own = dict(self.source.kept)
        loose = [layer for layer in self.source.layers if layer.node not in own]
        with stage("search") as row:
            best = self._try((), own)
            if not (self._reached(best) and self._holds(best)):
                ranked = self._measured(self._ranked(loose), own)
                best = self._put_back(self._fewest(ranked, own), own)
                if self._reached(best) and not self._holds(best):
                    self.on_all = True
                    best = self._put_back(self._fewest(ranked, own), own)
            row.detail = f"{len(best.left)} of {len(loose)} layers left in float"
        self.source.kept = dict(own)
        self.source.leave(best.left, "worst", self.noise)
        graph = self.made.place.keep(self.source.role, best.graph)
        answers = self.made.answers(graph.path, self.mode.tolerance, "data")
        return graph, answers, tuple(self._told(best, len(loose))), tuple(self._findings(best, answers))

    @property
    def _parts(self) -> tuple[slice, slice]:
        """The feeds that are searched on, and those that are kept back: the same ones where there are few."""
        if len(self.made.feeds) < 2 or samples_in(self.made.feeds) < HELD_BACK_FROM:
            return ALL, ALL
        return slice(0, None, 2), slice(1, None, 2)

    def _reached(self, one: Try) -> bool:
        return reaches(one.answers, self.target) and (not self.on_all or self._holds(one))

    def _holds(self, one: Try) -> bool:
        """Whether the samples that were kept back from the search agree, and all of them together."""
        part = self._parts[1]
        if part == ALL:
            return reaches(one.answers, self.target)
        if one.left not in self.held:
            kept = self.made.answers(one.graph.path, self.mode.tolerance, "data", part=part)
            held = reaches(kept, self.target) and rate_of((one.answers, kept)) >= self.target
            self.held[one.left] = held
            what = f"{len(one.left)} in float: {worth_told(kept)}, {'enough' if held else 'not enough'}"
            how = "that were kept back, then searched on too" if self.on_all else "that were kept back from the search"
            self.told.append(f"on samples {how}, {what}")
        return self.held[one.left]

    def _fewest(self, ranked: list[Layer], own: Mapping[str, Any]) -> Try:
        """The fewest of the worst that reach the target; where none do, the best that was tried."""
        most = len(ranked) - 1  # with none left to quantise there is no variant
        low, high, reached = 0, min(1, most), None
        while high > low:
            one = self._try(tuple(ranked[:high]), own)
            if self._reached(one):
                reached = one
                break
            low, high = high, min(high * 2, most)
        if reached is None:
            return max(self.tries, key=lambda one: (*worth(one.answers), -len(one.left)))
        while high - low > 1:
            middle = (low + high) // 2
            one = self._try(tuple(ranked[:middle]), own)
            low, high, reached = (low, middle, one) if self._reached(one) else (middle, high, reached)
        return reached

    def _put_back(self, best: Try, own: Mapping[str, Any]) -> Try:
        """Quantise the large layers of those after all, one by one, as long as the target is reached."""
        if not self._reached(best):
            return best
        for layer in sorted(best.left, key=lambda layer: -layer.elements)[:MOST_BACK]:
            fewer = tuple(other for other in best.left if other is not layer)
            one = self._try(fewer, own)
            best = one if self._reached(one) else best
        return best

    def _try(self, left: tuple[Layer, ...], own: Mapping[str, Any]) -> Try:
        """The graph with these layers in float, and its answers; each set is tried once."""
        for before in self.tries:
            if before.left == left:
                return before
        number = len(self.tries)
        emit(Progress("search", number, number + 1))
        self.source.kept = dict(own)
        self.source.leave(left, "worst", self.noise)
        target = self.source.path.with_name(f"try-{number}.onnx")
        model = quantize_graph(self.source, self.mode, self.wish, target, self.made.feeds)
        graph = self.made.place.write(self.source.role, model, ahead=number)
        answers = self.made.answers(graph.path, self.mode.tolerance, "data", part=self._parts[0])
        self.tries.append(Try(left, graph, answers))
        return self.tries[-1]

    def _measured(self, ranked: list[Layer], own: Mapping[str, Any]) -> list[Layer]:
        """The worst by the debugger, now by how much nearer the outputs are for every weight left; the others follow.

        What the debugger sees is the noise of a layer's own weight and input, not what becomes of it further on.
        """
        before = _squared_drift(self.tries[0])
        if len(ranked) < 3 or not np.isfinite(before):
            return ranked
        gain = {layer: before - _squared_drift(self._try((layer,), own)) for layer in ranked[:MEASURED]}
        worst = sorted(gain, key=lambda layer: -gain[layer] / layer.elements)
        useful, idle = ([layer for layer in worst if (gain[layer] > 0) == wanted] for wanted in (True, False))
        return [*useful, *ranked[MEASURED:], *idle]

    def _ranked(self, loose: list[Layer]) -> list[Layer]:
        """The layers, the worst first, by what quantising adds to their weights and to what they are fed."""
        tensors = self._tensor_noise(loose)
        noise = {}
        for layer in loose:
            parts = {layer.weight, *layer.inputs} & set(tensors)
            noise[layer.node] = sum(tensors[name] for name in parts)
        self.noise = noise
        return sorted(loose, key=lambda layer: -noise[layer.node])

    def _tensor_noise(self, loose: list[Layer]) -> dict[str, float]:
        feeds = list(self.made.feeds[:LOOKED_AT])
        if self.mode.methods[0] == "4bit":
            return block_noise(self.source.path, loose, self.wish.block)
        # ONNX Runtime's debugger reads QuantizeLinear / DequantizeLinear pairs: a dynamic graph has none, and its
        # layers are ranked by what the static one of the same weights adds.
        quantized = self.source.path.with_name("pairs.onnx")
        static = self.mode if self.mode.methods[0] == "static" else MODES["int8-static"]
        ranges = self.wish.calibration
        ort_tools.quantize_static(
            self.source.path, quantized, feeds, method=ranges, per_channel=self.source.per_channel(self.wish),
            operators=[name for name in self.source.operators if name in static.operators],
            exclude=self.source.excluded, external=self.source.external, cache=self._cache(static),
        )  # fmt: skip
        tables = {layer.output: layer.weight for layer in loose if layer.operator in EMBEDDING}
        return ort_tools.layer_noise(self.source.path, quantized, feeds, self.source.path.parent, tables)

    def _cache(self, static: Mode) -> Path:
        """Where the ranges lie: those of the variant itself where it is static."""
        return self.source.path.with_name("ranges.json" if static is self.mode else "ranges-looked-at.json")

    def _told(self, best: Try, layers: int) -> list[str]:
        """A sentence on the first and on the chosen graph, and what the samples kept back said."""
        chosen = [self.tries[0]] if best is self.tries[0] else [self.tries[0], best]
        tried = [f"{len(one.left)} of {layers} layers in float: {worth_told(one.answers)}" for one in chosen]
        many = [f"{len(self.tries)} sets of layers were tried"] if len(self.tries) > 1 else []
        return [*tried, *many, *self.told[-1:]]

    def _findings(self, best: Try, answers: Answers | None) -> list[Finding]:
        found = []
        if best.left:
            names = ", ".join(layer.name for layer in best.left[:5])
            more = f" and {len(best.left) - 5} more" if len(best.left) > 5 else ""
            told = f"left in float for accuracy={self.target:g}: {names}{more}"
            found.append(Finding("layers-kept", told, "note"))
        if not (self._reached(best) and self._holds(best)):
            sentence = (
                f"accuracy={self.target:g} is not reached: {worth_told(answers)} is the best of {len(self.tries)} tries"
            )
            found.append(Finding("accuracy-missed", sentence, fix="mode=fp16  # or a lower accuracy"))
        return found


def _squared_drift(one: Try) -> float:
    """The noise that a graph adds to the outputs: an energy, of which each layer has its share."""
    return one.answers.drift**2 if one.answers is not None and one.answers.drift is not None else np.inf


def worth_told(answers: Answers | None) -> str:
    """What answers are worth, in a sentence's part: those that changed, and the share to be expected of others."""
    if answers is None:
        return "it does not run on data"
    if answers.expected is None:
        return str(answers)
    return f"{answers} ({answers.total * (1 - answers.expected):.1f} to be expected)"


def block_noise(path: Path, layers: list[Layer], block: int) -> dict[str, float]:
    """What 4 bits in blocks add to each weight: noise energy over signal energy."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for layer in layers:
        weight = numpy_helper.to_array(weights[layer.weight]).astype(np.float64)
        rows = weight.T if layer.operator == "MatMul" else weight
        padded = np.pad(rows, [(0, 0), (0, -rows.shape[-1] % block)]).reshape(-1, block)
        scale = np.maximum(np.abs(padded).max(axis=1, keepdims=True) / 8, np.finfo(np.float64).tiny)
        error = padded - np.clip(np.round(padded / scale), -8, 7) * scale
        found[layer.weight] = float(np.sum(error**2) / max(float(np.sum(padded**2)), np.finfo(np.float64).tiny))
    return found
