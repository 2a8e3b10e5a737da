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


@dataclass(eq=False)
class Search:
    """How few layers must stay in float. `run()` leaves `source.kept` as it is to be recorded.

    How few is found by doubling, then by halving the gap: a dozen tries for a hundred layers.

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
    ranked: list[Layer] = field(default_factory=list)
    noise: Mapping[str, float] = field(default_factory=dict)
    tries: dict[int, tuple[GraphFile, Answers | None]] = field(default_factory=dict)

    def run(self) -> tuple[GraphFile, Answers | None, tuple[str, ...], tuple[Finding, ...]]:
        """The staged graph, what its answers are worth, what was tried, and what was found."""
        own = dict(self.source.kept)
        loose = [layer for layer in self.source.layers if layer.node not in own]
        with stage("search") as row:
            count = 0
            if not self._reached(0, own):
                self._rank(loose)
                count = self._fewest(own)
            row.detail = f"{count} of {len(loose)} layers left in float"
        graph, answers = self.tries[count]
        self.source.kept = dict(own)
        self.source.leave(self.ranked[:count], "worst", self.noise)
        graph = self.made.place.keep(self.source.role, graph)
        return graph, answers, tuple(self._told(len(loose))), tuple(self._findings(answers))

    def _fewest(self, own: Mapping[str, Any]) -> int:
        """The smallest count that reaches the target; where none does, the best of those tried."""
        most = len(self.ranked) - 1  # with none left to quantise there is no variant
        low, high = 0, 1
        while high <= most and not self._reached(high, own):
            low, high = high, min(high * 2, most) if high < most else most + 1
        if high > most:
            return max(self.tries, key=lambda count: (self._rate(count), -count))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._reached(middle, own) else (middle, high)
        return high

    def _reached(self, count: int, own: Mapping[str, Any]) -> bool:
        """Whether the target is reached with so many layers in float."""
        if count not in self.tries:
            emit(Progress("search", len(self.tries), len(self.tries) + 1))
            self.source.kept = dict(own)
            self.source.leave(self.ranked[:count], "worst", self.noise)
            target = self.source.path.with_name(f"without-{count}.onnx")
            model = quantize_graph(self.source, self.mode, self.wish, target, self.made.feeds)
            graph = self.made.place.write(self.source.role, model, ahead=count)
            self.tries[count] = graph, self.made.answers(graph.path, self.mode.tolerance, "data")
        return self._rate(count) >= self.target

    def _rate(self, count: int) -> float:
        answers = self.tries[count][1]
        return answers.rate if answers is not None else 0.0

    def _rank(self, loose: list[Layer]) -> None:
        """The layers, the worst first, by what quantising adds to their weights and to what they are fed."""
        tensors = self._tensor_noise(loose)
        noise = {}
        for layer in loose:
            parts = {layer.weight, *layer.inputs} & set(tensors)
            noise[layer.node] = sum(tensors[name] for name in parts)
        self.noise = noise
        self.ranked = sorted(loose, key=lambda layer: -noise[layer.node])

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
            self.source.path, quantized, feeds, method=ranges, per_channel=self.wish.per_channel is not False,
            operators=[name for name in self.source.operators if name in static.operators],
            exclude=self.source.excluded, external=self.source.external, cache=self._cache(static),
        )  # fmt: skip
        return ort_tools.layer_noise(self.source.path, quantized, feeds, self.source.path.parent)

    def _cache(self, static: Mode) -> Path:
        """Where the ranges lie: those of the variant itself where it is static."""
        return self.source.path.with_name("ranges.json" if static is self.mode else "ranges-looked-at.json")

    def _told(self, layers: int) -> list[str]:
        return [
            f"{count} of {layers} layers in float: {answers if answers is not None else 'does not run on data'}"
            for count, (_, answers) in sorted(self.tries.items())
        ]

    def _findings(self, answers: Answers | None) -> list[Finding]:
        kept = [layer for layer in self.source.kept.values() if layer.reason == "worst"]
        found = []
        if kept:
            names = ", ".join(layer.name for layer in kept[:5]) + (
                f" and {len(kept) - 5} more" if len(kept) > 5 else ""
            )
            found.append(Finding("layers-kept", f"left in float to reach accuracy={self.target:g}: {names}", "note"))
        if answers is None or answers.rate < self.target:
            rate = f"{answers.rate:.4g}" if answers is not None else "nothing"
            sentence = f"accuracy={self.target:g} is not reached: {rate} is the best of {len(self.tries)} tries"
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
