"""`run`: what ONNX Runtime answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_magic import options

if TYPE_CHECKING:
    from onnx_magic.records.results import RunResult


@options.documented
def run(
    exported: options.Exported,
    inputs: options.Feed,
    *,
    top_k: options.TopK = None,
    provider: options.Provider = None,
) -> RunResult:
    """Run an exported model with ONNX Runtime and decode the answer.

    `inputs` is what a person has: a text, a list of texts, `(premise, hypothesis)` pairs, `{"question", "context"}`, an
    image or its path; or arrays by name, which pass through untouched but for what the graph needs (int32 → int64,
    list → array, a missing mask): `result.notes` says what was done.

    Returns:
        RunResult: `.outputs` by name, `.decoded` in the task's own terms.

    Raises:
        FeedError: a name, rank or dtype that the graph does not take; before ONNX Runtime sees it.

    Example:
        >>> run("sentiment-mini-onnx", "I loved it").decoded  # doctest: +SKIP
        [{'label': 'POSITIVE', 'score': 0.98}]
    """
    from onnx_magic.exported import as_exported
    from onnx_magic.runtime.running import answer

    return answer(as_exported(exported).opened, inputs, top_k=top_k, provider=provider)
