"""`generate`: tokens from ONNX Runtime, with any option of Transformers' `generate()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_magic.exported import ExportedModel


def generate(
    exported: ExportedModel, inputs: Any = None, *, provider: str | None = None, seed: int | None = None, **options: Any
) -> Any:
    """Generate tokens on ONNX Runtime: greedy, sampling, beam search, stop strings, and all else that Transformers has.

    The model's own `generate()` runs, its forward answered by ONNX Runtime; the KV cache stays there. Without torch and
    Transformers greedy search and sampling are there all the same, and the tokens come as a NumPy array.

    Args:
        exported: The exported model, its folder, or its .onnx file.
        inputs: int64[batch_size, sequence_length], as `model.generate(inputs)` takes it; mostly left to `input_ids`.
        provider: Execution provider; the CPU when not given.
        seed: Draw with this seed; the random states of the process stay as they are.
        options: `input_ids`, `attention_mask`, `input_features`, ... as torch tensors, arrays or lists; and every
            option of GenerationMixin (`max_new_tokens`, `num_beams`, `do_sample`, `stop_strings`, ...).

    Returns:
        int64[batch_size, tokens], prompt included; what Transformers returns for `return_dict_in_generate=True`.

    Raises:
        UsageError: an option that the model does not have, or a value that cannot be meant.
        FeedError: a prompt that is longer than the model's positions, or a past of a wrong shape.
        SwapError: something is asked for that the graph cannot give (attentions, a static cache).

    Example:
        >>> tokens = exported.generate(**tokenizer("Once", return_tensors="pt"), num_beams=4)  # doctest: +SKIP
    """
    from onnx_magic.engine.generation.asking_tokens import tokens_of
    from onnx_magic.exported import as_exported

    target = as_exported(exported)
    given = {name: value.opened if isinstance(value, type(target)) else value for name, value in options.items()}
    live = target.source.model if target.source else None
    return tokens_of(target.opened, inputs, given, provider=provider, seed=seed, live=live)
