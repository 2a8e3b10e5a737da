"""A set of files is there as a whole or not at all, wherever it is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_magic.engine import committing

OLD = {"a": "old a", "sub/b": "old b", "gone": "old gone", "users/own": "never touched"}
NEW = {"a": "new a", "sub/b": "new b", "sub/deep/c": "new c"}
AFTER = {**{k: v for k, v in OLD.items() if k != "gone"}, **NEW}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def folders(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_dir()}


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    write(tmp_path / "staging", NEW)
    return tmp_path / "staging"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "folder", OLD)
    return tmp_path / "folder"


def test_all_is_moved_and_the_obsolete_is_taken_away(staging: Path, folder: Path) -> None:
    names = committing.files_of(staging)
    assert names == tuple(sorted(NEW))
    committing.move(staging, folder, names, obsolete=("gone", "never-was"))
    assert read(folder) == AFTER
    committing.take_back(staging, folder)
    assert read(folder) == AFTER  # a move that reached its end is not taken back


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("cut", range(5))
def test_cut_off_anywhere_it_is_as_it_was(
    cut: int, error: type[BaseException], staging: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cut_off(monkeypatch, cut, error)
    with pytest.raises(error):
        committing.move(staging, folder, committing.files_of(staging), obsolete=("gone",))
    assert read(folder) == OLD and folders(folder) == {"sub", "users"}


def _cut_off(monkeypatch: pytest.MonkeyPatch, cut: int, error: type[BaseException]) -> None:
    """The (cut + 1)th rename or removal raises: 3 renames, 1 removal, then the journal's."""
    done = 0

    def counted(real: object) -> object:
        def step(*args: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done == cut + 1:
                raise error
            return real(*args, **options)  # type: ignore[operator]

        return step

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


def test_a_new_folder_is_gone_again(staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cut_off(monkeypatch, 2, OSError)
    with pytest.raises(OSError):
        committing.move(staging, tmp_path / "fresh", committing.files_of(staging))
    assert not (tmp_path / "fresh").exists()


def test_without_links_files_are_copied(staging: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    _cut_off(monkeypatch, 3, OSError)
    with pytest.raises(OSError):
        committing.move(staging, folder, committing.files_of(staging), obsolete=("gone",))
    assert read(folder) == OLD


KILLED = """
import os, signal, sys
from pathlib import Path
from onnx_magic.engine import committing
staging, folder, cut = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
replace, done = os.replace, 0
def step(*args):
    global done
    if done == cut:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    replace(*args)
os.replace = step
committing.move(staging, folder, committing.files_of(staging), obsolete=("gone",))
"""


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_killed_in_the_middle_it_can_be_taken_back(cut: int, staging: Path, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(staging), str(folder), str(cut)], timeout=60)
    assert done.returncode == -9
    assert (read(folder) != OLD) == (cut > 0)  # it was really in the middle
    committing.take_back(staging, folder)
    assert read(folder) == OLD and folders(folder) == {"sub", "users"}


def test_a_journal_is_untrusted(staging: Path, folder: Path) -> None:
    (folder.parent / "outside").write_text("stays")
    (staging / committing.JOURNAL).write_text('{"new_folder": false, "touched": ["../outside", "a"]}')
    committing.take_back(staging, folder)
    assert (folder.parent / "outside").exists() and not (folder / "a").exists()


def test_half_a_journal_means_nothing_was_moved(staging: Path, folder: Path) -> None:
    (staging / committing.JOURNAL).write_text('{"new_folder": fa')
    committing.take_back(staging, folder)
    assert read(folder) == OLD


@pytest.mark.parametrize(
    ("name", "inside"), [("a", True), ("a/b", True), ("../a", False), ("a/../../b", False), ("/a", False), ("", False)]
)
def test_names_stay_in_the_folder(name: str, inside: bool) -> None:
    assert committing.is_inside(name) == inside


def test_living_and_dead_processes() -> None:
    assert committing.is_alive(os.getpid())
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert not committing.is_alive(done.pid)
