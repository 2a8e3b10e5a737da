"""Generated texts in the live panel: every backend goes on with one prompt, with the same options and the same seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.generation.continuing import continued, in_pytorch, prepared
from onnx_magic.engine.state import preserved
from onnx_magic.engine.swapping import refuse_other_model
from onnx_magic.errors import UsageError
from onnx_magic.records.playing import PlayField
from onnx_magic.records.results import RunResult
from onnx_magic.runtime.generation_settings import settings_of
from onnx_magic.runtime.running import FeedPlan

if TYPE_CHECKING:
    from onnx_magic.exported import ExportedModel
    from onnx_magic.runtime.folder import OpenedFolder

_NEW_TOKENS = 40
"""Tokens that a text grows by where the person says nothing: a few seconds with most models."""


def option_fields(opened: OpenedFolder, asked: Mapping[str, Any]) -> tuple[PlayField, ...]:
    """The options that a person changes between two runs, as `run` calls them.

    Args:
        opened: The folder, whose `generation_config.json` may want shorter texts.
        asked: Options that hold already.
    """
    longest = min(settings_of(opened, {}).max_new_tokens, _NEW_TOKENS)
    values = {"max_new_tokens": longest, **{name: value for name, value in asked.items() if value is not None}}
    told = {"max_new_tokens": "", "temperature": "empty: the model's own", "seed": "draws at random"}
    return tuple(
        PlayField(name, name, "option", "" if values.get(name) is None else f"{values[name]}", hint)
        for name, hint in told.items()
    )


def text_plan(opened: OpenedFolder, inputs: Any, asked: Mapping[str, Any]) -> tuple[FeedPlan, dict[str, Any]]:
    """The prompt as arrays, and the options for all backends: where tokens are drawn, they get one seed.

    Raises:
        FeedError: an empty or too long prompt.
        UsageError: a value that cannot be meant.
    """
    settings, prompt, _ = prepared(opened, inputs, asked)
    notes = prompt.notes
    if settings.sample and settings.seed is None:
        seed = int(np.random.default_rng().integers(1, 10_000))  # leaves the user's random states alone
        asked = {**asked, "seed": seed}
        notes = (*notes, f"every backend draws with seed={seed}")
    return FeedPlan(prompt.arrays, notes=notes), dict(asked)


def text_by_pytorch(exported: ExportedModel, inputs: Any, asked: Mapping[str, Any], full_text: bool) -> RunResult:
    """What the live model's own `generate()` gives, in eval mode; the model is left as it was.

    Raises:
        SwapError: its weights are not those that were exported.
        UsageError: it has no `generate()`.
    """
    model = live_model(exported)
    if model is None or not hasattr(model, "generate"):
        raise UsageError(f"{type(model).__name__} has no generate()", fix="panel.results['ONNX Runtime']")
    refuse_other_model(exported, model)
    with preserved(model):
        return in_pytorch(exported.opened, inputs, asked, model, full_text=full_text, streamed=True)


def text_by_onnx(
    exported: ExportedModel, inputs: Any, asked: Mapping[str, Any], full_text: bool, provider: str | None, live: Any
) -> RunResult:
    """What `exported.run` gives for a prompt.

    Args:
        exported: The export, or a variant of it.
        inputs: The prompt.
        asked: Options of `run`.
        full_text: Whether the answer begins with the prompt.
        provider: Execution provider.
        live: The PyTorch model, where it is at hand: its class and config are taken where Transformers is needed.
    """
    return continued(exported.opened, inputs, asked, full_text=full_text, provider=provider, live=live)


def live_model(exported: ExportedModel) -> Any:
    """The live PyTorch model itself; `None` after a release or a load."""
    if exported.source is not None:
        return exported.source.model
    return exported.live.model if exported.live is not None else None
