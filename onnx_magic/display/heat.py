"""Closeups as PNG pictures within the page: blue within the tolerance, red beyond it; the same bytes on every machine.

A colour stands for a decade of the difference as a multiple of the tolerance, and all below a hundredth of it has one
colour: rounding noise, which is another on every machine, leaves the picture of a model that agrees as it is. The PNG
is written here, its data stored and not compressed: zlib's versions compress to other bytes.
"""

from __future__ import annotations

import base64
import struct
import zlib

from onnx_magic.records.closeups import NOT_COUNTED, Closeup

PALETTE = ("#c6dbef", "#6baed6", "#2f7ebc", "#f4a07a", "#e0483f", "#8b0a1e")
"""Colours of the levels 0 to 5; what does not count can be seen through."""

_CLEAR = len(PALETTE)
_LONGEST, _LARGEST = 128, 16
"""Pixels: of a side at the most, of a cell at the most."""


def picture_size(closeup: Closeup) -> tuple[int, int]:
    """Width and height in pixels at which a closeup is shown."""
    width, height = (count * min(_LONGEST // max(count, 1), _LARGEST) for count in (closeup.columns, closeup.rows))
    return width, height


def png_uri(closeup: Closeup) -> str:
    """`data:image/png;base64,...`: a pixel per cell."""
    return "data:image/png;base64," + base64.b64encode(png(closeup)).decode("ascii")


def png(closeup: Closeup) -> bytes:
    """A PNG of a pixel per cell, 4 bits each, with the palette above.

    Example:
        >>> png(Closeup(1, 2, bytes([0, 5])))[1:4]
        b'PNG'
    """
    colours = [*PALETTE, "#000000"]
    header = struct.pack(">IIBBBBB", closeup.columns, closeup.rows, 4, 3, 0, 0, 0)
    rows = b"".join(_scanline(closeup.levels[at : at + closeup.columns]) for at in _starts(closeup))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", b"".join(bytes.fromhex(colour[1:]) for colour in colours)),
            _chunk(b"tRNS", b"\xff" * _CLEAR + b"\x00"),
            _chunk(b"IDAT", _stored(rows)),
            _chunk(b"IEND", b""),
        )
    )


def _starts(closeup: Closeup) -> range:
    return range(0, closeup.rows * closeup.columns, max(closeup.columns, 1))


def _scanline(levels: bytes) -> bytes:
    """One row: filter 0, then two pixels a byte."""
    pixels = [_CLEAR if level == NOT_COUNTED else min(level, _CLEAR - 1) for level in levels]
    pixels += [0] * (len(pixels) % 2)
    return bytes([0, *(left << 4 | right for left, right in zip(pixels[::2], pixels[1::2], strict=True))])


def _stored(data: bytes) -> bytes:
    """A zlib stream of one stored block: at most 64 × 33 bytes, far below the 65,535 that it may hold."""
    block = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF)
    return b"\x78\x01" + block + data + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
