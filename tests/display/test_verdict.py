"""The verdict: what failed comes first, and nothing good stands above it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from onnx_magic.display.bundles import bundle
from onnx_magic.display.verdict import agreement_text, inputs_text, largest, verdict_blocks
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Agreement, Comparison, Validation

FAILED = ("baked", "vanished")


def first_line(record: object) -> str:
    return bundle(record)["text/plain"].splitlines()[0]


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        (
            "verified",
            "✓ verified: ONNX Runtime agrees with PyTorch at 6 shapes, 5 of them never traced · max |Δ| ≤ 1e-6",
        ),
        ("warned", "✓ verified: "),
        ("plain_module", "✓ verified: ONNX Runtime agrees with PyTorch at the traced shape, the only one"),
        ("baked", "✗ FAILED: axis 0 of x (batch_size) was baked"),
        ("vanished", "✗ FAILED: attention_mask is an input of the model and not of the graph"),
        ("inconclusive", "! inconclusive: the outputs ignore the inputs"),
        ("unchecked", "! unchecked: validation was switched off"),
    ],
)
def test_first_line(build: Callable[[str], object], name: str, beginning: str) -> None:
    assert first_line(build(name)).startswith(beginning)


@pytest.mark.parametrize("name", ["baked", "vanished", "inconclusive", "unchecked"])
def test_nothing_good_is_said_of_what_is_not_verified(build: Callable[[str], object], page: Any, name: str) -> None:
    shown = bundle(build(name))
    for text in (shown["text/plain"], page(shown["text/html"]).words):
        assert not [word for word in ("verified", "agrees", "succe", "exported successfully") if word in text]


@pytest.mark.parametrize("name", FAILED)
def test_the_first_failure_is_said_once_with_its_fix_below(build: Callable[[str], Any], name: str) -> None:
    report = build(name)
    first = report.validation.failures[0]
    text = " ".join(bundle(report)["text/plain"].split())
    assert text.count(first.sentence) == 1
    assert text.index(first.fix) < text.index("tensor")


def test_failures_then_warnings_then_notes() -> None:
    found = tuple(
        Finding("fallback", f"the {level} number {number}", level=level)  # type: ignore[arg-type]
        for number in (1, 2)
        for level in ("note", "warning", "failure")
    )
    blocks = verdict_blocks(Validation(findings=found))
    said = [block.sentence for block in blocks]  # type: ignore[union-attr]
    assert said == [
        "the failure number 1 (and 1 more failure below)",
        "the failure number 2",
        "the warning number 1",
        "the warning number 2",
        "the note number 1",
        "the note number 2",
    ]


def test_a_failure_of_the_export_is_never_below_a_verified(build: Callable[[str], Any]) -> None:
    failure = Finding("opset-other", "opset 18 was written, 17 was asked for", fix="opset=18")
    report = dataclasses.replace(build("verified"), findings=(failure,))
    assert first_line(report) == "✗ FAILED: opset 18 was written, 17 was asked for"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"checks": {"session": True, "onnx.checker": False}}, "onnx.checker does not take the graph"),
        ({"comparisons": (Comparison("batch 1", {}, error="no such kernel"),)}, "at batch 1: no such kernel"),
        ({"comparisons": (Comparison("batch 1", {}),)}, "at batch 1: nothing compared"),
        ({"comparisons": ()}, "no shape was tried"),
    ],
)
def test_a_failure_without_a_finding_is_told_all_the_same(
    build: Callable[[str], Any], changes: dict[str, Any], said: str
) -> None:
    validation = dataclasses.replace(build("verified").validation, **changes)
    assert validation.status == "failed"
    assert first_line(validation) == f"✗ FAILED: {said}"


def test_a_label_that_differs_is_told(build: Callable[[str], Any]) -> None:
    good = build("comparison")
    wrong = dataclasses.replace(good, agreement=Agreement("label", 1, 2))
    assert first_line(Validation((wrong,))).startswith(
        "✗ FAILED: at traced: label differs · max |Δ| ≤ 1e-6 · label 1/2"
    )
    assert not first_line(Validation((good,))).startswith("✗")


def test_one_shape_tried_twice_is_one_shape(build: Callable[[str], Any]) -> None:
    good = build("comparison")
    twice = Validation((good, dataclasses.replace(good, label="padded")))
    assert "at the traced shape, the only one" in first_line(twice)


def test_largest_is_unknown_where_one_is_unknown(build: Callable[[str], Any]) -> None:
    known = build("comparison")
    broken = dataclasses.replace(known, diffs=(*known.diffs, dataclasses.replace(known.diffs[0], max_abs=math.nan)))
    assert largest([known]) == 3.1e-7
    assert math.isnan(largest([known, broken])) and math.isnan(largest([broken, known])) and math.isnan(largest([]))


def test_agreements_are_summed_by_kind(build: Callable[[str], Any]) -> None:
    assert agreement_text(build("verified").validation.comparisons) == "label 13/13"
    mixed = [
        Comparison("a", {}, agreement=Agreement("label", 1, 2)),
        Comparison("b", {}, agreement=Agreement("span", 3, 3)),
    ]
    assert agreement_text(mixed) == "label 1/2, span 3/3"
    assert agreement_text([Comparison("a", {})]) == ""


def test_inputs_of_one_shape_are_shown_once() -> None:
    assert inputs_text({"input_ids": (2, 14), "attention_mask": (2, 14)}) == "2 × 14"
    assert inputs_text({"a": (2, 14), "b": (2, 3), "c": (2, 14)}) == "a, c 2 × 14; b 2 × 3"
    assert inputs_text({"x": ()}) == "scalar"
    assert inputs_text({str(n): (n,) for n in range(6)}).endswith("; 3 more")
    assert inputs_text({}) == ""


def test_a_cache_is_told_by_its_length() -> None:
    from onnx_magic.display.verdict import inputs_text

    past = {f"past_key_values.{layer}.{kind}": (2, 4, 5, 8) for layer in range(12) for kind in ("key", "value")}
    tokens = {"input_ids": (2, 3), "attention_mask": (2, 8), "position_ids": (2, 3)}
    assert inputs_text(tokens | past) == "2 × 3, past 5"
    states = {"encoder_hidden_states": (2, 7, 32)}
    assert inputs_text(tokens | states | past) == (
        "input_ids, position_ids 2 × 3; encoder_hidden_states 2 × 7 × 32; past 5"
    )
