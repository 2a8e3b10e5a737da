"""`generate`: tokens from ONNX Runtime, with any option of Transformers' `generate()`."""

from __future__ import annotations

from typing import Any

from onnx_magic import options


@options.documented
def generate(
    exported: options.Exported,
    inputs: options.Feed = None,
    *,
    provider: options.Provider = None,
    seed: options.Seed = None,
    **given: Any,
) -> Any:
    """Generate tokens on ONNX Runtime: greedy, sampling, beam search, stop strings, and all else that Transformers has.

    The model's own `generate()` runs, its forward answered by ONNX Runtime; the KV cache stays there. Without torch and
    Transformers greedy search and sampling are there all the same, and the tokens come as a NumPy array.

    Args:
        inputs: int64[batch_size, sequence_length], as `model.generate(inputs)` takes it; mostly left to `input_ids`.
        given: `input_ids`, `attention_mask`, `input_features`, ... as torch tensors, arrays or lists; and every
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
    known = {name: value.opened if isinstance(value, type(target)) else value for name, value in given.items()}
    live = target.source.model if target.source else None
    return tokens_of(target.opened, inputs, known, provider=provider, seed=seed, live=live)
