"""Is a checkpoint folder sound? Answered before any library reads it, so that the error is ours."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnx_magic.errors import SourceError

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
EXPECTED_WEIGHTS = (SAFETENSORS, f"{SAFETENSORS}.index.json", PICKLED, f"{PICKLED}.index.json")
OTHER_FRAMEWORKS = {"tf_model.h5": "tf", "model.ckpt.index": "tf", "flax_model.msgpack": "flax"}
"""Weights that Transformers 5 no longer reads → what version 4's `from_pretrained(from_...=True)` calls them."""

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "spm.model",
    "sentencepiece.bpe.model", "tokenizer.model", "source.spm", "bpe.codes", "sentencepiece.model",
)  # fmt: skip
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
LFS_POINTER = b"version https://git-lfs"


def is_path_like(text: str) -> bool:
    """Whether `text` can only be meant as a path: it is no `name` and no `org/name`.

    Example:
        >>> [is_path_like(text) for text in ("./a", "a/b/c", "org/name", "name")]
        [True, True, False, False]
    """
    return text.startswith((".", "/", "~", os.sep)) or text.endswith("/") or text.count("/") > 1 or "\\" in text


def no_such_source(given: str) -> SourceError:
    """The error for a path that is not there; its fix names the nearest that is."""
    near = nearest_folder(given)
    return SourceError(f"there is no {given!r} here", fix=f"%onnx_export {near or './path/to/checkpoint'}")


def nearest_folder(given: str) -> str | None:
    """The checkpoint folder beside `given` whose name is nearest to it, as the user would type it."""
    parent, name = os.path.split(given.rstrip("/"))
    place = Path(parent or ".").expanduser()
    if not place.is_dir():
        return None
    names = [entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)
    return os.path.join(parent, near[0]) if near else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        SourceError: no JSON, or no object; names the file and the line.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}", fix=_fetch_again(path)) from error
    if not isinstance(record, dict):
        raise SourceError(f"{path} holds a {type(record).__name__}: expected a JSON object", fix=_fetch_again(path))
    return record


def check_checkpoint(folder: Path, shown: str) -> dict[str, Any]:
    """What `config.json` says, once config and weights are there and whole.

    Args:
        folder: The folder.
        shown: The folder or Hub id as the user gave it.

    Raises:
        SourceError: no config, no weights, weights of another framework, a truncated or corrupt file.
    """
    if not (folder / CONFIG).is_file():
        raise _without_config(folder, shown)
    config = read_json(folder / CONFIG)
    for path in _weight_files(folder, shown):
        _check_weights(path)
    return config


def _without_config(folder: Path, shown: str) -> SourceError:
    if not any(folder.iterdir()):
        return SourceError(f"{shown} is empty: expected {CONFIG}, weights and tokenizer files", fix=f"ls {shown}")
    inner = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if inner:
        return SourceError(
            f"{shown} holds no {CONFIG}, but its folders do: {', '.join(inner)}",
            fix=f"%onnx_export {shown.rstrip('/')}/{inner[-1]}",
        )
    return SourceError(
        f"{shown} holds no {CONFIG}: it is no Transformers checkpoint",
        fix="%onnx_export model inputs=(x,)  # for a plain module: build it, load its state_dict, export the variable",
    )


def _weight_files(folder: Path, shown: str) -> tuple[Path, ...]:
    for name in EXPECTED_WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        return tuple(_shards(path, shown)) if name.endswith(".index.json") else (path,)
    for name, framework in OTHER_FRAMEWORKS.items():
        if (folder / name).is_file():
            again = f"AutoModel.from_pretrained({shown!r}, from_{framework}=True).save_pretrained({shown!r})"
            raise SourceError(
                f"{shown} holds {name} only, which Transformers 5 no longer reads: expected {SAFETENSORS}",
                fix=f"{again}  # once, with transformers 4, to save it again for PyTorch",
            )
    raise SourceError(
        f"{shown} holds no weights: expected one of {', '.join(EXPECTED_WEIGHTS)}",
        fix=f"model.save_pretrained({shown!r})",
    )


def _shards(index: Path, shown: str) -> Iterator[Path]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise SourceError(f"{index} lists no weights: expected a weight_map", fix=_fetch_again(index))
    for name in sorted(set(map(str, table.values()))):
        if not (index.parent / name).is_file():
            raise SourceError(f"{shown} lacks the shard {name}, which {index.name} lists", fix=_fetch_again(index))
        yield index.parent / name


def _check_weights(path: Path) -> None:
    """Raise a SourceError unless the file's own structure is whole."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise SourceError(f"{path} is a Git LFS pointer, not the weights", fix=f"git -C {path.parent} lfs pull")
    check = _check_safetensors if path.suffix == ".safetensors" else _check_pickled
    check(path)


def _check_safetensors(path: Path) -> None:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            file.keys()
    except (safetensors.SafetensorError, OSError) as error:
        raise _corrupt(path) from error


def _check_pickled(path: Path) -> None:
    import pickle
    import zipfile

    import torch

    is_zip = zipfile.is_zipfile(path)
    try:
        # A zip's tensors are only mapped: this reads its table, and every record's header.
        torch.load(path, map_location="meta", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if not is_zip:
            raise _corrupt(path) from error
        raise SourceError(
            f"{path} holds more than tensors: loading it would run code of its author",
            fix=f"torch.save(model.state_dict(), {path.name!r})  # or model.save_pretrained(folder)",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise _corrupt(path) from error


def _corrupt(path: Path) -> SourceError:
    size = path.stat().st_size
    return SourceError(f"{path} is truncated or corrupt ({size:,} bytes)", fix=_fetch_again(path))


def _fetch_again(path: Path) -> str:
    return f"rm {path}  # then fetch or save it again"
