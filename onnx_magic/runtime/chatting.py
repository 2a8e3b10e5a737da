"""Messages to a prompt: the chat template that lies beside the tokenizer, run in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from onnx_magic.errors import FeedError, UsageError
from onnx_magic.runtime.tokenizing import read_json

_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def is_chat(value: Any) -> bool:
    """Whether it is a list of messages: `[{"role": "user", "content": "Hello"}]`."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_message, value))


def chat_prompt(folder: Path, messages: Sequence[Mapping[str, Any]]) -> str:
    """The text that a chat model is given for these messages, its answer still to come.

    The template is untrusted input: it runs in jinja2's sandbox.

    Raises:
        FeedError: the folder has no chat template, or the template refuses the messages.
        UsageError: jinja2 is not installed.
    """
    config = {**read_json(folder / "special_tokens_map.json"), **read_json(folder / "tokenizer_config.json")}
    source = chat_template(folder, config)
    if source is None:
        raise FeedError(
            f"{folder} has no chat template for messages: this model goes on with a text",
            fix=f"exported.run({str(messages[-1]['content'])!r})",
        )
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise UsageError("messages need jinja2, which is not installed", fix="pip install jinja2") from error
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _as_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    tokens = {name: text for name in _TOKENS if (text := _text(config.get(name))) is not None}
    try:
        template = environment.from_string(source)
        return template.render(messages=messages, add_generation_prompt=True, tools=None, documents=None, **tokens)
    except jinja2.TemplateError as error:
        raise FeedError(
            f"the chat template of {folder} refuses the messages: {error}",
            fix='exported.run([{"role": "user", "content": "Hello"}])',
        ) from error


def chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The template: chat_template.jinja, else tokenizer_config.json's, its default one where it names several."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template") or read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, Mapping)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value and "content" in value


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own escapes HTML, which a prompt is not."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    import datetime

    return datetime.datetime.now().strftime(form)


def _text(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None
