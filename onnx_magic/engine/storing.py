"""Writing an exported folder: aside first, then moved into place; what stood there stands until all is moved.

```
place = prepare_output(...)    where to write, and can we: before any long work
with place:                    place.staging is a hidden folder beside the target, gone when the block ends
    save_graph(model, path)    an attempt, anywhere in place.staging
    place.take_graph(path)     the one that is taken: it becomes onnx/model.onnx
    write_assets(source, place.assets)
    place.commit(manifest, failed=...)
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from onnx_magic.engine import committing
from onnx_magic.engine.disk import MARK, check_space, storage_errors
from onnx_magic.engine.packing import ASSET_NAMES, portable_origin
from onnx_magic.engine.packing import build_manifest as build_manifest
from onnx_magic.engine.packing import save_graph as save_graph
from onnx_magic.engine.packing import write_assets as write_assets
from onnx_magic.engine.scrubbing import scrub_paths as scrub_paths
from onnx_magic.errors import StorageError
from onnx_magic.records.artifact import MANIFEST_NAME, Manifest

GRAPH_FOLDER = "onnx"
GRAPH_FILES = {"model": "model.onnx", "encoder": "encoder_model.onnx", "decoder": "decoder_model_merged.onnx"}
"""Name of a graph → its file, as transformers.js looks for it."""

ASSEMBLED = "export"
"""The part of a staging folder that is laid out as the export; the rest is attempts."""

THIS_PROCESS = secrets.token_hex(4)
"""Tells this process from an earlier one of the same number."""

SHORT_FINGERPRINT = 8
STAGED_NAME_LENGTH = 100
FAILED = ".failed"


@dataclass(eq=False)
class OutputPlace:
    """Where an export is written to. A context manager: the staging folder is gone afterwards, whatever happens.

    Args:
        folder: The folder that holds the export in the end.
        file: The .onnx file that the user named (the old script's layout); `None` for a folder of ours.
        staging: The hidden folder that everything is written to first.
        previous: What the folder's manifest says now; `None` when there is no export of ours.
        created: Folders that were made for this; taken away again, if empty, when nothing is committed.
        names: Name of a graph → its file, where it is not the usual one.
    """

    folder: Path
    file: str | None
    staging: Path
    previous: Manifest | None = None
    created: tuple[Path, ...] = ()
    names: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def assets(self) -> Path:
        """The folder in `staging` that becomes the export: write config, tokenizer and processor files here."""
        return self.staging / ASSEMBLED

    def graph_name(self, role: str = "model") -> str:
        """Where a graph lies in the export: `onnx/model.onnx`, `onnx/encoder_model.onnx`."""
        if self.file is None:
            return f"{GRAPH_FOLDER}/{(GRAPH_FILES | self.names)[role]}"
        stem = self.file.removesuffix(".onnx")
        return self.file if role == "model" else f"{stem}-{role}.onnx"

    def take_graph(self, path: Path, role: str = "model") -> Path:
        """Put a graph that was written in `staging`, and its external data, at its place in the export.

        Raises:
            StorageError: the disk is full, or reports an error.
        """
        target = self.assets / self.graph_name(role)
        data = path.with_name(f"{path.name}_data")
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if data.is_file():
                os.replace(data, target.with_name(f"{target.name}_data"))
                _rename_data(path, f"{target.name}_data")
            os.replace(path, target)
        return target

    def commit(self, manifest: Manifest, *, failed: bool = False) -> Path:
        """Move the export into place, the manifest last; returns the folder that holds it now.

        A failed export does not replace a verified one: it goes to `<folder>.failed`. Files of the earlier export that
        the new one does not have are taken away; variants stay, marked stale where the weights are others. If anything
        interrupts this, the folder is as it was.

        Args:
            manifest: What `build_manifest` gave; the graphs' paths and the list of files are filled in here.
            failed: Whether the verdict is "failed".

        Raises:
            StorageError: the disk is full, or the folder cannot be written any more.
        """
        staged = committing.files_of(self.assets)
        graphs = {role: {**row, "path": self.graph_name(role)} for role, row in manifest.graphs.items()}
        manifest = dataclasses.replace(manifest, files=staged, graphs=graphs)
        with storage_errors(self.folder):
            if failed and self.previous is not None and self.previous.validated.get("status") == "verified":
                return self._keep_aside(manifest)
            write_manifest(dataclasses.replace(manifest, variants=_variants(self.previous, manifest)), self.assets)
            names = (*staged, MANIFEST_NAME)
            committing.move(self.assets, self.folder, names, obsolete=_obsolete(self.previous, staged))
        return self.folder

    def _keep_aside(self, manifest: Manifest) -> Path:
        is_inside = self.staging.parent == self.folder.resolve()
        stem = self.file.removesuffix(".onnx") if self.file else self.folder.resolve().name
        aside = (self.folder if is_inside else self.folder.parent) / f"{stem}{FAILED}"
        write_manifest(manifest, self.assets)
        if read_manifest(aside) is not None:
            shutil.rmtree(aside)
        self.assets.rename(aside)
        return aside

    def discard(self) -> None:
        """Take the staging folder away, and folders made for the export that stayed empty."""
        _discard(self.staging, self.created, os.getpid())

    def __enter__(self) -> OutputPlace:
        """The place itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard what was not committed."""
        self.discard()


def prepare_output(
    output: str | Path | None,
    name: str,
    fingerprint: str,
    *,
    overwrite: bool = False,
    origin: str | None = None,
    task: str | None = None,
    needed: int = 0,
    assets: Sequence[str] = ASSET_NAMES,
) -> OutputPlace:
    """Decide where to write, and find out that it can be written: before any long work.

    Args:
        output: A folder, a path that ends in .onnx, or `None`: `<name>-onnx` in the current folder, with a short
            fingerprint where that folder holds another model.
        name: The model's name.
        fingerprint: Of the weights to be written.
        overwrite: Whether files that onnx_magic did not write may be replaced.
        origin: Folder or Hub id of the model: the same one with other weights is the same model, trained on.
        task: Canonical task: another task is another model. `None` is not compared.
        needed: Bytes that the export is about to take.
        assets: File names that may be written beside an .onnx file.

    Raises:
        StorageError: the folder is not ours, not writable, a file, too long a path, or the disk has too little room.

    Example:
        >>> with prepare_output(None, "sentiment-mini", "0123456789abcdef") as place:  # doctest: +SKIP
        ...     save_graph(model, place.staging / "model.onnx")
    """
    with storage_errors(Path(output) if output is not None else Path(f"{name}-onnx")):
        folder, file = _target(output, name, fingerprint, portable_origin(origin), task)
        _check_kind(folder, file)
        created = _make_folders(folder if file is not None else folder.parent)
        place = OutputPlace(folder, file, make_staging(folder, file), created=created)
        # An interrupt may come before the `with`: then the place goes when nobody holds it any more.
        weakref.finalize(place, _discard, place.staging, created, os.getpid())
        try:
            clean_up_after_killed(place)
            place.previous = read_manifest(folder)
            _check_ours(place, overwrite, assets)
            _try_writing(place)
            check_space(place.staging, needed, folder)
        except BaseException:
            place.discard()
            raise
    return place


def read_manifest(folder: Path) -> Manifest | None:
    """What the folder's manifest says; `None` when there is none that can be read."""
    try:
        return Manifest.from_json(json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        return None


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `onnx_magic.json` into a folder."""
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _target(
    output: str | Path | None, name: str, fingerprint: str, origin: str | None, task: str | None
) -> tuple[Path, str | None]:
    if output is not None:
        path = Path(output).expanduser()
        path = path.resolve() if path.is_symlink() else path
        return (path.parent, path.name) if path.suffix == ".onnx" else (path, None)
    folder = Path(f"{name}-onnx")
    there = read_manifest(folder)
    if there is None or _same_model(there, fingerprint, origin, task):
        return folder, None
    return Path(f"{name}-{fingerprint[:SHORT_FINGERPRINT]}-onnx"), None


def _same_model(there: Manifest, fingerprint: str, origin: str | None, task: str | None) -> bool:
    """The same weights, or the same origin with other weights; for the same task."""
    same_weights = there.fingerprint == fingerprint or (origin is not None and there.source == origin)
    return same_weights and (task is None or there.task == task)


def _check_kind(folder: Path, file: str | None) -> None:
    if folder.is_file():
        raise StorageError(f"{folder} is a file: expected a folder", fix=f"output={folder}-onnx")
    if file is not None and (folder / file).is_dir():
        raise StorageError(f"{folder / file} is a folder: expected a file", fix=f"output={folder / 'model.onnx'}")


def _make_folders(folder: Path) -> tuple[Path, ...]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(path.resolve() for path in reversed(missing))


def make_staging(folder: Path, file: str | None) -> Path:
    """A new hidden folder on the target's own file system: beside it, or in it where the parent will not do."""
    resolved = folder.resolve()
    is_inside = file is not None or (
        resolved.is_dir()
        and (resolved.stat().st_dev != resolved.parent.stat().st_dev or not os.access(resolved.parent, os.W_OK))
    )
    name = (file or resolved.name)[:STAGED_NAME_LENGTH]
    parent = resolved if is_inside else resolved.parent
    return Path(tempfile.mkdtemp(prefix=f".{name}{MARK}{os.getpid()}-{THIS_PROCESS}-", dir=parent))


def clean_up_after_killed(place: OutputPlace) -> None:
    """Take away what killed exports to this place left behind; a move that was cut off is taken back."""
    folder = place.folder.resolve()
    pattern = glob.escape(place.staging.name.rpartition(MARK)[0]) + MARK + "*"
    for parent in {place.staging.parent, folder, folder.parent}:
        for left in parent.glob(pattern) if parent.is_dir() else ():
            if _is_left_over(*left.name.rpartition(MARK)[2].split("-")):
                committing.take_back(left / ASSEMBLED, folder)
                shutil.rmtree(left, ignore_errors=True)


def _is_left_over(process: str = "", token: str = "", *_random: str) -> bool:
    """Whether the process that made a staging folder is gone; in containers a new process often has its number."""
    if not process.isdecimal():
        return False
    return token != THIS_PROCESS if int(process) == os.getpid() else not committing.is_alive(int(process))


def _check_ours(place: OutputPlace, overwrite: bool, assets: Sequence[str]) -> None:
    """Refuse to touch what onnx_magic did not write."""
    if overwrite or not place.folder.is_dir():
        return
    folder, previous = place.folder, place.previous
    if place.file is None:
        hidden = {place.staging.name}
        if previous is None and any(entry.name not in hidden for entry in folder.iterdir()):
            raise StorageError(
                f"{folder} holds files that onnx_magic did not write: expected an empty folder or an earlier export",
                fix="overwrite=yes  # our files replace those of the same name, the others stay",
            )
        return
    if previous is not None and place.file not in previous.files:
        held = next((name for name in previous.files if name.endswith(".onnx")), "another graph")
        raise StorageError(
            f"{folder} holds the export of {held}: a folder has one manifest",
            fix=f"output={folder / Path(place.file).stem / place.file}",
        )
    ours = {*previous.files, MANIFEST_NAME} if previous is not None else set()
    foreign = [n for n in (place.file, *assets, MANIFEST_NAME) if (folder / n).exists() and n not in ours]
    if foreign:
        raise StorageError(
            f"{folder} holds {', '.join(foreign)}, which onnx_magic did not write",
            fix=f"output={folder / GRAPH_FOLDER / place.file}  # or overwrite=yes",
        )


def _try_writing(place: OutputPlace) -> None:
    """Make the staging folder, and something in the target: the one sure test of being writable."""
    place.assets.mkdir()
    if place.folder.is_dir():
        trial = place.folder / f".{MARK}{os.getpid()}"
        trial.touch()
        trial.unlink()
    else:
        # Its own name may be too long although the staging folder's is not.
        place.folder.mkdir()
        place.folder.rmdir()


def _rename_data(path: Path, name: str) -> None:
    """Let a graph's external data be found under another name."""
    if name == f"{path.name}_data":
        return
    import onnx_ir

    model = onnx_ir.load(path)
    for graph in model.graphs():
        for value in graph.initializers.values():
            old = value.const_value
            if isinstance(old, onnx_ir.ExternalTensor):
                value.const_value = onnx_ir.ExternalTensor(
                    name, old.offset, old.length, old.dtype, shape=old.shape, name=old.name or "", base_dir=old.base_dir
                )
    onnx_ir.save(model, path)


def _discard(staging: Path, created: Sequence[Path], process: int) -> None:
    if os.getpid() != process:
        return  # a forked child's copy of the place
    shutil.rmtree(staging, ignore_errors=True)
    for folder in reversed(created):
        with contextlib.suppress(OSError):  # not empty: something was committed
            folder.rmdir()


def _variants(previous: Manifest | None, manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    if previous is None:
        return dict(manifest.variants)
    others = previous.fingerprint != manifest.fingerprint
    kept = {name: {**variant, "stale": True} if others else variant for name, variant in previous.variants.items()}
    return {**kept, **manifest.variants}


def _obsolete(previous: Manifest | None, staged: Sequence[str]) -> tuple[str, ...]:
    """Files of the earlier export that the new one does not have; names that leave the folder are not believed."""
    names = previous.files if previous is not None else ()
    return tuple(name for name in names if name not in staged and committing.is_inside(name))
