"""ONNX Runtime in the place of a live model that generates: its forward, and its encoder's, for `swapped_into`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.capturing import arguments_by_name
from onnx_magic.engine.comparing import compare_outputs
from onnx_magic.engine.generation.hosting import answering_of, standing_in
from onnx_magic.engine.nearness import compare_near, rule_of
from onnx_magic.engine.precision import as_narrow, narrow_notes, narrow_tolerances
from onnx_magic.engine.state import heeds_training
from onnx_magic.engine.tensors import to_arrays
from onnx_magic.engine.watching import KEPT_CALLS, ModuleCall
from onnx_magic.errors import OnnxMagicError, SwapError
from onnx_magic.records.results import Array, Comparison

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.swapping import SwappedCall, SwapReport
    from onnx_magic.exported import ExportedModel

_TOKENS = ("input_ids", "decoder_input_ids")


class GeneratorStandIn:
    """The forwards that ONNX Runtime answers, for one model that generates.

    Args:
        exported: The exported model.
        target: The module it stands in for, out of its wrappers.
        report: Told of every call.
        provider: Execution provider.
    """

    inside = False
    """No call of it runs PyTorch."""

    def __init__(
        self, exported: ExportedModel, target: torch.nn.Module, report: SwapReport, provider: str | None = None
    ) -> None:
        self.exported, self.target, self.report = exported, target, report
        opened = exported.opened
        sessions = {role: opened.session(provider, role) for role in opened.graphs}
        self.answering = answering_of(sessions, report.architecture)
        self.signature = inspect.signature(target.forward)
        self.forward = standing_in(target.forward, self._answer)

    def forwards(self) -> Iterator[tuple[torch.nn.Module, Any]]:
        """The modules whose forward is replaced, and with what."""
        yield self.target, self.forward
        if self.answering.encoder is not None:
            model: Any = self.target
            encoder = model.get_encoder()
            yield encoder, standing_in(encoder.forward, self._encode)

    def learn(self, call: ModuleCall) -> None:
        """Nothing is to be learnt: what `generate()` needs of a forward is known."""

    def _answer(self, given: Mapping[str, Any]) -> Any:
        from onnx_magic.engine.swapping import SwappedCall

        self._refuse_training()
        started = time.perf_counter()
        try:
            output = self.answering.forward(given)
        except SwapError:  # what the graph cannot give: the cell is wrong, not the run
            raise
        except OnnxMagicError as error:
            self.report.failures.append(error)
            raise
        seconds = time.perf_counter() - started
        self.report.count += 1
        logits = output[0] if isinstance(output, tuple) else output.logits
        self.report.rows += len(logits)
        if len(self.report.calls) < KEPT_CALLS:
            self.report.calls.append(SwappedCall(_tokens(given), _logits({"logits": logits}), seconds))
        return output

    def _encode(self, given: Mapping[str, Any]) -> Any:
        self._refuse_training()
        return self.answering.encode(given)

    def _refuse_training(self) -> None:
        if heeds_training(self.target):
            raise SwapError(
                f"{self.report.architecture} is in train mode: ONNX Runtime answers as in eval mode", fix="model.eval()"
            )

    def compared(
        self, calls: Sequence[ModuleCall], answered: Sequence[SwappedCall]
    ) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
        """The logits of every step, while both runs feed the same tokens; and a note where they part."""
        exported = self.exported
        rule = rule_of(exported.made)
        found: list[Comparison] = []
        for number, (call, other) in enumerate(zip(calls, answered, strict=False), start=1):
            feed = _tokens(arguments_by_name(self.signature, call.args, call.kwargs))
            if not _same(feed, other.feed):
                note = f"the tokens of the two runs part before step {number}: the logits of {number - 1} are compared"
                return tuple(found), (note, *narrow_notes(exported, found))
            expected = _logits(call.outputs)
            label, task = f"step {number}", exported.task
            actual = as_narrow(other.outputs, expected)
            if rule is not None:
                found.append(compare_near(label, expected, actual, feed, rule, task=task))
                continue
            atol, rtol = narrow_tolerances(expected, exported.validation)
            found.append(compare_outputs(label, expected, actual, feed, task=task, atol=atol, rtol=rtol))
        return tuple(found), narrow_notes(exported, found)


def _tokens(given: Mapping[str, Any]) -> dict[str, Array]:
    """The tokens of one call."""
    found = next((given[name] for name in reversed(_TOKENS) if given.get(name) is not None), None)
    return {} if found is None else to_arrays({"input_ids": found})


def _logits(outputs: Mapping[str, Any]) -> dict[str, Array]:
    """A copy of the logits after the last token: all that generating reads."""
    logits = outputs.get("logits")
    return {} if logits is None else {"logits": np.array(to_arrays({"logits": logits[:, -1:]})["logits"])}


def _same(feed: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return feed.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in feed.items())
