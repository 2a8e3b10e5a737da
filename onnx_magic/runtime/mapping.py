"""An .onnx file whose weights are read where they lie: mapped into memory by ONNX Runtime, not copied before.

ONNX Runtime parses a file with weights in it as a whole, and copies them out of what it parsed: twice their size for a
while. It maps weights that lie in another file. Nothing says that this file is another one: the graph is handed over
as bytes that name places in the very file it comes from.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from onnx_magic.errors import GraphFileError
from onnx_magic.runtime.protobuf import Buffer, Malformed, fields, number_at, text, wrap

SMALLEST_FILE: Final = 1 << 24
"""In bytes. Below it copies cost less than is worth a second way of loading."""
SMALLEST: Final = 1 << 16
"""In bytes. Smaller tensors stay in the graph: each mapped one is a system call."""
MAX_DEPTH: Final = 60

Use: TypeAlias = tuple[str, int]

SAFE_USES: Final = frozenset({("MatMul", 1), ("Gemm", 1), ("Gather", 0), ("Transpose", 0)})
"""Operator and input: those that read float32 at any address, since values in a protobuf are not aligned."""

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_FLOAT: Final = 1


class MappedFile:
    """A graph as bytes, and the file that its weights lie in.

    Args:
        path: The file, links followed.
        proto: A ModelProto without its large weights.

    Example:
        >>> mapped = map_file(Path("gpt2-onnx/onnx/model.onnx"))  # doctest: +SKIP
        >>> len(mapped.proto)  # doctest: +SKIP
        896310
    """

    def __init__(self, path: Path, proto: bytes) -> None:
        self.path, self.proto = path, proto
        # Held open: a file that is moved into this one's place is another one, and what is mapped stays as it is.
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._state = self._look()

    def check(self) -> None:
        """Raise a GraphFileError if the file was written over: what is mapped is no longer what was opened.

        Reading weights beyond the end of a file that was cut off would end the process.
        """
        if self._look() != self._state:
            raise GraphFileError(
                f"{self.path} was written over since it was opened",
                fix=f"exported = onnx_magic.load({self.path.name!r})",
            )

    def _look(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns


def map_file(path: Path) -> MappedFile | None:
    """The file as ONNX Runtime maps it; `None` where that is not worth it, or not possible.

    Not on Windows, where a file that is mapped cannot be replaced; not where weights lie beside the file already.
    """
    if os.name != "posix" or not path.is_file() or path.stat().st_size < SMALLEST_FILE:
        return None
    path = path.resolve()  # ONNX Runtime refuses a link out of the folder, as those of the Hub's cache are
    try:
        proto = _rewritten(path, lambda weight, uses: weight.dtype == _FLOAT and bool(uses) and uses <= SAFE_USES)
    except Malformed:
        return None  # ONNX Runtime says what is wrong with it
    return None if proto is None else MappedFile(path, proto)


def without_weights(path: Path) -> bytes | None:
    """A ModelProto whose large weights name their place in this file; `None` where weights lie beside it already.

    Raises:
        Malformed: it is no protobuf, or is cut off.
    """
    return _rewritten(path, lambda weight, uses: True)


class _Weight:
    """An initializer as it lies in the file: its values' place, and all but them."""

    def __init__(self, view: Buffer, begin: int, end: int) -> None:
        self.name, self.dtype, self.outside = "", 0, False
        self.begin = self.end = 0
        kept = []
        for number, start, at, stop in fields(view, begin, end):
            if number == 9:
                self.begin, self.end = at, stop
                continue
            kept.append(bytes(view[start:stop]))
            if number == 2:
                self.dtype = number_at(view, at, stop)
            elif number == 8:
                self.name = text(view, at, stop)
            elif number == 14:
                self.outside = number_at(view, at, stop) == 1
        self.head = b"".join(kept)

    def placed(self, name: str) -> bytes:
        """The initializer, its values left in the file of that name."""
        place = {"location": name, "offset": str(self.begin), "length": str(self.end - self.begin)}
        told = (wrap(1, key.encode()) + wrap(2, value.encode()) for key, value in place.items())
        return wrap(_INITIALIZER, self.head + b"".join(wrap(13, pair) for pair in told) + b"\x70\x01")


def _rewritten(path: Path, moves: Callable[[_Weight, set[Use]], bool]) -> bytes | None:
    """The model with the weights that are to move named by their place; `None` where there is nothing to move."""
    moved, parts = 0, []
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held,
        memoryview(held) as view,
    ):
        for number, start, begin, end in fields(view, 0, len(view)):
            if number != _GRAPH:
                parts.append(bytes(view[start:end]))
                continue
            uses, kept = _uses(view, begin, end), []
            for inner, at, first, last in fields(view, begin, end):
                weight = _Weight(view, first, last) if inner == _INITIALIZER else None
                if weight is not None and weight.outside:
                    return None
                if weight is not None and weight.end - weight.begin >= SMALLEST and moves(weight, uses[weight.name]):
                    kept.append(weight.placed(path.name))
                    moved += 1
                else:
                    kept.append(bytes(view[at:last]))
            parts.append(wrap(_GRAPH, b"".join(kept)))
    return b"".join(parts) if moved else None


def _uses(view: Buffer, begin: int, end: int) -> defaultdict[str, set[Use]]:
    """Value → where it goes in: operator and number of the input, subgraphs included."""
    found: defaultdict[str, set[Use]] = defaultdict(set)
    for number, _, at, stop in fields(view, begin, end):
        if number == 12:
            found[_name_of(view, at, stop)].add(("", 0))  # the graph gives it out as it is
    for name, use in _uses_in(view, begin, end, 0):
        found[name].add(use)
    return found


def _uses_in(view: Buffer, begin: int, end: int, depth: int) -> Iterator[tuple[str, Use]]:
    if depth > MAX_DEPTH:
        raise Malformed("subgraphs nest too deep")
    for number, _, first, last in fields(view, begin, end):
        if number != _NODE:
            continue
        inputs, operator, domain = [], "", ""
        for inner, _, at, stop in fields(view, first, last):
            if inner == 1:
                inputs.append(text(view, at, stop))
            elif inner == 4:
                operator = text(view, at, stop)
            elif inner == 7:
                domain = text(view, at, stop)
            elif inner == 5:
                for part, _, low, high in fields(view, at, stop):
                    if part in (6, 11):
                        yield from _uses_in(view, low, high, depth + 1)
        for index, name in enumerate(inputs):
            yield name, (f"{domain}.{operator}" if domain else operator, index)


def _name_of(view: Buffer, begin: int, end: int) -> str:
    return next((text(view, at, stop) for number, _, at, stop in fields(view, begin, end) if number == 1), "")
