"""`compare`: the exported model against PyTorch, on inputs of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_magic import options

if TYPE_CHECKING:
    from onnx_magic.records.results import Comparison


@options.documented
def compare(
    exported: options.Exported,
    inputs: options.Feed,
    *,
    against: options.Against = None,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
) -> Comparison:
    """Compare ONNX Runtime's outputs with PyTorch's on the same inputs, in numbers and in meaning.

    Of an encoder-decoder its encoder's states are compared, and the logits of eight tokens that PyTorch writes.
    A quantised variant is judged by the rule of its own verdict (cosine, drift, answers), unless a tolerance is given.

    Args:
        against: A model or another ExportedModel; by default the live source, else the one the manifest names, if its
            weights are still the same.

    Raises:
        UsageError: there is no source any more and `against` was not given.
        VerificationError: the source's weights have changed since the export.

    Example:
        >>> bool(compare(exported, "I loved it"))  # doctest: +SKIP
        True
    """
    from onnx_magic.engine.comparing import compare_outputs, tolerances
    from onnx_magic.engine.generation.facing import compare_walk
    from onnx_magic.engine.nearness import compare_near, rule_of
    from onnx_magic.engine.reference import reference_model, run_reference
    from onnx_magic.exported import ExportedModel, as_exported
    from onnx_magic.runtime.running import build_feed, fed_graph, run_feed

    target = as_exported(exported)
    feed = build_feed(target.opened, inputs).arrays
    if fed_graph(target.opened, feed) is not target.opened.graph:
        other = against.opened if isinstance(against, ExportedModel) else None
        return compare_walk(
            target.opened, feed, target.live, None if other else against, other=other, atol=atol, rtol=rtol
        )
    if isinstance(against, ExportedModel):
        expected = run_feed(against.opened, feed)
    else:
        expected = run_reference(reference_model(target.opened, target.live, against), feed)
    actual = run_feed(target.opened, feed)
    rule = rule_of(target.made) if atol is None and rtol is None else None
    if rule is not None:
        return compare_near("given", expected, actual, feed, rule, task=target.task, closeup=True)
    at, rt = tolerances(atol, rtol)
    return compare_outputs("given", expected, actual, feed, task=target.task, atol=at, rtol=rt, closeup=True)
