"""From a plan to a file that is proven: try a way, prove it, and when it is wrong try the next.

The order is what was measured to mend most: dynamo; dynamo traced at the shape that failed; dynamo with `int(size)`
kept open; TorchScript; dynamo with the axis that fails pinned. The first that is verified is taken; what failed before
it is kept and shown.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnx_magic.engine.adapters import torch_export, torchscript
from onnx_magic.engine.adapters.tracing_patches import symbolic_int
from onnx_magic.engine.adapters.widening import widen
from onnx_magic.engine.deciding import untested_branches
from onnx_magic.engine.examples import follows
from onnx_magic.engine.judging import OTHER_WAY
from onnx_magic.engine.opsets import OPSETS
from onnx_magic.engine.planning import Prepared
from onnx_magic.engine.probing import one_line
from onnx_magic.engine.scrubbing import notebook_cells, scrub_paths
from onnx_magic.engine.storing import save_graph
from onnx_magic.engine.tasks.quirks import quirks_applied, quirks_for
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.engine.turning import turn_directly
from onnx_magic.engine.tying import store_once
from onnx_magic.engine.validating import feeds, validate
from onnx_magic.errors import ExportError, OpsetError
from onnx_magic.events import stage
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Validation
from onnx_magic.runtime.graphs import describe_model
from onnx_magic.runtime.stepping import PAST

if TYPE_CHECKING:
    import onnx_ir

    from onnx_magic.engine.adapters.torch_export import Assumption, Captured
    from onnx_magic.engine.exporting import ExportRequest


@dataclass(frozen=True, eq=False)
class Attempt:
    """One way that gave a file.

    Args:
        way: `dynamo` or `torchscript`.
        prepared: The plan it was made by; its axes may be fewer than the first plan's.
        graph: The file, at its place in the staging folder.
        validation: What the proof said.
        findings: What the way itself had to say (quirks, a fallback, another opset).
    """

    way: str
    prepared: Prepared
    graph: GraphFile
    validation: Validation
    findings: tuple[Finding, ...] = ()

    @property
    def settled(self) -> bool:
        """Nothing to mend: verified, or not checked, or inconclusive; or PyTorch itself cannot say what is right."""
        random = any(finding.code == "not-repeatable" for finding in self.validation.failures)
        return random or self.validation.status != "failed"


@dataclass(frozen=True)
class Way:
    """How to try: which exporter, which plan, what to say when it is taken, and whether `int(size)` is kept open."""

    exporter: str
    prepared: Prepared
    findings: tuple[Finding, ...] = field(default=())
    symbolic: bool = False


Prover: TypeAlias = Callable[..., Validation]
"""Called as `validate` is; a task may have a proof of its own."""


def convert_and_prove(
    prepared: Prepared, request: ExportRequest, staging: Path, *, prover: Prover = validate, part: str = ""
) -> Attempt:
    """The first way whose file is verified; else the first that gave a file at all.

    Args:
        staging: Folder to write the attempts in, a subfolder each.
        prover: What gives the verdict on a file.
        part: Which of several graphs it is; names the subfolders.

    Raises:
        ExportError: no way gave a file; `attempts` holds what each said.
    """
    made: list[Attempt] = []
    failures: list[tuple[str, BaseException]] = []
    assumptions: list[Assumption] = []
    for number, way in enumerate(_ways(prepared, made, failures)):
        try:
            model, captured = _convert(way, request)
            # What one way assumed, the next is tried against too: TorchScript does not say where it turns.
            assumptions += captured.assumptions if captured else ()
        except Exception as error:  # torch and onnxscript raise anything at all
            failures.append((way.exporter, error))
            continue
        path = staging / f"attempt-{part}{number}" / "model.onnx"
        graph = _save(model, way, path)
        del model  # the weights are on disk now, and ONNX Runtime will hold them too
        if request.opset not in (None, graph.opset):
            failures.append((way.exporter, _opset_error(way, graph)))
            continue
        made.append(_prove(way, graph, request, captured.limits if captured else {}, assumptions, prover))
        if made[-1].settled:
            return made[-1]
    if made:
        return made[0]
    raise _export_error(prepared, failures, request.exporter)


def _ways(prepared: Prepared, made: list[Attempt], failures: list[tuple[str, BaseException]]) -> Iterator[Way]:
    """The ways to try, each looking at how those before it went."""
    asked = prepared.plan.exporter
    quirk_notes = tuple(
        Finding("quirk-applied", f"{row.reason}: worked around ({row.name})", level="note")
        for row in quirks_for(prepared.flat.model)
    )
    if asked == "auto" and _is_torchscript(prepared):
        yield Way("torchscript", prepared, (_SCRIPTED,))
        return
    if asked != "torchscript":
        yield Way("dynamo", prepared, quirk_notes)
        if made and (bigger := _traced_where_it_failed(made[0])) is not None:
            yield Way("dynamo", bigger, quirk_notes)
        if made and _failed_elsewhere(made[0]):
            yield Way("dynamo", prepared, (*quirk_notes, _SYMBOLIC), symbolic=True)
    if asked != "dynamo" and _torchscript_may(prepared):
        yield Way("torchscript", prepared, _fallback_note(asked, made, failures))
    if asked != "torchscript" and made and not prepared.user_axes:
        pinned = _pinned(made[0])
        if pinned is not None:
            yield pinned


_SCRIPTED = Finding("fallback", "the model is TorchScript, which the newer exporter does not take", level="note")


def _is_torchscript(prepared: Prepared) -> bool:
    import torch

    return isinstance(prepared.flat.model, torch.jit.ScriptModule)


_SYMBOLIC = Finding(
    "quirk-applied", "int(size) in the model's code fixed a size: it was traced as a symbol", level="note"
)


def _failed_elsewhere(attempt: Attempt) -> bool:
    """Right at its traced shape and wrong at others."""
    traced = attempt.prepared.examples.sizes
    failed = _failed_sizes(attempt)
    return bool(failed) and traced not in failed


def _torchscript_may(prepared: Prepared) -> bool:
    row = OPSETS["torchscript"]
    return row.low <= prepared.plan.opset <= row.high


def _fallback_note(asked: str, made: list[Attempt], failures: list[tuple[str, BaseException]]) -> tuple[Finding, ...]:
    if asked == "torchscript":
        return ()
    if failures:
        why = one_line(_root(failures[0][1]))
    else:
        why = next((f.sentence for f in made[0].validation.failures), "its graph was wrong") if made else "it failed"
    return (Finding("fallback", f"TorchScript was used, because the newer exporter failed: {why}", level="warning"),)


def _failed_sizes(attempt: Attempt) -> list[dict[str, int]]:
    """Sizes of the axes, for each case that failed; empty when the traced shape itself is wrong."""
    axes = attempt.prepared.examples.axes
    sizes = []
    for comparison in attempt.validation.comparisons:
        if not comparison.passed:
            sizes.append(
                {
                    name: comparison.shapes[t][a]
                    for t, moving in axes.items()
                    for a, name in moving.items()
                    if not follows(name)
                }
            )
    return sizes


def _traced_where_it_failed(attempt: Attempt) -> Prepared | None:
    """The same plan, traced at the largest shape that failed (a branch that the first trace skipped)."""
    prepared = attempt.prepared
    failed = [sizes for sizes in _failed_sizes(attempt) if min(sizes.values(), default=0) > 1]
    if not failed or not _failed_elsewhere(attempt):
        return None
    arrays = prepared.examples.at(seed=0, **max(failed, key=lambda sizes: sum(sizes.values())))
    outputs = prepared.flat.run(to_tensors(arrays))
    probe = replace(prepared.probe, examples=replace(prepared.examples, traced=arrays), outputs=to_arrays(outputs))
    return replace(prepared, probe=probe, plan=prepared.plan.replace(examples=arrays))


def _pinned(attempt: Attempt) -> Way | None:
    """The plan with the axes static at which the graph is wrong, if it is right at its traced shape."""
    traced = attempt.prepared.examples.sizes
    failed = _failed_sizes(attempt)
    baked = set(_baked(attempt))
    wrong = baked or {n for sizes in failed for n, size in sizes.items() if size != traced[n]}
    if not wrong or not _failed_elsewhere(attempt):
        return None
    axes = {
        tensor: {axis: name for axis, name in moving.items() if name not in wrong}
        for tensor, moving in attempt.prepared.examples.axes.items()
    }
    notes = tuple(
        Finding(
            "axis-pinned",
            f"{name} was made static at {traced[name]}: exported as dynamic, the graph is wrong at other sizes",
            level="warning",
        )
        for name in sorted(wrong)
    )
    return Way("dynamo", attempt.prepared.with_axes(axes), (*attempt.findings, *notes))


def _baked(attempt: Attempt) -> Iterator[str]:
    """Names of the axes that the proof calls baked."""
    axes = attempt.prepared.examples.axes
    for finding in attempt.validation.failures:
        if finding.code == "axis-baked" and finding.tensor is not None and finding.axis is not None:
            name = axes.get(finding.tensor, {}).get(finding.axis)
            if name is not None:
                yield name


def _save(model: onnx_ir.Model, way: Way, path: Path) -> GraphFile:
    with stage("save"):
        widen(model)
        store_once(model)
        if any((value.name or "").startswith(PAST) for value in model.graph.inputs):
            turn_directly(model)  # keys of all of the past are not copied at each step
        scrub_paths(model, notebook_cells())
        _name_outputs(model, way.prepared)
        path.parent.mkdir(parents=True)
        files = save_graph(model, path)
        return replace(describe_model(model, path), size=sum(file.stat().st_size for file in files))


def _opset_error(way: Way, graph: GraphFile) -> OpsetError:
    return OpsetError(
        f"the {way.exporter} exporter wrote opset {graph.opset}, asked for {way.prepared.plan.opset}",
        fix=f"opset={graph.opset}",
        stage="convert",
    )


def _prove(
    way: Way,
    graph: GraphFile,
    request: ExportRequest,
    limits: Mapping[str, Any],
    assumptions: Sequence[Assumption],
    prover: Prover,
) -> Attempt:
    verdict = prove_graph(way.prepared, graph, request, prover, limits=limits, assumptions=assumptions)
    if way.exporter == "torchscript" and verdict and request.validate:
        frozen = untested_branches(way.prepared.flat, feeds(way.prepared.examples))
        verdict = replace(verdict, findings=(*frozen, *verdict.findings))
    if way.exporter == "torchscript":
        found = (replace(f, fix=_FROZEN if f.fix.startswith(OTHER_WAY) else f.fix) for f in verdict.findings)
        verdict = replace(verdict, findings=tuple(found))
    return Attempt(way.exporter, way.prepared, graph, verdict, way.findings)


_FROZEN = "keep it a tensor in forward: no .item(), int() or list of its values, no loop over them"
"""TorchScript keeps what a tensor's value was while it was traced."""


def prove_graph(
    prepared: Prepared,
    graph: GraphFile,
    request: ExportRequest,
    prover: Prover,
    *,
    limits: Mapping[str, Any] | None = None,
    assumptions: Sequence[Assumption] = (),
) -> Validation:
    """The verdict on a file, or that there is none where validation was switched off."""
    if not request.validate:
        note = Finding("not-validated", "validation was switched off: nothing is proven", level="note")
        return Validation(findings=(note,), checked=False)
    with stage("verify") as row:
        verdict = prover(
            graph.path,
            graph,
            prepared,
            atol=request.atol,
            rtol=request.rtol,
            limits=limits or {},
            assumptions=assumptions,
        )
        row.detail = f"{sum(c.passed for c in verdict.comparisons)} of {len(verdict.comparisons)} shapes"
    return verdict


def _convert(way: Way, request: ExportRequest) -> tuple[onnx_ir.Model, Captured | None]:
    prepared, plan = way.prepared, way.prepared.plan
    tensors = to_tensors(plan.examples)
    axes = prepared.examples.axes
    outputs = tuple(spec.name for spec in plan.outputs)
    if way.exporter == "torchscript":
        every = {spec.name: spec.dynamic_axes for spec in (*plan.inputs, *plan.outputs)}
        opset = plan.opset if request.opset is not None else OPSETS["torchscript"].default
        with stage("convert") as row, quirks_applied(prepared.flat.model):
            row.detail = "torchscript"
            model = torchscript.export_traced(prepared.flat, tensors, outputs, every, opset, request.fold)
        return model, None
    with stage("capture"), quirks_applied(prepared.flat.model), _open_sizes(way):
        captured = torch_export.capture(prepared.flat, tensors, axes)
    with stage("convert"), quirks_applied(prepared.flat.model):
        model = torch_export.convert(captured, tuple(plan.examples), outputs, axes, plan.opset, request.fold)
    # The program holds the weights: what is needed of it from here on is what tracing said of the axes.
    return model, replace(captured, program=None)


@contextlib.contextmanager
def _open_sizes(way: Way) -> Iterator[None]:
    with symbolic_int(way.prepared.flat.model) if way.symbolic else contextlib.nullcontext():
        yield


def _name_outputs(model: onnx_ir.Model, prepared: Prepared) -> None:
    """Give every axis of an output a name that a reader knows: an input's, an expression of those, or its own.

    Exporters leave names of their own (`s18`, `unk__7`) where a size depends on the data.
    """
    import onnx_ir

    known = {name for moving in prepared.examples.axes.values() for name in moving.values()}
    planned = {spec.name: spec.shape for spec in prepared.plan.outputs}
    for value in model.graph.outputs:
        shape = planned.get(value.name or "")
        if shape is None or value.shape is None or len(value.shape) != len(shape):
            continue
        dims: list[Any] = []
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int):
                dims.append(dim)
                continue
            words = set(re.findall(r"[A-Za-z_]\w*", str(dim.value or "")))
            readable = bool(words) and words <= known
            mine = shape[axis] if isinstance(shape[axis], str) else f"{value.name}_dim_{axis}"
            dims.append(dim if readable else onnx_ir.SymbolicDim(str(mine)))
        value.shape = onnx_ir.Shape(dims)


def _root(error: BaseException) -> BaseException:
    """What torch's exporter failed of: its own errors say at which step, and next steps for its developers."""
    while error.__cause__ is not None and type(error).__module__.startswith("torch.onnx"):
        error = error.__cause__
    return error


def _export_error(prepared: Prepared, failures: list[tuple[str, BaseException]], asked: str) -> ExportError:
    from torch.onnx.errors import UnsupportedOperatorError

    told = "; ".join(f"{way}: {one_line(_root(error))}" for way, error in failures)
    fix = "make what depends on the data a tensor operation (torch.where, torch.cond)"
    if any(isinstance(error, UnsupportedOperatorError) for _, error in failures):
        fix = "write it with other operators, or compute it before or after the model: ONNX has none for it"
    error = ExportError(
        f"{prepared.plan.architecture} could not be exported ({told})",
        fix=fix if asked == "auto" else "exporter=auto  # tries the other way too",
        attempts=tuple(failures),
    )
    error.__cause__ = failures[0][1] if failures else None
    return error
