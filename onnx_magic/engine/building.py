"""From a source to graphs that are proven: the one of a forward, or the several of a generator."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_magic.engine.converting import Attempt, convert_and_prove
from onnx_magic.engine.generation.joining import PAIR, join_decoders
from onnx_magic.engine.generation.kinds import KINDS, Kind
from onnx_magic.engine.generation.proving import prove_part
from onnx_magic.engine.generation.tokens import prove_tokens
from onnx_magic.engine.packing import generation_config_of
from onnx_magic.engine.planning import Prepared, prepare, prepare_declared
from onnx_magic.engine.tasks import graphs_of
from onnx_magic.engine.validating import validate
from onnx_magic.events import stage
from onnx_magic.records.findings import Finding
from onnx_magic.records.plan import ExportPlan
from onnx_magic.records.results import Validation

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.generation.parts import Part, Prompt
    from onnx_magic.engine.sources import ModelSource


@dataclass(frozen=True, eq=False)
class Built:
    """The graphs that were taken, and the verdict on all of them together.

    Args:
        attempts: `{role: what was taken}`, the graph that yields the answer last.
        validation: The verdict.
    """

    attempts: Mapping[str, Attempt]
    validation: Validation

    @property
    def answering(self) -> Attempt:
        """The graph that yields the task's answer."""
        return list(self.attempts.values())[-1]

    @property
    def plan(self) -> ExportPlan:
        """The answering graph's plan, with the decisions on all graphs."""
        plans = [attempt.prepared.plan for attempt in self.attempts.values()]
        decisions = {decision.subject: decision for plan in plans for decision in plan.decisions}
        return plans[-1].replace(decisions=tuple(decisions.values()))

    @property
    def file_names(self) -> Mapping[str, str]:
        """File names that are not the usual ones: those of a decoder that is not merged, or takes no past."""
        names = [spec.name for spec in self.answering.graph.inputs]
        if "decoder" not in self.attempts or any(name.startswith("past_key_values.") for name in names):
            return {}
        return {role: name for role, name in PAIR.items() if role in self.attempts}

    @property
    def exporter(self) -> str:
        """The ways that made the graphs: one name where all were made the same way."""
        return ", ".join(dict.fromkeys(attempt.way for attempt in self.attempts.values()))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the ways themselves had to say, each thing once."""
        return tuple(dict.fromkeys(f for attempt in self.attempts.values() for f in attempt.findings))


def kind_of(source: ModelSource) -> Kind | None:
    """The kind of generator that a source's task asks for; `None` for a task of one graph."""
    return KINDS.get(graphs_of(source.task, type(source.model)))


def plan_graphs(source: ModelSource, request: ExportRequest) -> ExportPlan:
    """The plan of the graph that yields the answer; see `prepare` for what is raised."""
    kind = kind_of(source)
    if kind is None:
        return prepare(source, request).plan
    return _prepared(kind.parts(source, request)[-1], source, request).plan


def build_graphs(source: ModelSource, request: ExportRequest, staging: Path) -> Built:
    """Plan, convert and prove all graphs of a source's task.

    Args:
        staging: Folder to write the attempts in.

    Raises:
        InputsError: no inputs, or the model raises on them.
        UsageError: an option that the task cannot follow.
        ExportError: no way gave a file; or the model's state is none that a graph can take.
    """
    kind = kind_of(source)
    if kind is None:
        with stage("plan"):
            prepared = prepare(source, request)
        attempt = convert_and_prove(prepared, request, staging)
        return Built({"model": attempt}, attempt.validation)
    with stage("plan"):
        prompts = kind.prompts(source, request)
        parts = [(part, _prepared(part, source, request)) for part in kind.parts(source, request)]
    attempts = {}
    for part, prepared in parts:
        prover = functools.partial(prove_part, part.walk) if part.walk is not None else validate
        attempts[part.role] = convert_and_prove(prepared, request, staging, prover=prover, part=f"{part.role}-")
    attempts = join_decoders(source, request, {part.role: part for part, _ in parts}, attempts, staging)
    verdict = _joined({role: attempt.validation for role, attempt in attempts.items()})
    if request.validate and verdict.status != "failed":
        verdict = _with_tokens(verdict, source, request, attempts, prompts)
    return Built(attempts, verdict)


def _prepared(part: Part, source: ModelSource, request: ExportRequest) -> Prepared:
    return prepare_declared(source, request, part.flat, part.examples, part.output_axes)


def _joined(verdicts: Mapping[str, Validation]) -> Validation:
    """One verdict on several graphs; with more than one, what was tried says of which."""
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    first = next(iter(verdicts.values()))
    return replace(
        first,
        comparisons=tuple(
            replace(one, label=f"{role}: {one.label}")
            for role, verdict in verdicts.items()
            for one in verdict.comparisons
        ),
        findings=tuple(
            replace(one, sentence=f"{role}: {one.sentence}")
            for role, verdict in verdicts.items()
            for one in verdict.findings
        ),
        checks={f"{role}: {name}": passed for role, v in verdicts.items() for name, passed in v.checks.items()},
        checked=all(verdict.checked for verdict in verdicts.values()),
    )


def _with_tokens(
    verdict: Validation,
    source: ModelSource,
    request: ExportRequest,
    attempts: Mapping[str, Attempt],
    prompts: tuple[Prompt, ...],
) -> Validation:
    from onnx_magic.engine.generation.hosting import host_model

    with stage("verify") as row:
        host = host_model(
            source.config,
            type(source.model),
            {role: attempt.graph for role, attempt in attempts.items()},
            generation_config=generation_config_of(source),
        )
        proof = prove_tokens(source, host, prompts, atol=request.atol, rtol=request.rtol, use_cache=request.cache)
        row.detail = ", ".join(str(one.agreement) for one in proof.comparisons if one.agreement is not None)
    order = {"failure": 0, "warning": 1, "note": 2}
    findings = sorted((*verdict.findings, *proof.findings), key=lambda finding: order[finding.level])
    # Behind the traced run: tokens are what a person looks for first.
    first, *others = verdict.comparisons
    return replace(verdict, comparisons=(first, *proof.comparisons, *others), findings=tuple(findings))
