"""A graph without its weights: an .onnx file of any size as some hundred kilobytes, by walking its protobuf in an mmap.

Field numbers are those of onnx.proto, which does not change them. Weights are skipped by their offsets, never read;
files beside the model are not opened. The file is untrusted: whatever is wrong in it is one error, `Malformed`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Final

from onnx_magic.runtime.protobuf import Buffer, Malformed, entry, fields, text, wrap

LIMIT = 256
"""Tensors with more bytes than that are left out: all of their values but shape, dtype and name."""
TEXT_LIMIT = 4096
"""Attributes with more bytes than that (an engine in a string, a table in a list) are left out too."""
MAX_DEPTH = 60
"""Subgraphs in subgraphs: no model goes so deep; what does is no model."""

MODULE_KEY, SOURCE_KEY, NUMBER_KEY = "PyTorch module", "source line", "highlight"

_EMBEDDED: Final = b"not embedded in this view"
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>[^\n]+)')
_MODEL_KEPT = frozenset({1, 2, 3, 4, 5, 8})
_BULK = frozenset({4, 7, 8, 9})
"""AttributeProto: a string, floats, ints, strings."""


def strip(data: bytes | memoryview, highlight: Mapping[str, float] | None = None) -> tuple[bytes, int]:
    """A ModelProto without weights, and how many bytes of weights lie in files beside it.

    Every node keeps of its metadata what a person reads: the PyTorch module and the source line that it came from.

    Args:
        data: The file; an mmap's memoryview for one that is large.
        highlight: Node name → number, noted in that node's metadata.

    Raises:
        Malformed: it is no protobuf message.

    Example:
        >>> strip(b"\\x08\\x0a")
        (b'\\x08\\n', 0)
    """
    walker = _Walker(highlight or {})
    with memoryview(data) as view:
        parts = []
        for number, start, begin, end in fields(view, 0, len(view)):
            if number == 7:
                parts.append(wrap(7, walker.graph(view, begin, end, 0)))
            elif number == 25:
                parts.append(wrap(25, walker.function(view, begin, end)))
            elif number in _MODEL_KEPT:
                parts.append(bytes(view[start:end]))
    return b"".join(parts), walker.outside


class _Walker:
    """Rewrites the messages of one model; counts the bytes of weights in other files."""

    def __init__(self, highlight: Mapping[str, float]) -> None:
        self.highlight = highlight
        self.outside = 0

    def graph(self, view: Buffer, begin: int, end: int, depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise Malformed("subgraphs nest too deep")
        parts = []
        for number, start, at, stop in fields(view, begin, end):
            if number == 1:
                parts.append(wrap(1, self.node(view, at, stop, depth)))
            elif number == 5:
                parts.append(wrap(5, self.tensor(view, at, stop)))
            elif number == 15:
                parts.append(wrap(15, self.sparse(view, at, stop)))
            elif number not in (10, 16):  # doc_string and metadata of the graph may hold paths
                parts.append(bytes(view[start:stop]))
        return b"".join(parts)

    def function(self, view: Buffer, begin: int, end: int) -> bytes:
        parts = []
        for number, start, at, stop in fields(view, begin, end):
            if number == 7:
                parts.append(wrap(7, self.node(view, at, stop, 0)))
            elif number == 11:
                parts.append(wrap(11, self.attribute(view, at, stop, 0)))
            elif number not in (8, 14):
                parts.append(bytes(view[start:stop]))
        return b"".join(parts)

    def node(self, view: Buffer, begin: int, end: int, depth: int) -> bytes:
        parts, notes, name = [], dict[str, str](), ""
        for number, start, at, stop in fields(view, begin, end):
            if number == 5:
                parts.append(wrap(5, self.attribute(view, at, stop, depth)))
            elif number == 9:
                key, value = entry(view, at, stop)
                notes[key] = value
            elif number != 6:
                parts.append(bytes(view[start:stop]))
            if number == 3:
                name = text(view, at, stop)
        for key, value in self._shown(notes, name):
            parts.append(wrap(9, wrap(1, key.encode()) + wrap(2, value.encode("utf-8", "replace"))))
        return b"".join(parts)

    def _shown(self, notes: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
        if module := module_path(notes.get("pkg.torch.onnx.name_scopes", "")):
            yield MODULE_KEY, module
        if line := source_line(notes.get("pkg.torch.onnx.stack_trace", "")):
            yield SOURCE_KEY, line
        if name in self.highlight:
            yield NUMBER_KEY, f"{self.highlight[name]:g}"

    def attribute(self, view: Buffer, begin: int, end: int, depth: int) -> bytes:
        parts = []
        for number, start, at, stop in fields(view, begin, end):
            if number in (5, 10):
                parts.append(wrap(number, self.tensor(view, at, stop)))
            elif number in (6, 11):
                parts.append(wrap(number, self.graph(view, at, stop, depth + 1)))
            elif number in (22, 23):
                parts.append(wrap(number, self.sparse(view, at, stop)))
            elif number in _BULK and stop - at > TEXT_LIMIT:
                if number == 4:
                    parts.append(wrap(4, _EMBEDDED))
            elif number != 13:
                parts.append(bytes(view[start:stop]))
        return b"".join(parts)

    def sparse(self, view: Buffer, begin: int, end: int) -> bytes:
        parts = []
        for number, start, at, stop in fields(view, begin, end):
            kept = wrap(number, self.tensor(view, at, stop)) if number in (1, 2) else bytes(view[start:stop])
            parts.append(kept)
        return b"".join(parts)

    def tensor(self, view: Buffer, begin: int, end: int) -> bytes:
        """A small tensor as it is, of a large one dims, data_type and name; nothing of where its values lie."""
        head, values, size, outside = [], [], 0, False
        for number, start, at, stop in fields(view, begin, end):
            if number in (1, 2, 8):
                head.append(bytes(view[start:stop]))
            elif number in (4, 5, 6, 7, 9, 10, 11):
                size += stop - at
                if size <= LIMIT:
                    values.append(bytes(view[start:stop]))
            elif number == 13:
                key, value = entry(view, at, stop)
                self.outside += int(value) if key == "length" and value.isdecimal() and len(value) < 19 else 0
            elif number == 14:
                outside = outside or bytes(view[at:stop]) == b"\x01"
        if size <= LIMIT and not outside:
            return b"".join(head + values)
        place = wrap(1, b"location") + wrap(2, _EMBEDDED)
        return b"".join(head) + wrap(13, place) + b"\x70\x01"  # data_location = EXTERNAL


def module_path(scopes: str) -> str:
    """The module of a node from the exporter's list of scopes, the last of which is the node itself.

    Example:
        >>> module_path("['', 'bert', 'bert.pooler', 'linear']")
        'bert.pooler'
    """
    try:
        names = ast.literal_eval(scopes) if len(scopes) < 100_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ""
    return next((name for name in reversed(names[:-1]) if name), "")


def source_line(trace: str) -> str:
    """The innermost line of a trace; of a file elsewhere only the file's own name, for paths are nobody's business.

    Example:
        >>> source_line("models/bert.py:12 in forward\\nmodels/bert.py:40 in attend")
        'models/bert.py:40 in attend'
    """
    frames = list(_FRAME.finditer(trace))
    if frames:
        last = frames[-1]
        file = last["file"].replace("\\", "/").rpartition("/")[2]
        return f"{file}:{last['line']} in {last['function'].strip()}"
    line = (trace.strip().splitlines() or [""])[-1].strip()
    return "" if line.startswith(("/", "\\")) or line[1:3] in (":\\", ":/") else line[:300]
