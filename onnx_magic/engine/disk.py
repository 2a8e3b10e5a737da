"""What the operating system says about the disk, as StorageErrors."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from onnx_magic.errors import StorageError

MARK = ".onnx_magic-"
"""Staging folders are called `.<name>.onnx_magic-<process id>-<process token>-<random>`."""

_ELSEWHERE = "output=~/{name}"
REASONS = {
    errno.ENOSPC: ("the disk is full", "df -h {place}"),
    getattr(errno, "EDQUOT", -1): ("the disk quota is used up", "df -h {place}"),
    errno.EFBIG: ("a file is larger than allowed here", "ulimit -f unlimited"),
    errno.EIO: ("the disk reports an input/output error", "output=<a folder on another disk>"),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("it is not writable", _ELSEWHERE),
    errno.EPERM: ("it is not writable", _ELSEWHERE),
    errno.ENOENT: ("no folder can be made there", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the path is too long", "output=model-onnx"),
    errno.ENOTDIR: ("a part of the path is a file", _ELSEWHERE),
    errno.EEXIST: ("a part of the path is a file", _ELSEWHERE),
}
"""Error number → what it means for an output folder, and what to do."""


@contextlib.contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn the operating system's errors of the block into StorageErrors about `place`.

    Raises:
        StorageError: with the OSError as its cause.

    Example:
        >>> with storage_errors(Path("out")):
        ...     pass
    """
    try:
        yield
    except OSError as error:
        reason, fix = REASONS.get(error.errno or 0, (str(error), _ELSEWHERE))
        shown = shown_place(place)
        raise StorageError(
            f"{shown} cannot be written: {reason}", fix=fix.format(place=shown.parent, name=shown.name)
        ) from error


def shown_place(place: Path) -> Path:
    """A path in a staging folder, as the path it is to become.

    Example:
        >>> shown_place(Path("out/.bert-onnx.onnx_magic-123/onnx")).as_posix()
        'out/bert-onnx/onnx'
    """
    parts = [part[1:].partition(MARK)[0] if part.startswith(".") and MARK in part else part for part in place.parts]
    return Path(*parts)


def check_space(place: Path, needed: int, told: Path | None = None) -> None:
    """Compare the room on the disk of `place` with the bytes that are about to be written.

    Args:
        place: A folder that is there.
        needed: The bytes.
        told: The folder as the user gave it.

    Raises:
        StorageError: there is less.
    """
    free = shutil.disk_usage(place).free
    told = told or shown_place(place)
    if free < needed:
        raise StorageError(
            f"the disk of {told} has {_size(free)}, the export needs about {_size(needed)}",
            fix=f"df -h {told.parent}  # make room, or output=<a folder on another disk>",
        )


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
