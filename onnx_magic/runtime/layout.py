"""Which files of a folder are graphs, and which variants there are: transformers.js', optimum's and plain layouts."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx_magic.errors import GraphFileError, UsageError
from onnx_magic.records.artifact import MANIFEST_NAME

SUBFOLDER = "onnx"

VARIANT_SUFFIXES = {
    "int8": "quantized",
    "int8-static": "int8",
    "uint8": "uint8",
    "fp16": "fp16",
    "q4": "q4",
    "q4f16": "q4f16",
    "optimized": "optimized",
}
"""Variant, called as the mode that makes it → how its file's name ends, after `_` (transformers.js) or `-` (the old
script)."""

_STEMS = {
    "model": ("model",),
    "encoder": ("encoder_model",),
    "decoder": ("decoder_model_merged", "decoder_model"),
}
"""Graph → names its file may have, the better one first."""

_BESIDE = (MANIFEST_NAME, "config.json", "tokenizer.json", "vocab.txt", "preprocessor_config.json")


_ALIASES = {"q8": ("int8",), "quantized": ("int8",), "int8": ("int8", "int8-static")}
"""Other names of a variant, as transformers.js has them in its code and in its file names → the one that is meant,
the first that is there."""


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Args:
        root: The folder with manifest, config and tokenizer.
        files: `{variant: {graph: file}}`; the plain export is `""`.
        opened: The variant that the path itself names; `""` for the plain export.
        name: What the model is called, by its path.
    """

    root: Path
    files: Mapping[str, Mapping[str, Path]]
    opened: str
    name: str

    def choose(self, variant: str | None) -> tuple[str | None, Mapping[str, Path]]:
        """The variant's name (`None` for the plain export) and its files.

        Raises:
            UsageError: it is not there; names those that are.
        """
        meant = (self.opened,) if variant is None else _ALIASES.get(variant, (variant,))
        wanted = next((name for name in meant if name in self.files), meant[0])
        if wanted not in self.files:
            there = sorted(name for name in self.files if name)
            has = f"it has {', '.join(there)}" if there else "it has the plain export only"
            raise UsageError(
                f"{self.root} has no variant {wanted!r}: {has}",
                fix=f"variant={there[0]}" if there else "leave variant out",
            )
        return wanted or None, self.files[wanted]


def find_root(path: Path) -> Path:
    """The folder that holds manifest and tokenizer, for a folder, its onnx/ subfolder or an .onnx file.

    Raises:
        GraphFileError: nothing there, or a file that is not called .onnx.
    """
    if not path.exists():
        raise GraphFileError(
            f"{path}: no such folder or file", fix=_nearest(path) or f"onnx_magic.export(model, output={str(path)!r})"
        )
    if path.is_file() and path.suffix != ".onnx":
        raise GraphFileError(
            f"{path} is no .onnx file", fix=f"onnx_magic.export({str(path.parent)!r})  # if it is a checkpoint"
        )
    here = path if path.is_dir() else path.parent
    return _parent(here) if _is_subfolder(here) else here


def find_layout(path: Path, root: Path, listed: Mapping[str, Path]) -> Layout:
    """Which files there are.

    Args:
        path: What the person gave.
        root: What `find_root` made of it.
        listed: The plain export's files as the manifest lists them; empty where there is no manifest.

    Raises:
        GraphFileError: no .onnx file there, or several and no way to tell which is meant.
    """
    name = root.resolve().name.removesuffix("-onnx")
    if path.is_file():
        stem, variant = split_variant(path.stem)
        role = next((role for role, stems in _STEMS.items() if stem in stems), "model")
        files = {**_variants(path.parent, {role: (stem,)}), variant: {role: path}}
        return Layout(root, files, variant, name if stem in _STEMS["model"] else stem)
    if listed:
        here = next(iter(listed.values())).parent
        stems = {role: (file.stem,) for role, file in listed.items()}
        return Layout(root, {**_variants(here, stems), "": listed}, "", name)
    here = root / SUBFOLDER if any((root / SUBFOLDER).glob("*.onnx")) else root
    files = _variants(here, _STEMS) or _variants(here, {"model": (_only_stem(here),)})
    return Layout(root, files, "" if "" in files else next(iter(files)), name)


def split_variant(stem: str) -> tuple[str, str]:
    """A file's plain name and its variant, empty for the plain export.

    Example:
        >>> split_variant("model_int8"), split_variant("model")
        (('model', 'int8-static'), ('model', ''))
    """
    for variant, suffix in VARIANT_SUFFIXES.items():
        for joint in "_-":
            if stem.endswith(joint + suffix) and len(stem) > len(joint + suffix):
                return stem.removesuffix(joint + suffix), variant
    return stem, ""


def find_variants(graphs: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """`{variant: {graph: file}}` of the files that lie beside these graphs, whichever variant these are of themselves.

    The plain export is `""`. A variant that lacks a graph which another has is listed with those that it has.
    """
    found: dict[str, dict[str, Path]] = {}
    for role, path in graphs.items():
        for variant, files in _variants(path.parent, {role: (split_variant(path.stem)[0],)}).items():
            found.setdefault(variant, {}).update(files)
    return found


def variant_path(plain: Path, variant: str, *, subfolder: bool) -> Path:
    """Where a variant of a graph lies: `model_int8.onnx` in our folders, `bert-quantized.onnx` beside a bare file.

    Args:
        plain: The graph's file, of whichever variant.
        variant: A key of `VARIANT_SUFFIXES`.
        subfolder: Whether the graphs are laid out as transformers.js and optimum do it.

    Example:
        >>> variant_path(Path("bert.onnx"), "int8", subfolder=False).name
        'bert-quantized.onnx'
    """
    base = split_variant(plain.stem)[0]
    return plain.with_name(f"{base}{'_' if subfolder else '-'}{VARIANT_SUFFIXES[variant]}.onnx")


def remake(variant: str | None) -> str:
    """The line that makes a variant again.

    Example:
        >>> remake("q4")
        "exported.quantize('q4')"
    """
    if variant is None:
        return "exported = %onnx_export model"
    if variant == "optimized":
        return "exported.optimize()"
    return f"exported.quantize({variant!r}{', data=texts' if variant == 'int8-static' else ''})"


def laid_out(plain: Path) -> bool:
    """Whether a graph lies as transformers.js and optimum lay it out: in `onnx/`, or under a name of theirs."""
    return plain.parent.name == SUBFOLDER or split_variant(plain.stem)[0] in {
        s for names in _STEMS.values() for s in names
    }


def _variants(folder: Path, stems: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Path]]:
    """`{variant: {graph: file}}` of the files with these plain names."""
    found: dict[str, dict[str, Path]] = {}
    files = sorted(folder.glob("*.onnx"))
    for role, names in stems.items():
        for name in names:
            for file in files:
                base, variant = split_variant(file.stem)
                if base == name:
                    found.setdefault(variant, {}).setdefault(role, file)
    return found


def _is_subfolder(folder: Path) -> bool:
    """Whether it is the `onnx` folder of an exported folder."""
    real = folder.resolve()
    return (
        real.name == SUBFOLDER
        and not any((folder / name).exists() for name in _BESIDE)
        and any((real.parent / name).exists() for name in _BESIDE)
    )


def _nearest(path: Path) -> str:
    """The fix that opens what is nearly called so; empty where nothing is."""
    place = path.expanduser().parent
    names = [entry.name for entry in place.iterdir() if not entry.name.startswith(".")] if place.is_dir() else []
    near = difflib.get_close_matches(path.name, sorted(names), n=1, cutoff=0.6)
    return f"onnx_magic.load({str(path.parent / near[0])!r})" if near else ""


def _parent(folder: Path) -> Path:
    """The folder above, written as the person wrote theirs where that can be."""
    return folder.parent if folder.name == SUBFOLDER else Path(os.path.normpath(folder / os.pardir))


def _only_stem(folder: Path) -> str:
    """The plain name that all files of the folder share."""
    files = sorted(folder.glob("*.onnx"))
    stems = sorted({split_variant(file.stem)[0] for file in files})
    if not stems:
        raise GraphFileError(f"{folder} holds no .onnx file", fix=f"onnx_magic.export({str(folder)!r})")
    if len(stems) > 1:
        raise GraphFileError(
            f"{folder} holds several models and none is called model.onnx: {', '.join(f.name for f in files)}",
            fix=f"onnx_magic.load({str(files[0])!r})",
        )
    return stems[0]
