"""How a text is to be generated: generation_config.json, config.json and what the person asks for, as one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import UsageError
from onnx_magic.runtime.tokenizing import read_json

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

MAX_NEW_TOKENS = 256
"""What Transformers' text-generation pipeline takes where nothing says how long a text may grow."""

TOP_K = 50
"""What Transformers samples from where nothing says it."""

PLAIN = frozenset(
    {
        *("max_new_tokens", "max_length", "min_new_tokens", "min_length", "do_sample", "temperature", "top_k", "top_p"),
        *("repetition_penalty", "eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id"),
        *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "stop_strings"),
    }
)
"""Options that the plain loop (generating.py) follows; all others need Transformers."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "num_beam_groups": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "diversity_penalty": (0.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "guidance_scale": (1.0,),
    "prefill_chunk_size": (0,),
}
"""Options of Transformers that change nothing at these values, beside None, False and empty ones."""

SILENT = frozenset(
    {
        *("transformers_version", "_from_model_config", "use_cache", "cache_implementation", "trust_remote_code"),
        *("length_penalty", "early_stopping", "max_matching_ngram_size", "num_assistant_tokens"),
        *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind"),
        *("target_lookbehind", "disable_compile", "is_assistant", "max_time_schedule"),
    }
)
"""Keys of generation_config.json that mean nothing to one row of tokens without beams."""


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate; ids are those of the model's vocabulary.

    Args:
        max_new_tokens: At most so many tokens per row.
        min_new_tokens: No end before so many.
        sample: Draw tokens at random; else the likeliest one each time.
        temperature: Logits are divided by it; below 1 for likelier tokens.
        top_k: Draw from so many of the likeliest; 0 for all.
        top_p: Draw from the likeliest whose probabilities reach it.
        repetition_penalty: Above 1 makes tokens that stand there already less likely.
        eos: Tokens that end a row.
        pad: What stands behind the end of a row, and before a shorter prompt.
        start: An encoder-decoder's first token.
        forced_bos: The token behind `start`.
        forced_eos: The tokens of which the first is the last one of a row that was cut.
        suppress: Tokens that never come.
        begin_suppress: Tokens that do not come first.
        stop: Texts that end a row.
        seed: Of the random numbers.
        others: What the plain loop does not know, by Transformers' names.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    min_new_tokens: int = 0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = TOP_K
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    eos: tuple[int, ...] = ()
    pad: int = 0
    start: int | None = None
    forced_bos: int | None = None
    forced_eos: tuple[int, ...] = ()
    suppress: tuple[int, ...] = ()
    begin_suppress: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    seed: int | None = None
    others: tuple[str, ...] = ()

    def longest(self, tokens: int) -> GenerationSettings:
        """These settings, for at most so many tokens."""
        return replace(self, max_new_tokens=min(self.max_new_tokens, tokens))


def settings_of(opened: OpenedFolder, asked: Mapping[str, Any]) -> GenerationSettings:
    """What the folder says, overruled by what was asked for.

    Args:
        asked: Options by Transformers' names; `seed` too. None means not asked for.

    Raises:
        UsageError: a value that cannot be meant (max_new_tokens 0, a temperature below 0).

    Example:
        >>> settings_of(opened, {"max_new_tokens": 8}).max_new_tokens  # doctest: +SKIP
        8
    """
    given = {name: value for name, value in asked.items() if value is not None}
    check_asked(given)
    told = {**_of_config(opened.config), **read_generation_config(opened.folder)}
    if {"max_new_tokens", "max_length"} & set(given):
        told = {name: value for name, value in told.items() if name not in ("max_new_tokens", "max_length")}
    seed = given.pop("seed", None)
    every = {**told, **given}
    eos = _ids(every.get("eos_token_id"))
    pad = _ids(every.get("pad_token_id"))
    temperature = float(_or(every.get("temperature"), 1.0))
    return GenerationSettings(
        max_new_tokens=int(_or(every.get("max_new_tokens"), _or(every.get("max_length"), MAX_NEW_TOKENS))),
        min_new_tokens=int(_or(every.get("min_new_tokens"), 0)),
        sample=bool(every.get("do_sample")) and temperature > 0,
        temperature=temperature,
        top_k=int(_or(every.get("top_k"), TOP_K)),
        top_p=float(_or(every.get("top_p"), 1.0)),
        repetition_penalty=float(_or(every.get("repetition_penalty"), 1.0)),
        eos=eos,
        pad=(*pad, *eos, 0)[0],
        start=(*_ids(every.get("decoder_start_token_id")), *_ids(every.get("bos_token_id")), None)[0],
        forced_bos=(*_ids(every.get("forced_bos_token_id")), None)[0],
        forced_eos=_ids(every.get("forced_eos_token_id")),
        suppress=_ids(every.get("suppress_tokens")),
        begin_suppress=_ids(every.get("begin_suppress_tokens")),
        stop=_texts(every.get("stop_strings")),
        seed=seed,
        others=_beyond(every),
    )


def read_generation_config(folder: Path) -> dict[str, Any]:
    """generation_config.json without its nulls; `{}` where there is none.

    Raises:
        GraphFileError: the file is not a JSON object.
    """
    return {name: value for name, value in read_json(folder / "generation_config.json").items() if value is not None}


def check_asked(given: Mapping[str, Any]) -> None:
    """Raise a UsageError for a value that cannot be meant."""
    for name, (low, expected, instead) in _LIMITS.items():
        value = given.get(name)
        if value is not None and not value >= low:
            raise UsageError(f"{name} is {value}: expected {expected}", fix=f"{name}={instead}")
    if given.get("top_p") is not None and given["top_p"] > 1:
        raise UsageError(f"top_p is {given['top_p']}: expected a probability, 0 to 1", fix="top_p=0.9")
    least, most = given.get("min_new_tokens"), given.get("max_new_tokens")
    if least is not None and most is not None and least > most:
        raise UsageError(f"min_new_tokens is {least}, above max_new_tokens {most}", fix=f"min_new_tokens={most}")


_LIMITS: Mapping[str, tuple[float, str, str]] = {
    "max_new_tokens": (1, "1 or more new tokens", "40"),
    "max_length": (1, "1 or more tokens", "40"),
    "min_new_tokens": (0, "0 or more", "1"),
    "temperature": (0, "0 (the likeliest token) or above", "0.7"),
    "top_k": (0, "0 (all tokens) or above", "50"),
    "top_p": (0, "a probability, 0 to 1", "0.9"),
    "num_beams": (1, "1 or more", "4"),
    "num_return_sequences": (1, "1 or more", "1"),
}
"""Option → its lowest value, what was expected, and what to write instead."""


def _of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of tokens; in models that see or hear, its text part says it."""
    parts = (config, config.get("text_config") or {}, config.get("decoder") or {})
    names = [name for name in PLAIN if name.endswith("token_id")]
    found: dict[str, Any] = {}
    for part in reversed(parts):
        if isinstance(part, Mapping):
            found |= {name: part[name] for name in names if part.get(name) is not None}
    return found


def _beyond(every: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that change something, and that the plain loop does not know."""
    return tuple(
        name
        for name, value in every.items()
        if name not in PLAIN
        and name not in SILENT
        and value not in (None, False, [], {}, ())
        and value not in NEUTRAL.get(name, ())
    )


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(int(item) for item in value) if isinstance(value, list | tuple) else (int(value),)


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
