"""Numbers, sizes, paths and names as people read them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from onnx_magic.display import wording


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "≤ 1e-6"),
        (1e-12, "≤ 1e-6"),
        (9.9e-7, "≤ 1e-6"),
        (1e-6, "≤ 1e-6"),
        (1.01e-6, "≤ 1e-5"),
        (float(np.float32(1e-3)), "≤ 1e-3"),
        (1.1e-3, "≤ 0.01"),
        (-0.34, "≤ 1"),
        (1.0, "≤ 1"),
        (999.0, "≤ 1000"),
        (1001.0, "≤ 1e6"),
        (1e30, "> 1e9"),
        (math.inf, "∞"),
        (-math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_at_most(value: float, expected: str) -> None:
    assert wording.at_most(value) == expected


def test_at_most_never_understates() -> None:
    for value in np.logspace(-9, 9, 400):
        assert value <= float(wording.at_most(value).removeprefix("≤ ")) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0000001, "≥ 0.99999"),
        (0.99999, "≥ 0.99999"),
        (0.999989, "≥ 0.9999"),
        (0.99, "≥ 0.99"),
        (0.49, "≥ 0"),
        (-0.01, "< 0"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_at_least(value: float, expected: str) -> None:
    assert wording.at_least(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (-0.0004, "0.000"),
        (-0.0006, "-0.001"),
        (9.9999, "10.00"),
        (99.996, "100.0"),
        (999.96, "1000"),
        (-12.345, "-12.35"),
        (1e-30, "0.000"),
        (1e30, "1e+30"),
        (math.nan, "nan"),
        (-math.inf, "-∞"),
    ],
)
def test_number(value: float, expected: str) -> None:
    assert wording.number(value) == expected


def test_numbers_have_four_significant_digits_at_most() -> None:
    for value in np.geomspace(1e-6, 1e12, 300):
        digits = wording.number(value).split("e")[0].replace(".", "").lstrip("0")
        assert len(digits.rstrip("0") or "0") <= 4, value


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (1_850_000_000, "1.85 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_size(count: int, expected: str) -> None:
    assert wording.size(count) == expected


def test_paths_are_relative_within_the_current_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert wording.path_text(here / "mini-onnx" / "onnx" / "model.onnx") == "mini-onnx/onnx/model.onnx"
    assert wording.path_text(tmp_path / "other") == (tmp_path / "other").as_posix()
    assert wording.path_text(Path("../other")) == "../other"
    assert wording.path_text(here) == "."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name", "plain name"),
        ("北京 é ü 😀", "北京 é ü 😀"),
        ("two\nlines\ttab\r", "two\\nlines\\ttab\\r"),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("safe\u202egnp.exe", "safe\\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028para\u2029", "line\\u2028para\\u2029"),
        ("lone\udc80", "lone\\udc80"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_visible(text: str, expected: str) -> None:
    assert wording.visible(text) == expected


def test_shorten_cuts_the_middle() -> None:
    assert wording.shorten("abcdefghij", 10) == "abcdefghij"
    assert wording.shorten("abcdefghijk", 10) == "abcde…hijk"
    assert [len(wording.shorten("x" * 10_000, limit)) for limit in (1, 2, 60)] == [1, 2, 60]
    cut = wording.shown("head" + "\n" * 10_000 + "tail", 40)
    assert cut.startswith("head") and cut.endswith("tail") and len(cut) == 40


def test_width_counts_terminal_columns() -> None:
    assert [wording.width(text) for text in ("abc", "北京", "e\u0301", "≤ ×")] == [3, 4, 1, 3]


@pytest.mark.parametrize(("value", "expected"), [(1e-4, "1e-4"), (1e-5, "1e-5"), (2.5e-3, "2.5e-3"), (0.0, "0")])
def test_tolerance(value: float, expected: str) -> None:
    assert wording.tolerance(value) == expected
