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
    max_new_tokens: options.MaxNewTokens = None,
    min_new_tokens: options.MinNewTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    stop: options.Stop = None,
    num_beams: options.NumBeams = None,
    repetition_penalty: options.RepetitionPenalty = None,
    full_text: options.FullText = True,
) -> RunResult:
    """Run an exported model with ONNX Runtime and decode the answer.

    `inputs` is what a person has: a text, a list of texts, `(premise, hypothesis)` pairs, `{"question", "context"}`, an
    image or its path; or arrays by name, which pass through untouched but for what the graph needs (int32 → int64,
    list → array, a missing mask): `result.notes` says what was done.

    A model that generates goes on with a text, a list of texts (of any length) or a chat's messages
    `[{"role": "user", "content": "Hello"}]`; `generation_config.json` is followed where an option is not given. Each
    piece of text is shown while it comes. Other options of Transformers are `exported.generate`'s.

    Returns:
        RunResult: `.outputs` by name, `.decoded` in the task's own terms.

    Raises:
        FeedError: a name, rank or dtype that the graph does not take; before ONNX Runtime sees it. A prompt that is
            empty or longer than the model's positions.
        UsageError: a generation option that cannot be meant, or for a model that does not generate.

    Example:
        >>> run("sentiment-mini-onnx", "I loved it").decoded  # doctest: +SKIP
        [{'label': 'POSITIVE', 'score': 0.98}]
        >>> run("gpt2-onnx", "Once upon a time", max_new_tokens=6).decoded  # doctest: +SKIP
        [{'generated_text': 'Once upon a time, the world was a'}]
    """
    from onnx_magic.engine.generation.asking import answered
    from onnx_magic.exported import as_exported

    asked = {
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": stop,
        "num_beams": num_beams,
        "repetition_penalty": repetition_penalty,
    }
    target = as_exported(exported)
    live = target.source.model if target.source else None
    return answered(target.opened, inputs, asked, top_k=top_k, full_text=full_text, provider=provider, live=live)
