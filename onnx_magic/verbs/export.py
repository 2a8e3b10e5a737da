"""`export`: from a model to a verified ONNX folder."""

from __future__ import annotations

from onnx_magic import options
from onnx_magic.exported import ExportedModel


@options.documented
def export(
    model: options.Model,
    task: options.Task = None,
    *,
    output: options.Output = None,
    opset: options.Opset = None,
    dynamic: options.Dynamic = None,
    inputs: options.Inputs = None,
    exporter: options.Exporter = "auto",
    cache: options.Cache = True,
    merge: options.Merge = True,
    fold: options.Fold = True,
    optimize: options.AlsoOptimize = None,
    quantize: options.AlsoQuantize = None,
    validate: options.Validate = True,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
    overwrite: options.Overwrite = False,
    trust_remote_code: options.TrustRemoteCode = False,
) -> ExportedModel:
    """Turn a model into an ONNX folder that is proven right at shapes it was not traced with.

    A Transformers model brings its own inputs: they come from its tokenizer, processor or config. A plain
    `nn.Module` needs `inputs=`, or the cell form `%%onnx_export model`. Which axes can move is found by running the
    model at other sizes, unless `dynamic` says so.

    With `optimize` and `quantize` its variants are made too (`exported.variants`), the quantized from the optimized.

    Returns:
        The exported model; `bool(exported.validation)` is "verified". A check that fails does not raise: the verdict
        says so first. See `ExportedModel.require_verified`.

    Raises:
        SourceError: the model cannot be had (no such folder, no weights, corrupt weights).
        UsageError: an option cannot be meant (a task that does not fit, a misspelt name).
        InputsError: example inputs are missing, or the model raises on them.
        ExportError: no exporter could convert the model.
        StorageError: the output folder is not ours, not writable, or the disk is full.

    Example:
        >>> exported = export("notebooks/models/sentiment-mini", "sentiment-analysis")  # doctest: +SKIP
        >>> exported.validation.status  # doctest: +SKIP
        'verified'
    """
    from onnx_magic.engine.exporting import ExportRequest, run_export
    from onnx_magic.engine.variants.asking import check_wanted

    wanted = check_wanted(optimize, options.names_of(quantize))
    request = ExportRequest(
        model=model,
        task=task,
        output=output,
        opset=opset,
        dynamic=dynamic,
        inputs=inputs,
        exporter=exporter,
        cache=cache,
        merge=merge,
        fold=fold,
        validate=validate,
        atol=atol,
        rtol=rtol,
        overwrite=overwrite,
        trust_remote_code=trust_remote_code,
    )
    return _with_variants(ExportedModel.of_outcome(run_export(request)), *wanted)


def _with_variants(exported: ExportedModel, level: str | None, modes: tuple[str, ...]) -> ExportedModel:
    """The export, its variants made beside it; a failed export has none. Modes start from the optimized variant."""
    if exported.validation.status == "failed":
        return exported
    base = exported.optimize(level) if level is not None else exported
    base = base if base.validation else exported
    for mode in modes:
        base.quantize(mode)
    return exported
