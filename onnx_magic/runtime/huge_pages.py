"""Weights that are read at every step, moved to huge pages: Linux does that where it is asked to.

A decoder of 500 MB is read as a whole for each token; in pages of 4 KB, looking up where they lie costs more than a
tenth of the time (GPT-2, batch 1, one thread: 48 to 56 tokens a second). Pages are moved behind the process's back: no
address and no value changes. https://docs.kernel.org/admin-guide/mm/transhuge.html
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TypeAlias

Region: TypeAlias = tuple[int, int]

SMALLEST = 1 << 22
"""In bytes: two huge pages on most machines."""

_MAPS = Path("/proc/self/maps")
_HUGEPAGE, _COLLAPSE = 14, 25  # MADV_HUGEPAGE: from now on; MADV_COLLAPSE (Linux 6.1): what is there already, at once
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0\s*(?:\[heap\])?")


def large_regions() -> frozenset[Region]:
    """Begin and end of each large piece of the process's memory that no file stands behind; none but on Linux.

    Example:
        >>> all(end - begin >= SMALLEST for begin, end in large_regions())
        True
    """
    if not sys.platform.startswith("linux") or not _MAPS.is_file():
        return frozenset()
    found = (_ANONYMOUS.fullmatch(line) for line in _MAPS.read_text().splitlines())
    places = ((int(match[1], 16), int(match[2], 16)) for match in found if match)
    return frozenset((begin, end) for begin, end in places if end - begin >= SMALLEST)


def move_to_huge_pages(places: Collection[Region]) -> int:
    """Ask Linux to hold these places in huge pages, and to move what they hold at once; about 2 s a gigabyte.

    A place that is gone, or a kernel that has none, is passed over: it is advice.

    Returns:
        Bytes of the places where it was done.
    """
    if not places:
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    moved = 0
    for begin, end in places:
        asked = advise(begin, end - begin, _HUGEPAGE) == 0
        if advise(begin, end - begin, _COLLAPSE) == 0 and asked:
            moved += end - begin
    return moved
