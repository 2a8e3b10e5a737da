"""The way of an export: source → plan → capture → convert → verify → store; one at a time, in silence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.asking import settled_arguments
from onnx_magic.engine.building import Built, build_graphs, plan_graphs
from onnx_magic.engine.examples import Examples
from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.locking import export_lock
from onnx_magic.engine.precision import WIDENED, is_narrow, widened, widened_request
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.engine.recording import Recorder
from onnx_magic.engine.sources import ModelSource, resolve_source
from onnx_magic.engine.state import comparable_attention, preserved
from onnx_magic.engine.storing import OutputPlace, build_manifest, prepare_output, write_assets
from onnx_magic.engine.wording import worded
from onnx_magic.events import listening, stage
from onnx_magic.option_values import Axes
from onnx_magic.records.artifact import ExportReport, Stage
from onnx_magic.records.findings import Finding
from onnx_magic.records.plan import ExportPlan
from onnx_magic.records.results import Validation
from onnx_magic.runtime.folder import open_folder

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

ROOM = 1.2
"""Free disk that an export wants, as a multiple of the weights' bytes."""

STAGES = ("source", "plan", "capture", "convert", "save", "verify", "store")
"""The stages of an export, in order; one that was not reached stays `None`."""


@dataclass(frozen=True)
class ExportRequest:
    """What `export` was asked: its options, see `verbs.export`."""

    model: Any
    task: str | None = None
    output: str | Path | None = None
    opset: int | None = None
    dynamic: Axes | None = None
    inputs: Any = None
    exporter: str = "auto"
    cache: bool = True
    merge: bool = True
    fold: bool = True
    validate: bool = True
    atol: float | None = None
    rtol: float | None = None
    overwrite: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True, eq=False)
class ExportOutcome:
    """What an export gave.

    Args:
        opened: The folder, ready to run.
        source: The live model, `None` once released.
        flat: The live model as a function of the graph's inputs, `None` once released.
        plan: What was decided.
        report: What is shown.
        log: What the libraries wrote.
        examples: The inputs it was proven with, and others like them at any size; `None` once released.
    """

    opened: OpenedFolder
    source: ModelSource | None
    flat: FlatModel | None
    plan: ExportPlan
    report: ExportReport
    log: str
    examples: Examples | None = None

    @property
    def validation(self) -> Validation:
        """The verdict."""
        return self.report.validation

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What was done, with seconds."""
        return self.report.stages

    def released(self) -> ExportOutcome:
        """The same without the live model."""
        plan = self.plan.replace(asked=None)
        return dataclasses.replace(self, source=None, flat=None, examples=None, plan=plan)


def make_plan(request: ExportRequest) -> ExportPlan:
    """Decide all that an export decides before tracing."""
    _load_libraries()
    with export_lock(), quiet(Log()):
        with stage("source"):
            source = _source(request)
            request = widened_request(request) if is_narrow(source.model) else request
        with stage("plan"), widened(source.model), preserved(source.model), comparable_attention():
            return plan_graphs(source, request)


def run_export(request: ExportRequest) -> ExportOutcome:
    """Export a model and prove the file; see `verbs.export` for what is raised."""
    _load_libraries()
    done = Recorder(STAGES)
    with export_lock(), listening(done.see), quiet(Log()), done.explaining():
        with stage("source") as row:
            source = _source(request)
            row.detail = source.architecture
            place = _place(source, request)  # with the fingerprint of the model as the user holds it
            request = widened_request(request) if is_narrow(source.model) else request
        with place, widened(source.model) as was_narrow:
            with preserved(source.model), comparable_attention():
                built = build_graphs(source, request, place.staging)
            findings = (WIDENED, *built.findings) if was_narrow else built.findings
            with stage("store"):
                folder = _store(place, source, built, findings)
        opened = open_folder(folder)
    report = ExportReport(
        name=source.name,
        folder=folder,
        task=source.task,
        architecture=source.architecture,
        exporter=built.exporter,
        graphs=opened.graphs,
        stages=done.stages,
        validation=built.validation,
        decisions=built.plan.decisions,
        findings=findings,
    )
    answering = built.answering.prepared
    return ExportOutcome(opened, source, answering.flat, built.plan, report, done.log, answering.examples)


def _source(request: ExportRequest) -> ModelSource:
    source = resolve_source(request.model, request.task, trust_remote_code=request.trust_remote_code)
    return worded(source, request.task if request.task is not None else _pipeline_task(request.model))


def _pipeline_task(model: Any) -> str | None:
    """The task that a Transformers pipeline was made for, with its languages."""
    return getattr(model, "task", None) if isinstance(getattr(model, "task", None), str) else None


def _place(source: ModelSource, request: ExportRequest) -> OutputPlace:
    weights = sum(t.numel() * t.element_size() for t in source.model.state_dict().values() if hasattr(t, "numel"))
    return prepare_output(
        request.output,
        source.name,
        source.fingerprint,
        overwrite=request.overwrite,
        origin=source.origin,
        task=source.task,
        needed=int(weights * ROOM) * (2 if is_narrow(source.model) else 1),
    )


def _store(place: OutputPlace, source: ModelSource, built: Built, findings: tuple[Finding, ...]) -> Path:
    """Put the taken graphs, the assets and the manifest in place; the old folder stands until then."""
    place.names.update(built.file_names)
    for role, attempt in built.attempts.items():
        place.take_graph(attempt.graph.path, role)
    write_assets(source, place.assets)
    manifest = build_manifest(
        source=source,
        plan=built.plan,
        exporter=built.exporter,
        graphs={role: attempt.graph for role, attempt in built.attempts.items()},
        validation=built.validation,
        findings=findings,
        constants=settled_arguments(built.answering.prepared.flat),
    )
    return place.commit(manifest, failed=built.validation.status == "failed")


def _load_libraries() -> None:
    """Import what sets up loggers of its own before these are taken away for the export."""
    import torch  # noqa: F401
    import transformers  # noqa: F401
