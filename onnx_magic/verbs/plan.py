"""`plan`: what an export would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_magic import options

if TYPE_CHECKING:
    from onnx_magic.records.plan import ExportPlan


@options.documented
def plan(
    model: options.Model,
    task: options.Task = None,
    *,
    opset: options.Opset = None,
    dynamic: options.Dynamic = None,
    inputs: options.Inputs = None,
    exporter: options.Exporter = "auto",
    cache: options.Cache = True,
    merge: options.Merge = True,
    trust_remote_code: options.TrustRemoteCode = False,
) -> ExportPlan:
    """Decide all that an export decides before tracing: task, example inputs, dynamic axes, opset, exporter.

    Raises:
        The same as `export`, up to tracing.

    Example:
        >>> plan("notebooks/models/sentiment-mini").dynamic["input_ids"]  # doctest: +SKIP
        {0: 'batch_size', 1: 'sequence_length'}
    """
    from onnx_magic.engine.exporting import ExportRequest, make_plan

    request = ExportRequest(
        model=model,
        task=task,
        opset=opset,
        dynamic=dynamic,
        inputs=inputs,
        exporter=exporter,
        cache=cache,
        merge=merge,
        trust_remote_code=trust_remote_code,
    )
    return make_plan(request)
