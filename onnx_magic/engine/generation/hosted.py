"""The model without weights that belongs to an exported folder, and what may be asked of its `generate()`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.generation.hosting import class_named, host_model
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.runtime.prompting import refuse_too_long, room_after
from onnx_magic.runtime.sessions import find_provider

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder


def hosted(opened: OpenedFolder, provider: str | None = None, live: Any = None) -> Any:
    """The folder's model, answered by ONNX Runtime; made once per provider.

    Args:
        live: The PyTorch model, where it is at hand: its class and config are taken.

    Raises:
        UsageError: torch or Transformers is missing, or has no such class.
    """
    name = f"hosted on {find_provider(provider)}"
    if name not in opened.held:
        config, kind = _identity(opened, live)
        sessions = {role: opened.session(provider, role) for role in opened.graphs}
        opened.held[name] = host_model(config, kind, sessions, generation_config=_generation_config(opened, live))
    return opened.held[name]


def has_transformers() -> bool:
    """Whether torch and Transformers are installed; neither is imported."""
    from importlib.util import find_spec

    return find_spec("torch") is not None and find_spec("transformers") is not None


def generated(model: Any, opened: OpenedFolder, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """`model.generate(**inputs, **options)`, what it refuses said in two lines.

    Raises:
        UsageError: an option that this model or Transformers does not take.
        FeedError: a prompt that is too long.
    """
    import torch

    refuse_unknown(model, options)
    refuse_too_long(opened, inputs)
    _refuse_no_room(opened, inputs, options)
    try:
        with quiet(Log()), torch.no_grad():
            return model.generate(**inputs, **options)
    except (ValueError, TypeError, NotImplementedError) as error:
        if isinstance(error, OnnxMagicError):
            raise
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{type(model).__name__}.generate() refuses it: {first}", fix=_smaller(options)) from error


def refuse_unknown(model: Any, options: Mapping[str, Any]) -> None:
    """Raise a UsageError for an option that neither GenerationMixin nor the model knows."""
    from transformers import GenerationConfig

    defaults: Any = GenerationConfig
    known = {*vars(defaults()), *inspect.signature(model.generate).parameters}
    known |= {*inspect.signature(model.forward).parameters, "tokenizer", "assistant_tokenizer", "encoder_outputs"}
    known -= {"kwargs", "args", "self"}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{type(model).__name__} has no generation option {name!r}{hint}",
                fix=f"{near[0]}={options[name]!r}" if near else f"leave {name} out",
            )


def _refuse_no_room(opened: OpenedFolder, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise a UsageError where more tokens are asked for than there are positions."""
    room, asked = room_after(opened, inputs), options.get("max_new_tokens")
    if room is not None and asked is not None and asked > room:
        raise UsageError(
            f"max_new_tokens is {asked}, and {room} more tokens fit into the positions of {opened.name}",
            fix=f"max_new_tokens={room}",
        )


def _smaller(options: Mapping[str, Any]) -> str:
    return f"exported.generate(**inputs) without one of {', '.join(options)}" if options else "help(model.generate)"


def _identity(opened: OpenedFolder, live: Any) -> tuple[Any, Any]:
    """The config and the class of the model."""
    if live is not None and hasattr(live, "generate") and getattr(live, "config", None) is not None:
        return live.config, type(live)
    if not has_transformers():
        raise UsageError(
            "this way of generating is Transformers' own, which is not installed here",
            fix="pip install transformers torch",
        )
    from transformers import AutoConfig

    kind = class_named(opened.architecture)
    with quiet(Log()):
        return AutoConfig.from_pretrained(opened.folder, local_files_only=True), kind


def _generation_config(opened: OpenedFolder, live: Any) -> Any:
    """The defaults of `generate()`: the live model's, else generation_config.json."""
    if live is not None and getattr(live, "generation_config", None) is not None:
        return live.generation_config
    if not (opened.folder / "generation_config.json").is_file():
        return None
    from transformers import GenerationConfig

    with quiet(Log()):
        return GenerationConfig.from_pretrained(opened.folder, local_files_only=True)
