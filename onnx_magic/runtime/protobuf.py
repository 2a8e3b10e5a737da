"""Protobuf messages as they lie in a file: their fields one after the other, without reading what is not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Buffer: TypeAlias = "memoryview"


class Malformed(ValueError):
    """Bytes that are no protobuf, or no graph of a sound depth."""


def entry(view: Buffer, begin: int, end: int) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto."""
    found = {number: text(view, at, stop) for number, _, at, stop in fields(view, begin, end)}
    return found.get(1, ""), found.get(2, "")


def text(view: Buffer, begin: int, end: int) -> str:
    """A string; of one that is longer than a million bytes, its beginning."""
    return bytes(view[begin : min(end, begin + 1_000_000)]).decode("utf-8", "replace")


def number_at(view: Buffer, begin: int, end: int) -> int:
    """The value of a field that holds a number."""
    return _varint(view, begin, end)[0]


def wrap(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return _varint_bytes(number << 3 | 2) + _varint_bytes(len(payload)) + payload


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(view: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise Malformed(f"a number that does not end at byte {at}")


def fields(view: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message: number, where it starts, where its payload starts, where it ends."""
    while at < end:
        start = at
        key, at = _varint(view, at, end)
        kind, payload = key & 7, at
        if kind == 0:
            _, at = _varint(view, at, end)
        elif kind == 2:
            length, payload = _varint(view, at, end)
            at = payload + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise Malformed(f"wire type {kind} at byte {start}")
        if at > end or key >> 3 == 0:
            raise Malformed(f"a field that is cut off at byte {start}")
        yield key >> 3, start, payload, at
