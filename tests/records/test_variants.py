"""What is kept of a variant, in JSON and back."""

from __future__ import annotations

import json

import pytest

from onnx_magic.records.variants import Answers, GraphChange, KeptLayer, VariantRecord

RECORD = VariantRecord(
    "int8",
    "int8, dynamic",
    parent="optimized",
    fingerprint="0123456789abcdef",
    steps=("weights of 3 MatMul quantised with a scale per channel",),
    options={"calibration": "minmax"},
    changes={"model": GraphChange({"MatMul": 3, "Add": 2}, {"MatMulInteger": 3, "Add": 2, "Mul": 9}, 100, 26)},
    kept=(KeptLayer("node_linear", "Gemm", "classifier", "worst", 0.25), KeptLayer("n", "Conv", "", "no kernel")),
    tolerance={"cosine": 0.95, "drift": 4.0, "answers": 0.9},
    answers=Answers("label", 997, 1000, 0.99, 0.5),
    accuracy=0.99,
)


def test_there_and_back() -> None:
    record = json.loads(json.dumps(RECORD.to_json()))
    assert VariantRecord.from_json(record) == RECORD
    assert VariantRecord.from_json({**record, "graphs": {}, "validated": {}}) == RECORD
    assert VariantRecord.from_json({"name": "q4", "title": "4 bits"}) == VariantRecord("q4", "4 bits")


@pytest.mark.parametrize("broken", [{"kept": [{"nod": 1}]}, {"answers": {"kind": "label"}}, {"changes": {"model": 3}}])
def test_what_cannot_be_read_is_a_value_error(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="record of the variant"):
        VariantRecord.from_json({**RECORD.to_json(), **broken})


def test_answers_are_counted_or_measured() -> None:
    assert RECORD.answers is not None
    assert str(RECORD.answers) == "label: 3 of 1000 changed" and RECORD.answers.rate == 0.997
    embeddings = Answers("cosine", 10, 10, 0.98, 0.91)
    assert str(embeddings) == "cosine 0.9800 (worst 0.9100) over 10" and embeddings.rate == 0.98


def test_operators_that_changed_come_the_largest_change_first() -> None:
    assert RECORD.changed and RECORD.changes["model"].rows == (
        ("Mul", 0, 9),
        ("MatMul", 3, 0),
        ("MatMulInteger", 0, 3),
    )
    assert not GraphChange({"Add": 1}, {"Add": 1}).changed
    assert RECORD.kept[0].name == "classifier" and RECORD.kept[1].name == "n"
