"""Memory on huge pages: it is moved where Linux can, and holds what it held; elsewhere nothing happens."""

from __future__ import annotations

import mmap
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.runtime import sessions
from onnx_magic.runtime.huge_pages import large_regions, move_to_huge_pages

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_bytes(address: int) -> int:
    """Of the mapping that an address is in, what lies on huge pages."""
    here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(head[1], 16) <= address < int(head[2], 16)
        elif here and line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 1), reason="MADV_COLLAPSE is Linux 6.1's"
)
@pytest.mark.skipif(
    not SETTING.is_file() or "[madvise]" not in SETTING.read_text(), reason="this kernel does not wait to be asked"
)
def test_what_was_taken_since_is_moved_and_stays_what_it_is() -> None:
    before = large_regions()
    # NumPy asks for huge pages itself
    memory = mmap.mmap(-1, 1 << 26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(memory, np.float64)
    array[:] = np.arange(array.size)
    taken = large_regions() - before
    address = array.ctypes.data
    assert any(begin <= address < end for begin, end in taken) and huge_bytes(address) == 0
    assert move_to_huge_pages(taken) >= array.nbytes
    assert huge_bytes(address) >= array.nbytes // 2
    np.testing.assert_array_equal(array, np.arange(array.size))


def test_a_place_that_is_gone_and_none_at_all() -> None:
    assert move_to_huge_pages([(1 << 40, (1 << 40) + (1 << 23))]) == 0 and move_to_huge_pages([]) == 0


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert large_regions() == frozenset()


def test_a_session_asks_once_after_many_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.graphs import chain

    asked: list[Any] = []
    monkeypatch.setattr(sessions, "move_to_huge_pages", asked.append)
    session = sessions.open_graph(chain(tmp_path / "m.onnx"))
    assert session.places == frozenset(), "a small graph's weights are not looked for"
    session.places = frozenset({(0, 1)})
    for _ in range(3 * sessions.MANY_STEPS):
        session.count_step()
    until = time.monotonic() + 60
    while not asked and time.monotonic() < until:
        time.sleep(0.01)
    assert asked == [frozenset({(0, 1)})]
