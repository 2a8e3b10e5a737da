"""Moving a set of files into a folder so that it is there as a whole or not at all.

Old files are linked into the staging folder first, and a journal names what will be touched. An exception moves them
back at once; after a kill the next export does (`take_back`). The journal's end is the commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

JOURNAL = ".journal.json"
BACKUP = ".before"


def files_of(staging: Path) -> tuple[str, ...]:
    """What was staged, as POSIX paths relative to it, sorted."""
    files = (path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
    return tuple(sorted(path.as_posix() for path in files if path.parts[0] not in (JOURNAL, BACKUP)))


def is_inside(name: str) -> bool:
    """Whether a relative name stays in its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def move(staging: Path, folder: Path, names: Sequence[str], *, obsolete: Sequence[str] = ()) -> None:
    """Move `names` from `staging` to `folder`, in their order, and take `obsolete` away; all of it or nothing.

    Raises:
        OSError: it could not be done; the folder is as it was.
    """
    is_new_folder = not folder.is_dir()
    touched = (*names, *(name for name in obsolete if (folder / name).is_file()))
    backup = staging / BACKUP
    for name in touched:
        if (folder / name).is_file():
            _link(folder / name, backup / name)
    journal = {"new_folder": is_new_folder, "touched": touched}
    (staging / JOURNAL).write_text(json.dumps(journal), encoding="utf-8")
    try:
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, target)
        for name in touched[len(names) :]:
            (folder / name).unlink()
        (staging / JOURNAL).unlink()
    except BaseException:
        take_back(staging, folder)
        raise


def take_back(staging: Path, folder: Path) -> None:
    """Undo a move that did not reach its end; does nothing where there was none."""
    try:
        journal = json.loads((staging / JOURNAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # no journal, or only a part of it: nothing was moved yet
    for name in reversed(journal["touched"]):
        if not is_inside(name):
            continue
        before = staging / BACKUP / name
        if before.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(before, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
            _remove_if_empty((folder / name).parent, folder)
    if journal["new_folder"]:
        _remove_if_empty(folder, folder.parent)
    (staging / JOURNAL).unlink(missing_ok=True)


def _remove_if_empty(folder: Path, stop: Path) -> None:
    while folder != stop:
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()
        folder = folder.parent


def _link(old: Path, backup: Path) -> None:
    """Keep the old file under a second name; a copy where the file system has no links."""
    backup.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, backup)
    except OSError:
        shutil.copy2(old, backup)


def is_alive(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if os.name == "nt":
        import ctypes

        query = 0x1000  # PROCESS_QUERY_LIMITED_INFORMATION; os.kill(pid, 0) would end the process on Windows
        handle = ctypes.windll.kernel32.OpenProcess(query, False, process)  # type: ignore[attr-defined]
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)  # type: ignore[attr-defined]
        return bool(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
