"""A Validation as blocks: what failed first, then what was found, then a row per shape that was tried."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from onnx_magic.display.blocks import Block, Blocks, Cell, Column, Item, Table, Tone, Verdict
from onnx_magic.display.wording import at_least, at_most, plural, shape_text
from onnx_magic.records.findings import INCONCLUSIVE, Finding, Level
from onnx_magic.records.results import Comparison, Validation

LEVELS: Mapping[Level, tuple[Tone, str]] = {
    "failure": ("bad", "failure"),
    "warning": ("warn", "warning"),
    "note": ("quiet", "note"),
}
"""The tone and the word of a finding, the gravest first."""

_WHY_UNCHECKED = (*INCONCLUSIVE, "not-validated")
_INPUT_GROUPS = 3
_PAST = "past_key_values."
_CACHE_RANK = 4


def validation_blocks(validation: Validation) -> Blocks:
    """A validation of its own: the verdict, the findings, the shapes tried."""
    return [*verdict_blocks(validation), *validation_tables(validation)]


def verdict_blocks(validation: Validation, findings: Sequence[Finding] = (), begins: str = "") -> Blocks:
    """The verdict, then each finding (of the validation, and `findings` of the export) in its own sentence.

    Args:
        begins: How the sentence of a good verdict begins: what agrees with what.
    """
    found = tuple(dict.fromkeys((*validation.findings, *findings)))
    failures = tuple(f for f in found if f.level == "failure")
    if validation.status == "failed" or (validation.status == "verified" and failures):
        told, verdict = _failed(validation, failures)
    elif validation.status == "unchecked":
        told, verdict = _unchecked(validation, found)
    else:
        told, verdict = None, Verdict("good", "verified", _agreement_sentence(validation.comparisons, begins))
    return [verdict, *finding_items(f for f in found if f is not told)]


def finding_items(findings: Iterable[Finding]) -> list[Block]:
    """A sentence each: failures, then warnings, then notes; otherwise in the order in which they were found."""
    order = list(LEVELS)
    return [finding_item(f) for f in sorted(findings, key=lambda f: order.index(f.level))]


def finding_item(finding: Finding) -> Item:
    """One finding: its sentence, the layer and source line it belongs to, its fix."""
    tone, word = LEVELS[finding.level]
    place = ", ".join(part for part in (finding.layer, finding.line) if part)
    return Item(tone, word, finding.sentence, finding.fix, place)


def validation_tables(validation: Validation, against: str = "PyTorch") -> list[Table]:
    """The table of shapes tried; empty when none was."""
    tried = validation.comparisons
    if not tried:
        return []
    kind = next((c.agreement.kind for c in tried if c.agreement), "")
    columns = [Column("shape tried"), Column("inputs"), Column("max |Δ|"), Column("cosine")]
    columns += [Column(kind)] if kind else []
    return [
        Table(
            f"shapes tried: ONNX Runtime against {against}",
            (*columns, Column("result")),
            tuple(_shape_row(comparison, bool(kind)) for comparison in tried),
            more="exported.validation.to_frame()",
        )
    ]


def outcome(comparison: Comparison) -> Cell:
    """A tick, or a cross and what went wrong."""
    if comparison.passed:
        return Cell("✓", "good")
    if comparison.error is not None:
        return Cell(f"✗ {comparison.error}", "bad", limit=44)
    wrong = [diff for diff in comparison.diffs if not diff.passed]
    if wrong:
        others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Cell(f"✗ {wrong[0].name} differs{others}", "bad", limit=44)
    if comparison.agreement is not None and not comparison.agreement:
        return Cell(f"✗ {comparison.agreement.kind} differs", "bad")
    return Cell("✗ nothing compared", "bad")


def largest(comparisons: Iterable[Comparison]) -> float:
    """The largest difference of all outputs; NaN when there is none, or when one could not be computed."""
    values = [diff.max_abs for comparison in comparisons for diff in comparison.diffs]
    return float("nan") if not values or any(map(math.isnan, values)) else max(values)


def smallest_cosine(comparison: Comparison) -> float:
    """The smallest cosine of all outputs that have one."""
    return min((d.cosine for d in comparison.diffs if not math.isnan(d.cosine)), default=float("nan"))


def agreement_text(comparisons: Iterable[Comparison]) -> str:
    """`label 13/13`, over all comparisons; empty where the task has no answer."""
    sums: dict[str, tuple[int, int]] = {}
    for agreement in (c.agreement for c in comparisons if c.agreement is not None):
        agreed, total = sums.get(agreement.kind, (0, 0))
        sums[agreement.kind] = (agreed + agreement.agreed, total + agreement.total)
    return ", ".join(f"{kind} {agreed}/{total}" for kind, (agreed, total) in sums.items())


def measured(comparisons: Sequence[Comparison]) -> str:
    """` · max |Δ| ≤ 1e-6 · label 13/13`: what is known of these, each part behind a dot."""
    difference = largest(comparisons)
    parts = ([] if math.isnan(difference) else [f"max |Δ| {at_most(difference)}"]) + [agreement_text(comparisons)]
    return "".join(f" · {part}" for part in parts if part)


def inputs_text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The inputs' shapes: once when all are the same, else with the names of those that share one.

    Of a cache only its length is told: its tensors differ in nothing else, and a mask covers past and tokens.
    """
    pasts = [shape for name, shape in shapes.items() if name.startswith(_PAST) and len(shape) == _CACHE_RANK]
    past = [f"past {pasts[0][2]}"] if pasts else []
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, shape in shapes.items():
        if not past or not (name.startswith(_PAST) or name == "attention_mask"):
            groups.setdefault(tuple(shape), []).append(name)
    if len(groups) == 1:
        return ", ".join([shape_text(next(iter(groups))), *past])
    told = [f"{', '.join(names)} {shape_text(shape)}" for shape, names in list(groups.items())[:_INPUT_GROUPS]]
    left = len(groups) - _INPUT_GROUPS
    return "; ".join([*told, *([f"{left} more"] if left > 0 else []), *past])


def _shape_row(comparison: Comparison, with_agreement: bool) -> tuple[Cell, ...]:
    agreement = comparison.agreement
    answer = f"{agreement.agreed}/{agreement.total}" if agreement is not None else ""
    agreed: Tone = "bad" if agreement is not None and not agreement else "plain"
    cells = [
        Cell(comparison.label),
        Cell(inputs_text(comparison.shapes), mono=True, limit=80),
        Cell(at_most(largest([comparison])), mono=True),
        Cell(at_least(smallest_cosine(comparison)), mono=True),
        *([Cell(answer, agreed, mono=True)] if with_agreement else []),
    ]
    return (*cells, outcome(comparison))


def _agreement_sentence(tried: Sequence[Comparison], begins: str = "") -> str:
    """`ONNX Runtime agrees with PyTorch at 6 shapes, 5 of them never traced`, and how closely."""
    distinct = {tuple(sorted((name, tuple(shape)) for name, shape in c.shapes.items())) for c in tried}
    if len(distinct) > 1:
        where = f"at {len(distinct)} shapes, {len(distinct) - 1} of them never traced"
    else:
        where = "at the traced shape, the only one that was tried"
    return f"{begins or 'ONNX Runtime agrees with PyTorch'} {where}{measured(tried)}"


def _failed(validation: Validation, failures: Sequence[Finding]) -> tuple[Finding | None, Verdict]:
    first = failures[0] if failures else None
    sentence = first.sentence if first else _first_failed_check(validation)
    others = f" (and {plural(len(failures) - 1, 'more failure')} below)" if len(failures) > 1 else ""
    return first, Verdict("bad", "FAILED", sentence + others, first.fix if first else "")


def _first_failed_check(validation: Validation) -> str:
    """What failed, where nobody left a finding about it."""
    for name, passed in validation.checks.items():
        if not passed:
            return f"{name} does not take the graph"
    for comparison in validation.comparisons:
        if not comparison.passed:
            return f"at {comparison.label}: {outcome(comparison).text.removeprefix('✗ ')}{measured([comparison])}"
    return "no shape was tried"


def _unchecked(validation: Validation, found: Sequence[Finding]) -> tuple[Finding | None, Verdict]:
    first = next((f for code in _WHY_UNCHECKED for f in found if f.code == code), None)
    word = "inconclusive" if validation.inconclusive else "unchecked"
    fallback = "the outputs ignore the inputs" if validation.inconclusive else "the graph was not compared with PyTorch"
    return first, Verdict("warn", word, first.sentence if first else fallback, first.fix if first else "")
