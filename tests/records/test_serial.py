from __future__ import annotations

import dataclasses
import json
import math

import pytest

from onnx_magic.records.closeups import Closeup
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Agreement, Comparison, OutputDiff, Validation
from onnx_magic.records.serial import validation_from_json, validation_to_json

GOOD = OutputDiff(
    "logits", (2, 3), (2, 3), "float32", "float32", 1.2345678901234567e-07, 0.1, 1.0, 1e-4, 1e-3, True, True, (1, 2)
)
BAD = OutputDiff("NaN", (2, 3), (2,), "float32", "int64", math.nan, math.inf, -math.inf, 1e-4, 1e-3, False, False, None)
RICH = Validation(
    comparisons=(
        Comparison("traced", {"input_ids": (2, 8), "x": ()}, (GOOD,), Agreement("label", 2, 2)),
        Comparison("padded", {"input_ids": (2, 8)}, (GOOD, BAD), Agreement("label", 1, 2)),
        Comparison("batch 1", {}, error="Reshape failed"),
    ),
    findings=(
        Finding("values-differ", "s", "warning", "f", "logits", 0, "bert.0", "cell[1]:2"),
        Finding("fallback", "t"),
    ),
    checks={"onnx.checker": True, "inference": False},
    atol={"float32": 1e-4},
    rtol={"float32": math.inf},
)


def through_json(validation: Validation) -> Validation:
    return validation_from_json(json.loads(json.dumps(validation_to_json(validation), allow_nan=False)))


@pytest.mark.parametrize(
    "validation",
    [RICH, Validation((Comparison("traced", {}, (GOOD,)),)), Validation(), Validation(checked=False)],
)
def test_a_validation_comes_back_as_it_was(validation: Validation) -> None:
    back = through_json(validation)
    # NaN is equal to nothing: compared as text, which holds every digit.
    assert repr(back) == repr(validation) and back.status == validation.status
    assert repr(through_json(back)) == repr(back)


def test_a_disagreement_is_not_lost() -> None:
    """An Agreement that failed is false: a test of its truth would drop it."""
    only = Validation((Comparison("traced", {}, (GOOD,), Agreement("label", 1, 2)),))
    assert only.status == through_json(only).status == "failed"


def test_nothing_recorded_is_not_verified() -> None:
    assert validation_from_json({}).status == "unchecked"


@pytest.mark.parametrize(
    "record",
    [
        {"shapes": []},
        {"findings": []},
        {"shapes": [{}], "findings": []},
        {"shapes": 1, "findings": []},
        {"shapes": [], "findings": [{"code": "made-up", "sentence": ""}]},
        {"shapes": [], "findings": [], "atol": {"float32": "much"}},
    ],
)
def test_a_record_of_another_form_is_refused(record: dict) -> None:
    with pytest.raises(ValueError):
        validation_from_json(record)


def test_a_closeup_is_not_kept() -> None:
    """It is for looking at; the manifest holds numbers."""
    close = dataclasses.replace(GOOD, closeup=Closeup(1, 1, bytes(1)))
    only = Validation((Comparison("traced", {}, (close,)),))
    assert through_json(only) == Validation((Comparison("traced", {}, (GOOD,)),))
    assert through_json(only).comparisons[0].diffs[0].closeup is None
