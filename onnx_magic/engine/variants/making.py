"""The way of a variant: read the data → change each graph → prove it → move it beside its parent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.locking import export_lock
from onnx_magic.engine.nearness import sizes_of
from onnx_magic.engine.packing import graph_entry
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.engine.recording import Recorder
from onnx_magic.engine.variants.greedy import greedy_tokens
from onnx_magic.engine.variants.modes import QUANTIZED_OPERATORS, Tolerance
from onnx_magic.engine.variants.places import VariantPlace, files_fingerprint, require_file, variant_place
from onnx_magic.engine.variants.references import FLOAT_GRAPH, PYTORCH, Reference, reference_for, torch_sides
from onnx_magic.engine.variants.verifying import answers_of, verify_variant, with_answers
from onnx_magic.engine.variants.walked import TOKENS, Walks, walks_of
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.events import listening, stage
from onnx_magic.records.artifact import ExportReport, GraphFile, Stage
from onnx_magic.records.results import Validation
from onnx_magic.records.serial import validation_to_json
from onnx_magic.records.variants import Answers, GraphChange, VariantRecord
from onnx_magic.runtime.folder import OpenedFolder
from onnx_magic.runtime.graphs import read_graph
from onnx_magic.runtime.sessions import Session, open_session

if TYPE_CHECKING:
    from onnx_magic.engine.examples import Examples
    from onnx_magic.engine.flat import FlatModel

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Array]
ALL = slice(None)
Run: TypeAlias = tuple[Mapping[str, Array], Mapping[str, Array], Feed]


@dataclass(frozen=True, eq=False)
class Parent:
    """What a variant is made from.

    Args:
        opened: The folder, opened at the graphs to start from.
        plain: The graphs of the plain export.
        live: The PyTorch model, while it is held.
        examples: The inputs it was exported with, while they are held.
    """

    opened: OpenedFolder
    plain: Mapping[str, GraphFile]
    live: FlatModel | None = None
    examples: Examples | None = None


@dataclass(frozen=True, eq=False)
class VariantOutcome:
    """What came of it.

    Args:
        opened: The variant, ready to run.
        record: What was done.
        validation: The verdict.
        stages: What was done, with seconds.
        log: What the libraries wrote.
    """

    opened: OpenedFolder
    record: VariantRecord
    validation: Validation
    stages: tuple[Stage, ...]
    log: str

    @property
    def report(self) -> ExportReport:
        """What is shown of it."""
        return dataclasses.replace(self.opened.report, stages=self.stages, made=self.record)


@dataclass(eq=False)
class Making:
    """One variant while it is made.

    Args:
        parent: What it is made from.
        place: Where it is made.
        feeds: The user's data; empty where none was given.
        walks: The same through the graphs of an encoder-decoder.
        references: What each graph is held against.
    """

    parent: Parent
    place: VariantPlace
    feeds: Sequence[Feed] = ()
    walks: Walks | None = None
    references: dict[str, Reference] = field(default_factory=dict)
    expected: list[Mapping[str, Array]] = field(default_factory=list)
    _sides: tuple[dict[str, FlatModel], str] | None = None

    @property
    def task(self) -> str | None:
        """The task whose answers count; graphs of several parts have none of their own."""
        return self.parent.opened.task if len(self.parent.opened.graphs) == 1 else None

    def task_of(self, role: str) -> str | None:
        """The task whose answers one graph gives: of an encoder-decoder's graphs the decoder's logits choose tokens."""
        several = len(self.parent.opened.graphs) > 1
        chooses = several and any(
            spec.name == "logits" and len(spec.shape) == 3 for spec in self.parent.plain[role].outputs
        )
        return self.task or (TOKENS if chooses else None)

    def reference(self, role: str) -> Reference:
        """What a graph is held against; looked for once."""
        if role not in self.references:
            parent = self.parent
            if self._sides is None:
                self._sides = torch_sides(parent.opened, parent.live)
            sides, why = self._sides
            side = sides.get(role)
            self.references[role] = reference_for(parent.opened, role, parent.plain[role], side, why, parent.examples)
        return self.references[role]

    def take(self, feeds: Sequence[Feed]) -> None:
        """Take the user's data in."""
        self.feeds = feeds
        if len(self.parent.opened.graphs) > 1:
            self.walks = walks_of(self.parent.opened, feeds, lambda role, feed: self.reference(role).run(feed))

    def feeds_of(self, role: str) -> Sequence[Feed]:
        """What one graph is fed of it."""
        return self.walks.feeds(role) if self.walks is not None else self.feeds

    def runs(self, path: Path, provider: str | None = None, part: slice = ALL) -> list[Run]:
        """A graph beside its reference on the user's data, or on a part of the feeds."""
        reference = self.reference("model" if "model" in self.parent.plain else next(iter(self.parent.plain)))
        if not self.expected:
            self.expected = [reference.run(feed) for feed in self.feeds]
        session = Session(open_session(path, provider))
        pairs = zip(self.expected[part], self.feeds[part], strict=True)
        return [(wanted, session.run(feed), feed) for wanted, feed in pairs]

    def answers(
        self, path: Path, tolerance: Tolerance, data: str, provider: str | None = None, part: slice = ALL
    ) -> Answers | None:
        """What its answers on the user's data are worth; `None` without data, or when it does not run on them."""
        if not self.feeds:
            return None
        try:
            runs = self.runs(path, provider, part)
        except OnnxMagicError:
            return None  # the verdict says why
        return answers_of(runs, self.task, cosine=tolerance.cosine, data=data)


@contextmanager
def making(parent: Parent, name: str, *, overwrite: bool) -> Iterator[tuple[Making, Recorder]]:
    """All that a variant's making needs around it: the lock, silence, a record of the stages, a place."""
    record = Recorder()
    with export_lock(), listening(record.see), quiet(Log()), record.explaining():
        for graph in parent.plain.values():
            require_file(graph.path, None)
        with variant_place(parent.opened, name, overwrite=overwrite) as place:
            yield Making(parent, place), record


def refuse_quantized(opened: OpenedFolder, what: str) -> None:
    """Quantising twice loses twice, and gains nothing.

    Raises:
        UsageError: a graph of it is quantised already.
    """
    for role, graph in opened.graphs.items():
        found = sorted(QUANTIZED_OPERATORS & set(graph.operators))
        if found:
            name = opened.variant or f"{role} ({graph.path.name})"
            raise UsageError(
                f"{name} is quantised already (it holds {', '.join(found[:3])}): {what} starts from a float graph",
                fix=f"onnx_magic.load({str(opened.folder)!r}).{what}()",
            )


def prove(
    made: Making,
    graphs: Mapping[str, GraphFile],
    tolerance: Tolerance | None,
    provider: str | None,
    proved: Mapping[str, tuple[Validation, str]] | None = None,
) -> tuple[Validation, str]:
    """The verdict on all graphs of a variant, and what they were held against.

    Args:
        proved: Verdicts of graphs that were proven already.
    """
    verdicts, against = [], PYTORCH
    for role, graph in graphs.items():
        if proved and role in proved:
            verdicts.append(proved[role][0])
            against = proved[role][1]
            continue
        reference = made.reference(role)
        against = FLOAT_GRAPH if reference.name == FLOAT_GRAPH else against
        verdicts.append(
            verify_variant(
                graph.path, reference, task=made.task_of(role), tolerance=tolerance, provider=provider,
                role=role if len(made.parent.plain) > 1 else "model",
            )
        )  # fmt: skip
    return _together(verdicts), against


def _together(verdicts: Sequence[Validation]) -> Validation:
    if len(verdicts) == 1:
        return verdicts[0]
    checks: dict[str, bool] = {}
    for verdict in verdicts:
        for name, passed in verdict.checks.items():
            checks[name] = checks.get(name, True) and passed
    return Validation(
        comparisons=tuple(c for verdict in verdicts for c in verdict.comparisons),
        findings=tuple(dict.fromkeys(f for verdict in verdicts for f in verdict.findings)),
        checks=checks,
        atol=verdicts[0].atol,
        rtol=verdicts[0].rtol,
    )


def finish(
    made: Making,
    record: VariantRecord,
    graphs: Mapping[str, GraphFile],
    tolerance: Tolerance | None,
    seen: Recorder,
    proved: Mapping[str, tuple[Validation, str]] | None = None,
) -> VariantOutcome:
    """Prove the graphs that lie in the staging folder, and move them into place.

    Args:
        record: What was done so far; changes, verdict and parent are filled in here.
        graphs: The staged graphs.
        tolerance: What it may cost; `None`: nothing.
        proved: Verdicts of graphs that were proven already.
    """
    parent = made.parent.opened
    with stage("verify") as row:
        verdict, against = prove(made, graphs, tolerance, record.provider, proved)
        answers = record.answers
        if answers is None and tolerance is not None:
            answers = _answers(made, graphs, tolerance, record.provider)
        verdict = with_answers(verdict, answers, tolerance)
        tokens = greedy_tokens(parent, parent.of_variant(record.name, graphs, verdict, record), record.provider)
        row.detail = f"{sum(c.passed for c in verdict.comparisons)} of {len(verdict.comparisons)} shapes"
    verdict = dataclasses.replace(verdict, findings=(*verdict.findings, *seen.findings))
    record = dataclasses.replace(
        record,
        parent=parent.variant,
        fingerprint=files_fingerprint(parent.graphs),
        changes={role: _change(parent.graphs[role], graph) for role, graph in graphs.items()},
        tolerance=dataclasses.asdict(tolerance) if tolerance is not None else {},
        sizes=sizes_of(verdict.comparisons, tolerance.drift) if tolerance is not None else {},
        against=against,
        answers=answers,
        tokens=tokens,
    )
    with stage("store"):
        entry = {
            **record.to_json(),
            "graphs": {role: graph_entry(graph) for role, graph in graphs.items()},
            "validated": validation_to_json(verdict),
        }
        paths = made.place.commit(entry, failed=verdict.status == "failed")
    opened = parent.of_variant(record.name, {role: read_graph(path) for role, path in paths.items()}, verdict, record)
    return VariantOutcome(opened, record, verdict, seen.stages, seen.log)


def _answers(
    made: Making, graphs: Mapping[str, GraphFile], tolerance: Tolerance, provider: str | None
) -> Answers | None:
    if made.walks is None:
        return made.answers(graphs["model"].path, tolerance, "data", provider) if "model" in graphs else None
    try:
        sessions = {role: Session(open_session(graph.path, provider)) for role, graph in graphs.items()}
    except OnnxMagicError:
        return None  # the verdict says why
    return made.walks.answers(lambda role, feed: sessions[role].run(feed), cosine=tolerance.cosine, data="data")


def _change(before: GraphFile, after: GraphFile) -> GraphChange:
    return GraphChange(before.operators, after.operators, before.size, after.size)
