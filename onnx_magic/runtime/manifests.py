"""Reads onnx_magic.json, and what it says of the file that is opened. The manifest is untrusted input."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_magic.errors import GraphFileError
from onnx_magic.records.artifact import MANIFEST_NAME, GraphFile, Manifest
from onnx_magic.records.findings import Finding
from onnx_magic.records.plan import Decision
from onnx_magic.records.results import Validation
from onnx_magic.records.serial import validation_from_json
from onnx_magic.records.variants import VariantRecord
from onnx_magic.runtime.layout import remake
from onnx_magic.runtime.tokenizing import read_json

_UNCHECKED = Validation(checked=False)
_FIX = "export it again: onnx_magic.export(model, output=..., overwrite=True), or pip install -U onnx-magic"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; `None` where there is none.

    Raises:
        GraphFileError: it is not JSON, of another format, incomplete, or names a file outside the folder.
    """
    file = folder / MANIFEST_NAME
    if not file.is_file():
        return None
    record = read_json(file)
    try:
        manifest = Manifest.from_json(record)
        _check_kinds(manifest)
        [Decision(**row) for row in manifest.decisions]
        validation_from_json(manifest.validated)
    except (ValueError, TypeError) as error:
        raise GraphFileError(f"{file} cannot be read: {error}", fix=_FIX) from error
    for role, entry in manifest.graphs.items():
        _inside(file, role, entry.get("path"))
    return manifest


def validation_of(
    folder: Path, manifest: Manifest | None, variant: str | None, graphs: Mapping[str, GraphFile]
) -> Validation:
    """The verdict on these very files: unchecked unless the manifest names them, and they have not changed in size.

    Raises:
        GraphFileError: the variant's record cannot be read.
    """
    if manifest is None:
        return _UNCHECKED
    record: Mapping[str, Any] = {"graphs": manifest.graphs, "validated": manifest.validated}
    if variant is not None:
        record = manifest.variants.get(variant, {})
    if record.get("stale"):
        stale = f"variant {variant} was made from other weights than the export's"
        return Validation(findings=(Finding("variant-stale", stale, "warning", remake(variant)),), checked=False)
    entries = record.get("graphs", {})
    if not all(_is_file(folder, graph, entries.get(role)) for role, graph in graphs.items()):
        return _UNCHECKED
    try:
        return validation_from_json(record.get("validated", {}))
    except ValueError as error:
        raise GraphFileError(f"{folder / MANIFEST_NAME} cannot be read: {error}", fix=_FIX) from error


def variant_record(folder: Path, manifest: Manifest | None, variant: str) -> VariantRecord | None:
    """What the manifest says was done to make a variant; `None` where it says nothing.

    Raises:
        GraphFileError: it cannot be read.
    """
    entry = manifest.variants.get(variant) if manifest is not None else None
    if entry is None or "title" not in entry:
        return None
    try:
        return VariantRecord.from_json({"name": variant, **entry})
    except ValueError as error:
        raise GraphFileError(f"{folder / MANIFEST_NAME} cannot be read: {error}", fix=_FIX) from error


def _is_file(folder: Path, graph: GraphFile, entry: Mapping[str, Any] | None) -> bool:
    """Whether the manifest's entry is about this file: same place, same names and, where it was noted, same size."""
    if entry is None or (folder / str(entry.get("path"))).resolve() != graph.path.resolve():
        return False
    noted = {"size": graph.size, "opset": graph.opset}
    return all(entry.get(key, value) == value for key, value in noted.items())


def _check_kinds(manifest: Manifest) -> None:
    for name in ("graphs", "axes", "labels", "validated", "versions", "variants", "wording"):
        if not isinstance(getattr(manifest, name), Mapping):
            raise ValueError(f"{name} is no object")
    if not isinstance(manifest.name, str) or not isinstance(manifest.task, str | None):
        raise ValueError("name or task is no text")
    for name in ("graphs", "variants"):
        if not all(isinstance(entry, Mapping) for entry in getattr(manifest, name).values()):
            raise ValueError(f"an entry of {name} is no object")


def _inside(file: Path, role: str, path: Any) -> None:
    if not isinstance(path, str) or Path(path).is_absolute() or not _within(path):
        raise GraphFileError(
            f"{file}: the path of graph {role!r} is {path!r}, which is not inside the folder; it was not read",
            fix="get the folder from a source that you trust",
        )


def _within(path: str) -> bool:
    # By its letters: in the Hub's cache every file is a link to a place outside its folder.
    return os.path.normpath(path).split(os.sep)[0] != os.pardir
