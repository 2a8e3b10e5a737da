"""Whether a run generates: a model that does, and a prompt or an option that asks for it; else the graph runs once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import UsageError
from onnx_magic.records.results import RunResult
from onnx_magic.runtime.feeds import is_arraylike
from onnx_magic.runtime.generating import is_generator
from onnx_magic.runtime.prompting import is_prompt
from onnx_magic.runtime.running import answer

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder


def answered(
    opened: OpenedFolder,
    inputs: Any,
    asked: Mapping[str, Any],
    *,
    top_k: int | None = None,
    full_text: bool = True,
    provider: str | None = None,
    live: Any = None,
) -> RunResult:
    """What `run` gives: a text that was generated, or the answer of one run of the graph.

    Args:
        asked: Generation options, None where they were not given.

    Raises:
        UsageError: generation options for a model that does not generate.
    """
    from onnx_magic.engine.generation.continuing import continued

    if generates(opened, inputs, asked):
        options = {**asked, "top_k": top_k}
        return continued(opened, inputs, options, full_text=full_text, provider=provider, live=live)
    return answer(opened, inputs, top_k=top_k, provider=provider)


def generates(opened: OpenedFolder, inputs: Any, asked: Mapping[str, Any]) -> bool:
    """Whether these inputs and options mean a text to be generated.

    Raises:
        UsageError: generation options for a model that does not generate.
    """
    given = [name for name, value in asked.items() if value is not None]
    if is_generator(opened):
        arrays = isinstance(inputs, Mapping | tuple) or is_arraylike(inputs) or not inputs
        return bool(given) or is_prompt(inputs) or "encoder" in opened.graphs or not arrays
    if given:
        raise UsageError(
            f"{given[0]} is for models that generate texts, and {opened.name} is for {opened.task or 'no known task'}",
            fix=f"leave {given[0]} out",
        )
    return False
