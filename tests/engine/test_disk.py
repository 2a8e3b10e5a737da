"""What the operating system says, in a sentence with a fix."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from onnx_magic.engine.disk import MARK, REASONS, check_space, shown_place, storage_errors
from onnx_magic.errors import StorageError


@pytest.mark.parametrize("number", sorted(n for n in REASONS if n > 0), ids=errno.errorcode.get)
def test_every_reason_is_a_sentence_with_a_fix(number: int) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(Path("there/out")):
        raise OSError(number, "as the system says it")
    assert caught.value.what == f"there/out cannot be written: {REASONS[number][0]}"
    assert caught.value.fix and "{" not in caught.value.fix
    assert isinstance(caught.value.__cause__, OSError)


def test_another_error_of_the_system_is_told_in_its_words() -> None:
    with pytest.raises(StorageError, match="strange"), storage_errors(Path("out")):
        raise OSError(errno.ENXIO, "strange")


def test_only_the_systems_errors_are_turned() -> None:
    with pytest.raises(ValueError), storage_errors(Path("out")):
        raise ValueError


def test_a_really_full_device() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StorageError, match="the disk is full"), storage_errors(full):
        full.write_bytes(b"x")


def test_staging_folders_are_not_shown() -> None:
    assert shown_place(Path(f"a/.bert-onnx{MARK}12/export")) == Path("a/bert-onnx/export")
    assert shown_place(Path("a/.hidden/b")) == Path("a/.hidden/b")


def test_room_on_the_disk(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(StorageError, match=r"the export needs about 1000000000.00 GB") as caught:
        check_space(tmp_path, 10**18)
    assert caught.value.fix.startswith("df -h")
