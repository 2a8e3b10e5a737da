"""The variants that a line names (`variants=int8,q4`), opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx_magic.errors import UsageError
from onnx_magic.exported import ExportedModel
from onnx_magic.verbs.load import load


def named_variants(exported: ExportedModel, names: Iterable[str]) -> dict[str, ExportedModel]:
    """Variants of an exported model by name: those it holds itself, else those that lie in its folder.

    Raises:
        UsageError: there is no such variant; names those that are.
    """
    held: Mapping[str, ExportedModel] = getattr(exported, "variants", {})
    return {name: held[name] if name in held else _opened(exported, name) for name in names}


def _opened(exported: ExportedModel, name: str) -> ExportedModel:
    try:
        return load(exported.model_path, variant=name)
    except UsageError as error:
        known = error.fix.removeprefix("variant=")
        fix = f"variants={known}" if known != error.fix else "leave variants out"
        raise UsageError(error.what, fix=fix) from error
