"""`quantize`: a smaller variant of an exported model, proven again."""

from __future__ import annotations

from onnx_magic import options
from onnx_magic.exported import ExportedModel, as_exported


@options.documented
def quantize(
    exported: options.Exported,
    mode: options.Mode = "int8",
    *,
    data: options.Data = None,
    accuracy: options.Accuracy = None,
    samples: options.Samples = 256,
    calibration: options.Calibration = "minmax",
    per_channel: options.PerChannel = None,
    exclude: options.Exclude = None,
    embeddings: options.Embeddings = None,
    block_size: options.BlockSize = 32,
    overwrite: options.Overwrite = False,
) -> ExportedModel:
    """Make a smaller variant beside the exported graph, and hold it against PyTorch again.

    `int8` (dynamic: weights and embeddings), `int8-static` (activations too, measured on `data`), `uint8` (as int8, and
    convolutions), `fp16` (inputs and outputs stay float32), `q4` (weights in blocks of 4 bits), `q4f16` (the rest in
    float16). With `data` the verdict also counts the answers that changed; with `accuracy` the layers that quantising
    hurts most are left in float until that share of answers is the same.

    Returns:
        The variant; `.made` says what was done and what stayed in float. One that fails is kept, and says so.

    Raises:
        UsageError: nothing to quantize, quantized already, data missing or empty, or an option that cannot be meant.
        FeedError: a sample of `data` does not fit the graph.
        StorageError: the folder cannot be written.

    Example:
        >>> small = quantize(exported, "int8", data=texts)  # doctest: +SKIP
        >>> str(small.made.answers)  # doctest: +SKIP
        'label: 3 of 256 changed'
    """
    from onnx_magic.engine.variants.asking import QuantizeRequest, run_quantize
    from onnx_magic.engine.variants.quantizing import Wish
    from onnx_magic.option_values import names_of

    target = as_exported(exported)
    wish = Wish(
        per_channel=per_channel,
        exclude=names_of(exclude),
        embeddings=embeddings,
        calibration=calibration,
        block=block_size,
    )
    request = QuantizeRequest(mode, data, accuracy, samples, wish, overwrite)
    return ExportedModel.of_variant(run_quantize(target.as_parent(), request), target)
