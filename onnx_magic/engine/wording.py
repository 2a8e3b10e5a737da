"""What a task says to a model that does several: a prefix of the text, a token of the language, a forced first token.

`task=translation_en_to_fr` means another thing for each kind of model. A row of `CONVENTIONS` for each, recognised by
what the config or the tokenizer holds; none of them asks for an architecture.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.sources.source import Wording
from onnx_magic.engine.tasks import language_pair
from onnx_magic.errors import TaskMismatchError

if TYPE_CHECKING:
    from onnx_magic.engine.sources import ModelSource

SHOWN = 6
"""How many languages an error names."""

_NLLB = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


@dataclass(frozen=True)
class Convention:
    """How a kind of models is told what to do.

    Args:
        name: For people.
        applies: Whether a source is of this kind.
        word: The source with its wording for a pair of languages.
    """

    name: str
    applies: Callable[[ModelSource], bool]
    word: Callable[[ModelSource, str, str], ModelSource]


def worded(source: ModelSource, asked: str | None) -> ModelSource:
    """The source with what its task says to the model; the same one where the task has nothing to say.

    A tokenizer that has a source language is copied, and the copy set to it: the caller's own stays as it is.

    Args:
        asked: The task's name as the user gave it: `translation_en_to_fr`; `None`: the model's own.

    Raises:
        TaskMismatchError: the model does not know that pair of languages; names those that it knows.
    """
    pair = language_pair(asked or "")
    if source.task == "translation":
        pair = pair or _only_pair(source)
        if pair is None:
            return source
        row = next(row for row in CONVENTIONS if row.applies(source))
        return row.word(source, *pair)
    prefix = _task_params(source).get(source.task or "", {}).get("prefix")
    return dataclasses.replace(source, wording=Wording(str(prefix))) if prefix else source


def _task_params(source: ModelSource) -> Mapping[str, Any]:
    """`task_specific_params` of the config: `{"translation_en_to_fr": {"prefix": ...}}`."""
    params = getattr(source.config, "task_specific_params", None) or {}
    return {name: values for name, values in params.items() if isinstance(values, Mapping)}


def _prefix_pairs(source: ModelSource) -> dict[tuple[str, str], str]:
    pairs = ((language_pair(name), values) for name, values in _task_params(source).items())
    return {pair: str(values.get("prefix") or "") for pair, values in pairs if pair is not None}


def _only_pair(source: ModelSource) -> tuple[str, str] | None:
    """The one pair that a model's config names."""
    pairs = list(_prefix_pairs(source))
    return pairs[0] if len(pairs) == 1 else None


def _by_prefix(source: ModelSource, first: str, second: str) -> ModelSource:
    pairs = _prefix_pairs(source)
    found = next((pair for pair in pairs if _same(pair, (first, second))), None)
    if found is None:
        raise _unknown(
            source, first, second, [f"{a} to {b}" for a, b in pairs], f"translation_{'_to_'.join(next(iter(pairs)))}"
        )
    return dataclasses.replace(source, wording=Wording(pairs[found], languages=found))


def language_ids(tokenizer: Any) -> dict[str, int]:
    """The languages that a tokenizer has tokens for, and their ids: `{"fr_XX": 250008}`."""
    ids = getattr(tokenizer, "lang_code_to_id", None)
    if isinstance(ids, Mapping) and ids:
        return {str(code): int(number) for code, number in ids.items()}
    tokens = getattr(tokenizer, "lang_code_to_token", None)
    if isinstance(tokens, Mapping) and tokens:
        return {str(code): int(tokenizer.convert_tokens_to_ids(token)) for code, token in tokens.items()}
    added = tokenizer.get_added_vocab() if hasattr(tokenizer, "get_added_vocab") else {}
    return {token: int(number) for token, number in added.items() if _NLLB.fullmatch(token)}


def _by_token(source: ModelSource, first: str, second: str) -> ModelSource:
    known = language_ids(source.tokenizer)
    codes = [_code(language, known) for language in (first, second)]
    if None in codes:
        has = sorted(known)
        other = next((code for code in has if code != codes[0]), has[0])
        raise _unknown(source, first, second, has, f"translation_{codes[0] or has[0]}_to_{other}")
    tokenizer = copy.deepcopy(source.tokenizer)
    tokenizer.src_lang, tokenizer.tgt_lang = codes
    wording = Wording("", {"forced_bos_token_id": known[str(codes[1])]}, (str(codes[0]), str(codes[1])))
    return dataclasses.replace(source, tokenizer=tokenizer, wording=wording)


def _by_target(source: ModelSource, first: str, second: str) -> ModelSource:
    """A token of the target language before the text: `>>fra<<`."""
    tokens = [str(token) for token in source.tokenizer.supported_language_codes]
    names = {token.strip("<>"): token for token in tokens}
    code = _code(second, names)
    if code is None:
        raise _unknown(source, first, second, sorted(names), f"translation_{first}_to_{sorted(names)[0]}")
    return dataclasses.replace(source, wording=Wording(f"{names[code]} ", languages=(first, code)))


def _one_pair(source: ModelSource, first: str, second: str) -> ModelSource:
    stated = tuple(str(getattr(source.tokenizer, f"{side}_lang")) for side in ("source", "target"))
    if not _same((stated[0], stated[1]), (first, second)):
        raise _unknown(source, first, second, [" to ".join(stated)], f"translation_{'_to_'.join(stated)}")
    return dataclasses.replace(source, wording=Wording("", languages=(first, second)))


def _nothing_to_say(source: ModelSource, first: str, second: str) -> ModelSource:
    return dataclasses.replace(source, wording=Wording("", languages=(first, second)))


def _has(name: str) -> Callable[[ModelSource], bool]:
    return lambda source: bool(getattr(source.tokenizer, name, None))


CONVENTIONS = (
    Convention("a prefix of the config (T5)", lambda source: bool(_prefix_pairs(source)), _by_prefix),
    Convention(
        "a source language of the tokenizer, a forced first token (mBART, M2M100, NLLB)",
        lambda source: hasattr(source.tokenizer, "src_lang") and bool(language_ids(source.tokenizer)),
        _by_token,
    ),
    Convention(
        "a token of the target language (Marian, several targets)", _has("supported_language_codes"), _by_target
    ),
    Convention("one pair of languages (Marian)", _has("source_lang"), _one_pair),
    Convention("nothing that names a language", lambda source: True, _nothing_to_say),
)
"""The first that applies is taken."""


def _code(language: str, known: Mapping[str, Any]) -> str | None:
    """A model's own code for a language: `fr` is `fr_XX` where that is what it has."""
    exact = (code for code in known if code.lower() == language.lower())
    begins = [code for code in known if code.lower().partition("_")[0] == language.lower()]
    return next(exact, None) or (begins[0] if len(begins) == 1 else None)


def _same(one: tuple[str, str], two: tuple[str, str]) -> bool:
    return tuple(map(str.lower, one)) == tuple(map(str.lower, two))


def _unknown(source: ModelSource, first: str, second: str, has: list[str], fix: str) -> TaskMismatchError:
    shown = ", ".join(_some(has))
    return TaskMismatchError(
        f"task 'translation_{first}_to_{second}' does not fit {source.name}: it translates {shown}",
        fix=f"task={fix}",
        stage="source",
    )


def _some(names: list[str]) -> Iterator[str]:
    yield from names[:SHOWN]
    if len(names) > SHOWN:
        yield f"and {len(names) - SHOWN} more"
