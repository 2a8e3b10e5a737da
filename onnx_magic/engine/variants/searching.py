"""`accuracy=`: which layers quantising hurts most, and how few of them must stay in float until the answers agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.adapters import ort_tools
from onnx_magic.engine.variants.layers import Layer
from onnx_magic.engine.variants.making import Making
from onnx_magic.engine.variants.modes import MODES, Mode
from onnx_magic.engine.variants.quantizing import Source, Wish, quantize_graph
from onnx_magic.events import Progress, emit, stage
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.variants import Answers

Array: TypeAlias = np.ndarray[Any, Any]

LOOKED_AT = 4
"""Feeds of data on which the noise is measured: all activations for them are held in memory at once."""


MOST_BACK = 12
"""Layers that are tried one by one to be quantised after all, the largest first."""


@dataclass(frozen=True, eq=False)
class Try:
    """One graph that was tried: which layers stayed in float, and what its answers are worth."""

    left: tuple[Layer, ...]
    graph: GraphFile
    answers: Answers | None

    @property
    def rate(self) -> float:
        """The share of answers that are the same; 0 when it did not run."""
        return self.answers.rate if self.answers is not None else 0.0


@dataclass(eq=False)
class Search:
    """How few layers must stay in float. `run()` leaves `source.kept` as it is to be recorded.

    The layers are ranked by ONNX Runtime's debugger. How many of the worst must stay is found by doubling, then by
    halving the gap; of those, the large ones are then quantised again one by one where the answers allow it.

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

    def run(self) -> tuple[GraphFile, Answers | None, tuple[str, ...], tuple[Finding, ...]]:
        """The staged graph, what its answers are worth, what was tried, and what was found."""
        own = dict(self.source.kept)
        loose = [layer for layer in self.source.layers if layer.node not in own]
        with stage("search") as row:
            best = self._try((), own)
            if best.rate < self.target:
                best = self._put_back(self._fewest(self._ranked(loose), own), own)
            row.detail = f"{len(best.left)} of {len(loose)} layers left in float"
        self.source.kept = dict(own)
        self.source.leave(best.left, "worst", self.noise)
        graph = self.made.place.keep(self.source.role, best.graph)
        return graph, best.answers, tuple(self._told(len(loose))), tuple(self._findings(best))

    def _fewest(self, ranked: list[Layer], own: Mapping[str, Any]) -> Try:
        """The fewest of the worst that reach the target; where none do, the best that was tried."""
        most = len(ranked) - 1  # with none left to quantise there is no variant
        low, high, reached = 0, min(1, most), None
        while high > low:
            one = self._try(tuple(ranked[:high]), own)
            if one.rate >= self.target:
                reached = one
                break
            low, high = high, min(high * 2, most)
        if reached is None:
            return max(self.tries, key=lambda one: (one.rate, -len(one.left)))
        while high - low > 1:
            middle = (low + high) // 2
            one = self._try(tuple(ranked[:middle]), own)
            low, high, reached = (low, middle, one) if one.rate >= self.target else (middle, high, reached)
        return reached

    def _put_back(self, best: Try, own: Mapping[str, Any]) -> Try:
        """Quantise the large layers of those after all, one by one, as long as the target is reached."""
        if best.rate < self.target:
            return best
        for layer in sorted(best.left, key=lambda layer: -layer.elements)[:MOST_BACK]:
            fewer = tuple(other for other in best.left if other is not layer)
            one = self._try(fewer, own)
            best = one if one.rate >= self.target else best
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
        self.tries.append(Try(left, graph, self.made.answers(graph.path, self.mode.tolerance, "data")))
        return self.tries[-1]

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
        return ort_tools.layer_noise(self.source.path, quantized, feeds, self.source.path.parent)

    def _cache(self, static: Mode) -> Path:
        """Where the ranges lie: those of the variant itself where it is static."""
        return self.source.path.with_name("ranges.json" if static is self.mode else "ranges-looked-at.json")

    def _told(self, layers: int) -> list[str]:
        """A sentence on each graph that was tried."""
        return [
            f"{len(one.left)} of {layers} layers in float: {one.answers or 'it does not run on data'}"
            for one in self.tries
        ]

    def _findings(self, best: Try) -> list[Finding]:
        found = []
        if best.left:
            names = ", ".join(layer.name for layer in best.left[:5])
            more = f" and {len(best.left) - 5} more" if len(best.left) > 5 else ""
            told = f"left in float for accuracy={self.target:g}: {names}{more}"
            found.append(Finding("layers-kept", told, "note"))
        if best.rate < self.target:
            sentence = (
                f"accuracy={self.target:g} is not reached: {best.rate:.4g} is the best of {len(self.tries)} tries"
            )
            found.append(Finding("accuracy-missed", sentence, fix="mode=fp16  # or a lower accuracy"))
        return found


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
