"""A Validation as JSON and back, exactly: what the manifest keeps of the verdict.

JSON has no NaN and no infinity: they are written as the strings `"NaN"`, `"Infinity"`, `"-Infinity"`, so that any JSON
reader takes the file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Agreement, Comparison, OutputDiff, Validation

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DIFF_NUMBERS = frozenset(f.name for f in dataclasses.fields(OutputDiff) if f.type == "float")


def validation_to_json(validation: Validation) -> dict[str, Any]:
    """What `Manifest.validated` holds: the status, a row per shape tried, the findings, the tolerances.

    Example:
        >>> validation_to_json(Validation(checked=False))["status"]
        'unchecked'
    """
    return {
        "status": validation.status,
        "checked": validation.checked,
        "shapes": [_comparison_to_json(comparison) for comparison in validation.comparisons],
        "findings": [dataclasses.asdict(finding) for finding in validation.findings],
        "checks": dict(validation.checks),
        "atol": {dtype: _plain(value) for dtype, value in validation.atol.items()},
        "rtol": {dtype: _plain(value) for dtype, value in validation.rtol.items()},
    }


def validation_from_json(record: Mapping[str, Any]) -> Validation:
    """Read what `validation_to_json` wrote. Nothing recorded is "unchecked", never "verified".

    Raises:
        ValueError: a field is missing or of another kind.

    Example:
        >>> validation_from_json({}).status
        'unchecked'
    """
    if not record:
        return Validation(checked=False)
    try:
        return Validation(
            comparisons=tuple(_comparison_from_json(row) for row in record["shapes"]),
            findings=tuple(Finding(**row) for row in record["findings"]),
            checks={str(name): bool(ok) for name, ok in record.get("checks", {}).items()},
            atol={str(dtype): _number(value) for dtype, value in record.get("atol", {}).items()},
            rtol={str(dtype): _number(value) for dtype, value in record.get("rtol", {}).items()},
            checked=bool(record.get("checked", True)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the record of the validation cannot be read: {error!r}") from error


def _comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "label": comparison.label,
        "shapes": {name: list(shape) for name, shape in comparison.shapes.items()},
        "passed": comparison.passed,
        "diffs": [_diff_to_json(diff) for diff in comparison.diffs],
        # `is None`, not truth: an agreement that failed is false.
        "agreement": None if comparison.agreement is None else dataclasses.asdict(comparison.agreement),
        "error": comparison.error,
    }


def _diff_to_json(diff: OutputDiff) -> dict[str, Any]:
    """Its numbers; a closeup is for looking at, and is not kept."""
    row = dataclasses.asdict(dataclasses.replace(diff, closeup=None))
    return {key: _plain(value) for key, value in row.items() if key != "closeup"}


def _comparison_from_json(row: Mapping[str, Any]) -> Comparison:
    agreement = row["agreement"]
    return Comparison(
        label=row["label"],
        shapes={name: tuple(shape) for name, shape in row["shapes"].items()},
        diffs=tuple(_diff_from_json(diff) for diff in row["diffs"]),
        agreement=None if agreement is None else Agreement(**agreement),
        error=row["error"],
    )


def _diff_from_json(row: Mapping[str, Any]) -> OutputDiff:
    def value_of(key: str, value: Any) -> Any:
        if key in _DIFF_NUMBERS:
            return _number(value)
        return tuple(value) if isinstance(value, list) else value

    return OutputDiff(**{key: value_of(key, value) for key, value in row.items()})


def _plain(value: Any) -> Any:
    """A value that strict JSON takes: NaN and infinities as words, tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return [int(item) for item in value] if isinstance(value, tuple) else value


def _number(value: Any) -> float:
    return _WORDS[value] if isinstance(value, str) else float(value)
