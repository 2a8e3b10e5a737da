"""An encoder-decoder beside PyTorch on inputs of the user's own: the encoder's states, and the first tokens' logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.comparing import compare_outputs, tolerances
from onnx_magic.engine.generation.walking import Feed, walk
from onnx_magic.engine.nearness import compare_near, rule_of
from onnx_magic.engine.reference import reference_sides, run_reference
from onnx_magic.errors import UsageError

if TYPE_CHECKING:
    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.records.results import Comparison
    from onnx_magic.runtime.folder import OpenedFolder

LOGITS = "logits"


def compare_walk(
    opened: OpenedFolder,
    feed: Feed,
    live: FlatModel | None,
    against: Any = None,
    *,
    other: OpenedFolder | None = None,
    atol: float | None = None,
    rtol: float | None = None,
) -> Comparison:
    """Compare the encoder, and each greedy step of the decoder; both sides are fed what PyTorch's side gave.

    Args:
        opened: An exported encoder-decoder, or a variant of one.
        feed: The encoder's inputs.
        live: The model that was exported, while it is held.
        against: A model or checkpoint that the user hands over.
        other: Another export, which is what is expected in PyTorch's place.
        atol: Absolute tolerance; by default that of an export's verdict, or a variant's own rule.
        rtol: Relative tolerance.

    Raises:
        UsageError: no PyTorch side is left and none was given.
        VerificationError: its weights are not those that were exported.
    """
    expect = _expected(opened, live, against, other)
    pairs: list[tuple[Feed, Feed, Feed]] = [
        (given, expected, opened.session(role=role).run(given)) for role, given, expected in walk(opened, feed, expect)
    ]
    _, states, found = pairs[0]
    logits = [np.concatenate([pair[side][LOGITS][:, -1:] for pair in pairs[1:]], axis=1) for side in (1, 2)]
    rule = rule_of(opened.report.made) if atol is None and rtol is None else None
    at, rt = tolerances(atol, rtol)

    def compared(expected: Feed, actual: Feed, fed: Feed, task: str | None) -> Comparison:
        if rule is not None:
            return compare_near("given", expected, actual, fed, rule, task=task, closeup=True)
        return compare_outputs("given", expected, actual, fed, task=task, atol=at, rtol=rt, closeup=True)

    first = compared(states, found, feed, None)
    rest = compared({LOGITS: logits[0]}, {LOGITS: logits[1]}, {}, "text-generation")
    return dataclasses.replace(first, diffs=(*first.diffs, *rest.diffs), agreement=rest.agreement)


def _expected(
    opened: OpenedFolder, live: FlatModel | None, against: Any, other: OpenedFolder | None
) -> Callable[[str, Feed], Feed]:
    if other is not None:
        return lambda role, given: other.session(role=role).run(given)
    sides = reference_sides(opened, live, against)
    if not sides:
        raise UsageError(f"PyTorch's model is no encoder-decoder, as {opened.name} is", fix="against=model")
    return lambda role, given: run_reference(sides[role], given)
