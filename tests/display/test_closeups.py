"""Closeups in words and pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any

import pytest
from PIL import Image

from onnx_magic.display.bundles import bundle
from onnx_magic.display.closeups import first_looks, looks_of
from onnx_magic.display.heat import PALETTE, picture_size, png, png_uri
from onnx_magic.records.closeups import NOT_COUNTED, Closeup, Spot


def pixels(closeup: Closeup) -> list[list[tuple[int, ...]]]:
    image = Image.open(io.BytesIO(png(closeup))).convert("RGBA")
    assert image.size == (closeup.columns, closeup.rows)
    return [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]  # type: ignore[misc]


def rgba(colour: str) -> tuple[int, ...]:
    return (*bytes.fromhex(colour[1:]), 255)


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 64])
def test_the_picture_has_each_level_in_its_place(columns: int) -> None:
    levels = bytes((at * 5 + at // columns) % 6 for at in range(3 * columns))
    found = pixels(Closeup(3, columns, levels))
    assert [value for row in found for value in row] == [rgba(PALETTE[level]) for level in levels]


def test_padding_is_seen_through() -> None:
    assert pixels(Closeup(1, 2, bytes([NOT_COUNTED, 0])))[0][0][3] == 0


def test_blue_is_within_and_red_is_beyond() -> None:
    for level, colour in enumerate(PALETTE):
        red, _, blue = bytes.fromhex(colour[1:])
        assert (red > blue) == (level > 2), (level, colour)


def test_the_largest_picture_is_small_and_shown_large_enough() -> None:
    assert len(png_uri(Closeup(64, 64, bytes(64 * 64)))) < 3200
    assert picture_size(Closeup(64, 64, b"")) == (128, 128) and picture_size(Closeup(1, 3, b"")) == (48, 16)


def test_the_bytes_are_those_of_every_zlib() -> None:
    """Stored, not compressed: the golden HTML holds them, too."""
    assert base64.b64encode(png(Closeup(1, 2, bytes([0, 5])))).decode().startswith("iVBORw0KGgoAAAANSUhEUgAAAAIAAAAB")


def test_a_broken_export_is_red_at_its_worst_place(build: Any, page: Any) -> None:
    shown = bundle(build("closely"))
    assert "✗ 1 of 8 values beyond the tolerance, worst at [2, 3]" in shown["text/plain"]
    assert "1.65 ✗" in shown["text/plain"]
    (alt,) = (value for _, name, value in page(shown["text/html"]).attributes if name == "alt")
    assert alt == "heat map of the difference of logits: ✗ 1 of 8 values beyond the tolerance, worst at [2, 3]"
    closeup = build("closely").diffs[0].closeup
    assert pixels(closeup)[2][3] == rgba(PALETTE[5]) and pixels(closeup)[0][0] == rgba(PALETTE[0])
    good = bundle(build("agreeing_closely"))["text/plain"]  # negative control
    assert "✗" not in good and "worst" not in good and "below a hundredth of the tolerance everywhere" in good


def test_the_worst_place_among_the_first_is_told_once(build: Any) -> None:
    (diff,) = build("closely").diffs
    spot = Spot((0, 0), 1.0, 2.0, False)
    closeup = dataclasses.replace(diff.closeup, first=(spot,), worst=spot)
    shown = bundle(dataclasses.replace(diff, closeup=closeup))["text/plain"]
    assert shown.count("2 ✗") == 1 and "worst [0, 0]" in shown


def test_failed_outputs_are_looked_at_first_and_each_once(build: Any) -> None:
    bad, good = build("closely"), build("agreeing_closely")
    (look,) = looks_of([good, bad, bad])
    assert not look.diff.passed and look.call == "call 1"
    other = dataclasses.replace(good, diffs=(dataclasses.replace(good.diffs[0], name="other"),))
    assert [look.diff.name for look in first_looks(looks_of([other, bad]))] == ["logits", "other"]
    assert len(first_looks(looks_of([other, bad]), 1)) == 1
