"""`optimize`: a variant with fewer, larger operators, proven again."""

from __future__ import annotations

from onnx_magic import options
from onnx_magic.exported import ExportedModel, as_exported
from onnx_magic.option_values import names_of


@options.documented
def optimize(
    exported: options.Exported,
    level: options.Level = "fusions",
    *,
    disable: options.Disable = None,
    provider: options.Provider = None,
    overwrite: options.Overwrite = False,
) -> ExportedModel:
    """Make a variant that computes the same with fewer operators, and hold it against PyTorch again.

    `fusions` tries ONNX Runtime's transformer fusions and those of `transformers.exporters`, and takes the way that
    leaves the fewest nodes and still verifies. `basic`, `extended` and `all` are what ONNX Runtime does itself when it
    loads a graph, written down; `all` may fit this kind of machine only, and says so.

    Returns:
        The variant; `.made.steps` says what was tried and taken, `.made.changes` the operators before and after.

    Raises:
        UsageError: a level, fusion or provider that is not there, or a quantized graph to start from.
        StorageError: the folder cannot be written.

    Example:
        >>> optimize(exported).made.changes["model"].rows  # doctest: +SKIP
        (('Add', 56, 26), ...)
    """
    from onnx_magic.engine.variants.optimizing import OptimizeRequest, run_optimize

    target = as_exported(exported)
    request = OptimizeRequest(level, names_of(disable), provider, overwrite)
    return ExportedModel.of_variant(run_optimize(target.as_parent(), request), target)
