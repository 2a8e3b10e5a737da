"""All of it in one call: what a person has, to arrays, through ONNX Runtime, to an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import FeedError
from onnx_magic.records.results import Array, RunResult
from onnx_magic.runtime.decoding import decode, needs_tokenizer
from onnx_magic.runtime.feeds import fit_feed
from onnx_magic.runtime.samples import arrays_of
from onnx_magic.runtime.tokenizing import Encoded

if TYPE_CHECKING:
    from onnx_magic.records.artifact import GraphFile
    from onnx_magic.runtime.folder import OpenedFolder


@dataclass(frozen=True, eq=False)
class FeedPlan:
    """What will be fed, and what was done to make it fit.

    Args:
        arrays: One array per input of the graph, in its order.
        encoded: Where the tokens came from; `None` when arrays or images were given.
        notes: A sentence for each thing that was done.
    """

    arrays: Mapping[str, Array]
    encoded: Encoded | None = None
    notes: tuple[str, ...] = ()


def answer(opened: OpenedFolder, inputs: Any, *, top_k: int | None = None, provider: str | None = None) -> RunResult:
    """Run the graph on what a person has, and decode the answer.

    Args:
        opened: The folder.
        inputs: A text, a list of texts, a pair `(premise, hypothesis)` or a list of pairs, `{"question", "context"}`,
            `(prompt, [choices])`, an image or its path, or arrays: by name, in order, or a single one.
        top_k: How many answers per sample.
        provider: Execution provider.

    Raises:
        FeedError: the inputs do not fit the graph.
        GraphFileError: ONNX Runtime does not load the graph, or a node of it fails.
    """
    plan = build_feed(opened, inputs)
    session = opened.session(provider)
    started = time.perf_counter()
    outputs = session.run(plan.arrays)
    seconds = time.perf_counter() - started
    return RunResult(
        outputs=outputs,
        decoded=decode_outputs(opened, outputs, plan, top_k),
        provider=session.provider,
        seconds=seconds,
        notes=plan.notes,
        feed=plan.arrays,
    )


def build_feed(opened: OpenedFolder, inputs: Any) -> FeedPlan:
    """The arrays that the graph is fed for `inputs` (see `answer`); the same arrays can be given to PyTorch.

    Of several graphs it is the encoder that is fed, unless arrays for the one that answers are given by name.

    Raises:
        FeedError: the inputs do not fit the graph, or nothing here turns them into arrays.
    """
    _refuse_empty(inputs)
    given, encoded, made = arrays_of(opened, inputs)
    arrays, notes = fit_feed(given, fed_graph(opened, given).inputs)
    return FeedPlan(arrays, encoded, (*made, *notes))


def fed_graph(opened: OpenedFolder, given: Any) -> GraphFile:
    """Which graph takes what was given."""
    names = set(given) if isinstance(given, Mapping) else set()
    reads, answers = ({spec.name for spec in graph.inputs} for graph in (opened.reading, opened.graph))
    return opened.graph if names - reads and names <= answers else opened.reading


def run_feed(opened: OpenedFolder, feed: Mapping[str, Array], provider: str | None = None) -> dict[str, Array]:
    """The outputs by name for arrays that fit, as `build_feed` makes them.

    Raises:
        FeedError: ONNX Runtime refuses an array.
        GraphFileError: ONNX Runtime does not load the graph, or a node of it fails.
    """
    return opened.session(provider).run(feed)


def decode_outputs(
    opened: OpenedFolder, outputs: Mapping[str, Array], plan: FeedPlan, top_k: int | None = None
) -> list[Any] | None:
    """The answer in the task's own terms; `None` where the task has none, or arrays were fed that do not tell it.

    Raises:
        UsageError: `top_k` below 1.
    """
    return decode(
        opened.task,
        outputs,
        plan.arrays,
        plan.encoded,
        opened.labels,
        opened.tokenizer if needs_tokenizer(opened.task) else None,
        top_k,
        opened.problem_type,
        opened.speller if opened.task == "automatic-speech-recognition" else None,
    )


def _refuse_empty(inputs: Any) -> None:
    if inputs is None or (isinstance(inputs, Mapping | Sequence) and not isinstance(inputs, str) and len(inputs) == 0):
        raise FeedError(f"nothing to run: inputs is {inputs!r}", fix="give at least one sample")
