"""Where a variant is written: aside first, then moved beside its parent together with the manifest that names it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine import committing, packing
from onnx_magic.engine.adapters import ort_tools
from onnx_magic.engine.disk import check_space, storage_errors
from onnx_magic.engine.storing import OutputPlace, clean_up_after_killed, make_staging, read_manifest, write_manifest
from onnx_magic.errors import GraphFileError, StorageError
from onnx_magic.records.artifact import MANIFEST_NAME
from onnx_magic.runtime.graphs import describe_model
from onnx_magic.runtime.layout import SUBFOLDER, laid_out, remake, variant_path
from onnx_magic.runtime.tokenizing import read_json

if TYPE_CHECKING:
    import onnx_ir

    from onnx_magic.records.artifact import GraphFile
    from onnx_magic.runtime.folder import OpenedFolder

OURS = "onnx_magic.variant"
"""Metadata of a graph's file by which a variant of ours is known where there is no manifest."""

PREPARED = ort_tools.PREPARED[0]

FAILED_FOLDER = "failed"
"""Where a failed variant goes that would take the place of a verified one."""

CONFIG = "config.json"
SAME = ("", "ai.onnx")
"""The domain of ONNX's own operators, by its two names."""

_BLOCK = 1 << 20
SHORT = 16


@dataclass(frozen=True)
class VariantPlace:
    """Where one variant is made.

    Args:
        name: The variant.
        folder: The exported folder.
        work: For working files; gone afterwards.
        staged: What is moved into the folder.
        targets: `{graph: its file in the folder}`.
    """

    name: str
    folder: Path
    work: Path
    staged: Path
    targets: Mapping[str, Path]

    def write(self, role: str, model: onnx_ir.Model, *, ahead: int | None = None) -> GraphFile:
        """Write a graph of the variant into the staging folder.

        Args:
            ahead: Number of a candidate: it lies in the working folder until it is taken with `keep`.

        Raises:
            StorageError: the disk is full, or reports an error.
        """
        for node in model.graph.all_nodes():  # ONNX Runtime does without, ONNX's own tools do not
            if node.domain not in SAME:
                model.graph.opset_imports.setdefault(node.domain, 1)
        model.metadata_props[OURS] = self.name
        model.metadata_props.pop(PREPARED, None)
        place = self.staged if ahead is None else self.work / f"candidate-{ahead}"
        path = place / self.targets[role].relative_to(self.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        if packing.weight_bytes(model) <= packing.SINGLE_FILE_LIMIT:
            packing.take_in(model)
        files = packing.save_graph(model, path, limit=packing.SINGLE_FILE_LIMIT)
        return dataclasses.replace(describe_model(model, path), size=sum(file.stat().st_size for file in files))

    def keep(self, role: str, graph: GraphFile) -> GraphFile:
        """Take a candidate that was written ahead."""
        target = self.staged / self.targets[role].relative_to(self.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        for file in (graph.path, graph.path.with_name(f"{graph.path.name}_data")):
            if file.is_file():
                file.replace(target.with_name(file.name))
        return dataclasses.replace(graph, path=target)

    def commit(self, entry: Mapping[str, Any], *, failed: bool) -> dict[str, Path]:
        """Move the variant beside its parent, and note it in the manifest; all of it or nothing.

        A failed variant does not take the place of a verified one: it goes to `failed/`, and the manifest stays.

        Returns:
            `{graph: its file}`.
        """
        manifest = read_manifest(self.folder)
        earlier = manifest.variants.get(self.name, {}) if manifest else {}
        names = committing.files_of(self.staged)
        targets = {role: path.relative_to(self.folder) for role, path in self.targets.items()}
        with storage_errors(self.folder):
            if failed and earlier.get("validated", {}).get("status") == "verified" and not earlier.get("stale"):
                aside = self.staged.parent / "aside"
                for name in names:
                    moved = aside / _aside(Path(name))
                    moved.parent.mkdir(parents=True, exist_ok=True)
                    (self.staged / name).rename(moved)
                committing.move(aside, self.folder, [_aside(Path(name)).as_posix() for name in names])
                return {role: self.folder / _aside(path) for role, path in targets.items()}
            graphs = {role: {**row, "path": targets[role].as_posix()} for role, row in entry["graphs"].items()}
            gone = [f"{path.as_posix()}_data" for path in targets.values()]
            gone += [f"{_aside(path).as_posix()}{end}" for path in targets.values() for end in ("", "_data")]
            if manifest is not None:
                noted = {**manifest.variants, self.name: {**entry, "graphs": graphs}}
                write_manifest(dataclasses.replace(manifest, variants=noted), self.staged)
                names = (*names, MANIFEST_NAME)
            names = (*names, *self._config_for_data(names))
            committing.move(self.staged, self.folder, names, obsolete=[name for name in gone if name not in names])
        return dict(self.targets)

    def _config_for_data(self, names: Sequence[str]) -> tuple[str, ...]:
        """Stage a config.json that names the variant's graphs whose weights lie beside them, where it has to change."""
        before = read_json(self.folder / CONFIG)
        record = packing.with_data_files(before, names)
        if not before or record == before:
            return ()
        (self.staged / CONFIG).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return (CONFIG,)


def _aside(path: Path) -> Path:
    return path.parent / FAILED_FOLDER / path.name


@contextlib.contextmanager
def variant_place(opened: OpenedFolder, name: str, *, overwrite: bool = False) -> Iterator[VariantPlace]:
    """A place to make a variant of an opened folder in; what was not committed is gone afterwards.

    Raises:
        StorageError: the folder cannot be written, the disk has too little room, or a file of that name is not ours.
        GraphFileError: the file to start from is gone.
    """
    folder = opened.folder
    with storage_errors(folder):
        staging = make_staging(folder, None)
        place = OutputPlace(folder, None, staging)
        with place:
            clean_up_after_killed(place)
            place.assets.mkdir()
            work = staging / "work"
            work.mkdir()
            targets = {role: _target(folder, graph.path, name) for role, graph in opened.graphs.items()}
            for role, graph in opened.graphs.items():
                require_file(graph.path, opened.variant)
                _refuse_foreign(folder, targets[role], name, overwrite)
            check_space(staging, sum(graph.size for graph in opened.graphs.values()), folder)
            yield VariantPlace(name, folder, work, place.assets, targets)


def require_file(path: Path, variant: str | None) -> None:
    """The file is there.

    Raises:
        GraphFileError: it was deleted meanwhile.
    """
    if path.is_file():
        return
    what = f"variant {variant}" if variant else "the export"
    raise GraphFileError(f"{path} is gone: {what} was deleted since it was opened", fix=remake(variant))


def _target(folder: Path, plain: Path, name: str) -> Path:
    manifest = read_manifest(folder)
    if manifest is not None:
        subfolder = any(str(row.get("path", "")).startswith(f"{SUBFOLDER}/") for row in manifest.graphs.values())
    else:
        subfolder = laid_out(plain)
    return variant_path(plain, name, subfolder=subfolder)


def _refuse_foreign(folder: Path, target: Path, name: str, overwrite: bool) -> None:
    manifest = read_manifest(folder)
    if overwrite or not target.exists() or (manifest is not None and name in manifest.variants) or _is_ours(target):
        return
    raise StorageError(
        f"{target} is there, and onnx_magic did not write it", fix="overwrite=yes  # or move it away first"
    )


def _is_ours(path: Path) -> bool:
    import onnx_ir

    try:
        return OURS in onnx_ir.load(path).metadata_props
    except Exception:  # whatever it is, it is none of ours
        return False


def files_fingerprint(graphs: Mapping[str, GraphFile]) -> str:
    """A hash of the graphs' files, external data included."""
    digest = hashlib.sha256()
    for role in sorted(graphs):
        path = graphs[role].path
        for file in (path, path.with_name(f"{path.name}_data")):
            if file.is_file():
                with file.open("rb") as stream:
                    while block := stream.read(_BLOCK):
                        digest.update(block)
    return digest.hexdigest()[:SHORT]
