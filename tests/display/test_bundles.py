"""Every record as text and as HTML: what it says, the same on every run, and no name can break out of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnx_magic.display.bundles import FORMATTED, blocks_of, bundle, shows
from onnx_magic.display.html import COLOURS
from onnx_magic.display.wording import width
from onnx_magic.records.artifact import ExportReport

ROOT = Path(__file__).parents[2]

TAGS = frozenset(
    "div table thead tbody tr th td span strong code br details summary img".split(),
)
ATTRIBUTES = frozenset({"style", "scope", "role", "tabindex", "aria-label", "src", "alt", "width", "height"})
NASTY = {
    "image": "<img src=x onerror=alert(1)>",
    "script": "</script><script>alert(1)</script>",
    "quotes": "\"'><b onmouseover='alert(1)'>&lt;",
    "long": "encoder_" + "x" * 10_000 + "_tail",
    "chinese": "输入张量" * 3,
    "newlines": "first\nsecond\r\nthird",
    "escapes": "\x1b[31mred\x1b[0m\x07",
    "direction": "safe\u202egnp.exe",
    "surrogate": "lone\udc80",
}

FORBIDDEN = ("<style", "<svg", "<script", "<iframe", " id=", " class=", "onerror=", "javascript:", "url(")


def test_every_rendering_is_the_golden_one(sample: tuple[str, object], golden: Callable[[str, str], None]) -> None:
    name, record = sample
    shown = bundle(record)
    assert set(shown) == {"text/plain", "text/html"}
    golden(f"{name}.txt", shown["text/plain"] + "\n")
    golden(f"{name}.html", shown["text/html"] + "\n")


def test_text_fits_a_terminal(sample: tuple[str, object]) -> None:
    lines = bundle(sample[1])["text/plain"].splitlines()
    assert lines and not any("\x1b" in line for line in lines)
    too_wide = [line for line in lines if width(line) > 100 and not line.lstrip().startswith("fix:")]
    assert not too_wide


def test_html_is_made_of_what_sanitizers_keep(sample: tuple[str, object], page: Any) -> None:
    markup = bundle(sample[1])["text/html"]
    parsed = page(markup)
    assert set(parsed.tags) <= TAGS
    assert {name for _, name, _ in parsed.attributes} <= ATTRIBUTES
    assert not [part for part in FORBIDDEN if part in markup]
    pictures = [value for tag, name, value in parsed.attributes if tag == "img" and name == "src"]
    assert len(pictures) == parsed.tags.count("img")
    assert all(re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", picture) for picture in pictures)


def test_html_can_be_read_by_a_screen_reader_and_by_keyboard(sample: tuple[str, object], page: Any) -> None:
    parsed = page(bundle(sample[1])["text/html"])
    scopes = [value for tag, name, value in parsed.attributes if tag == "th" and name == "scope"]
    assert len(scopes) == parsed.tags.count("th")
    regions = [value for _, name, value in parsed.attributes if name == "aria-label"]
    assert len(regions) == sum(name == "tabindex" for _, name, _ in parsed.attributes)
    assert len(regions) + parsed.tags.count("details") == parsed.tags.count("table") and all(regions)


def test_html_says_all_that_the_text_says_when_every_tag_is_gone(sample: tuple[str, object], page: Any) -> None:
    shown = bundle(sample[1])
    left = page(shown["text/html"]).words
    said = re.sub(r"█+|[─…]+.*", " ", shown["text/plain"])  # bars are bars
    missing = [word for word in said.split() if word not in left and word not in "·"]
    assert not missing
    tables = re.findall(r"(?<=[a-z0-9])(?:in|out)(?:int64|float32)", left)
    assert not tables, "cells ran together"


def test_a_stripped_row_still_reads_as_a_row(build: Callable[[str], object], page: Any) -> None:
    left = page(bundle(build("verified"))["text/html"]).words.splitlines()
    assert "input_ids in int64 batch_size (task) sequence_length (task)" in left
    assert "batch 1 1 × 14 ≤ 1e-6 ≥ 0.99999 1/1 ✓" in left
    assert left[0].startswith("✓ verified: ONNX Runtime agrees with PyTorch at 6 shapes, 5 of them never traced")


_ALL = """
import json, runpy, sys
records = runpy.run_path(sys.argv[1])["RECORDS"]
from onnx_magic.display.bundles import bundle
json.dump({name: bundle(make()) for name, make in records.items()}, sys.stdout)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"torch", "transformers", "onnx", "onnxruntime", "IPython"}, "display is light"
"""


def test_is_the_same_under_every_hash_seed(tmp_path: Path) -> None:
    script = tmp_path / "all.py"
    script.write_text(_ALL, encoding="utf-8")
    texts = [
        subprocess.run(
            [sys.executable, str(script), str(Path(__file__).with_name("conftest.py"))],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            cwd=ROOT,
            check=True,
            capture_output=True,
            encoding="utf-8",
        ).stdout
        for seed in ("1", "77")
    ]
    assert texts[0] == texts[1] and len(json.loads(texts[0])) > 20


def test_holds_nothing_that_varies(sample: tuple[str, object]) -> None:
    name, record = sample
    shown = bundle(record)
    assert not re.search(r"0x[0-9a-f]{6}|[0-9a-f]{32}|\b20\d\d-\d\d", "".join(shown.values()))
    durations = re.findall(r"\b(?:3\.2|128|1\.26|1\.2|0\.41)\b(?! ?[kMG]?B)", shown["text/plain"])
    assert bool(durations) == (name == "stages"), "stages alone show times"
    assert bool(re.search(r"\d [µm]?s\b", shown["text/plain"])) == (name in ("latency", "timed")), (
        "or who asked for them"
    )


@pytest.mark.parametrize("kind", sorted(NASTY))
def test_no_name_breaks_out(kind: str, nasty_report: Callable[[str], ExportReport], page: Any) -> None:
    report = nasty_report(NASTY[kind])
    records = (report, report.validation, *report.validation.comparisons, report.stages, *report.graphs.values())
    for record in records:
        shown = bundle(record)
        parsed = page(shown["text/html"])
        assert set(parsed.tags) <= TAGS and {name for _, name, _ in parsed.attributes} <= ATTRIBUTES
        for text in shown.values():
            assert text.encode("utf-8"), "can be sent"
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
        assert all(width(line) < 720 for line in shown["text/plain"].splitlines())
    assert len(bundle(report)["text/html"]) < 60_000


def test_a_newline_in_a_name_adds_no_line(nasty_report: Callable[[str], ExportReport]) -> None:
    def lines(name: str) -> int:
        return bundle(nasty_report(name))["text/plain"].count("\n")

    assert lines("first\nsecond") == lines("first second") == lines("first.second")


def test_colours_can_be_read_on_white_and_on_black() -> None:
    for tone, colour in COLOURS.items():
        literal = re.findall(r"#[0-9a-f]{6}", colour)
        assert len(literal) == 1 and colour.startswith("var(--jp-") and "var(--vscode-" in colour
        for background in ("#ffffff", "#1e1e1e", "#111111"):
            assert _contrast(literal[0], background) > 3.8, (tone, background)


def test_names_in_a_narrow_column_are_not_broken_at_their_hyphens(build: Callable[[str], object]) -> None:
    markup = bundle(build("tasks"))["text/html"]
    assert '<span style="white-space:nowrap">sentiment-analysis</span>' in markup


def test_an_exported_model_is_shown_by_its_report(build: Callable[[str], object]) -> None:
    report = build("verified")
    assert bundle(SimpleNamespace(report=report)) == bundle(report)


def test_what_is_shown_and_what_is_not(build: Callable[[str], Any]) -> None:
    stages = build("stages")
    assert bundle(stages) == bundle(list(stages))
    assert bundle(stages[0])["text/plain"].splitlines()[2].startswith("source")
    for other in ((), [], (1, 2), (stages[0], 1), "text", None, SimpleNamespace(report="mine"), object()):
        assert not shows(other)
        with pytest.raises(TypeError, match="no record that can be shown"):
            blocks_of(other)
    assert len(set(FORMATTED)) == len(FORMATTED)


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
