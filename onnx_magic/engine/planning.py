"""From a source and the user's wishes to an ExportPlan: task, inputs, axes, opset, exporter, and who decided each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.examples import Examples, follows
from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.inputs import candidates, first_that_runs
from onnx_magic.engine.opsets import choose_opset
from onnx_magic.engine.probing import Probe, model_raised, probe
from onnx_magic.engine.tasks.quirks import quirks_for
from onnx_magic.engine.tensors import dtype_name, to_arrays, to_tensors
from onnx_magic.errors import UsageError
from onnx_magic.option_values import Axes, check_axes
from onnx_magic.records.plan import Decision, ExportPlan, TensorSpec

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.sources import ModelSource


@dataclass(frozen=True, eq=False)
class Prepared:
    """A plan, and the live things it speaks of.

    Args:
        plan: What was decided.
        flat: The model as a function of the plan's inputs.
        probe: What running it at other sizes showed; its examples' axes are the plan's.
        user_axes: Whether the user said which axes are dynamic: then none is pinned behind their back.
    """

    plan: ExportPlan
    flat: FlatModel
    probe: Probe
    user_axes: bool

    @property
    def examples(self) -> Examples:
        """The example inputs."""
        return self.probe.examples

    def with_axes(self, axes: Mapping[str, Mapping[int, str]]) -> Prepared:
        """The same with other dynamic axes."""
        kept = {name for moving in axes.values() for name in moving.values()}
        found = replace(
            self.probe,
            examples=_with_axes(self.examples, axes),
            output_axes={
                output: {axis: name for axis, name in moving.items() if name in kept}
                for output, moving in self.probe.output_axes.items()
            },
        )
        inputs, outputs = _specs(found)
        return replace(self, probe=found, plan=self.plan.replace(inputs=inputs, outputs=outputs))


def prepare(source: ModelSource, request: ExportRequest) -> Prepared:
    """Decide everything before tracing; runs the model at a few sizes.

    Raises:
        InputsError: no inputs, or the model raises on them.
        UsageError: `dynamic` names what is not there, or what cannot move.
        OpsetError: no exporter writes that opset.
    """
    opset, exporter = choose_opset(request.opset, request.exporter)
    wish = check_axes(request.dynamic) if request.dynamic is not None else None
    flat, found = first_that_runs(
        candidates(source, request.inputs),
        lambda flat, examples: (flat, probe(flat, examples)),
        source.architecture,
    )
    decisions = [
        Decision("task", source.task, source.task_by),
        Decision("opset", opset, "user" if request.opset is not None else "default"),
        Decision("exporter", exporter, "user" if request.exporter != "auto" else "default"),
        Decision("inputs", tuple(found.examples.traced), found.examples.by, "padded" if found.examples.padded else ""),
    ]
    by_axis = {
        f"{tensor}[{axis}]": Decision(f"{tensor}[{axis}]", name, "probe")
        for tensor, moving in found.examples.axes.items()
        for axis, name in moving.items()
    }
    if wish is not None and wish is not True:
        axes = _wished(wish, found)
        found = replace(found, examples=_with_axes(found.examples, axes), output_axes=_renamed(found, axes))
        by_axis = {
            f"{tensor}[{axis}]": Decision(f"{tensor}[{axis}]", axes.get(tensor, {}).get(axis, size), "user")
            for tensor, array in found.examples.traced.items()
            for axis, size in enumerate(array.shape)
            if axis in axes.get(tensor, {}) or f"{tensor}[{axis}]" in by_axis
        }
    inputs, outputs = _specs(found)
    plan = ExportPlan(
        name=source.name,
        task=source.task,
        architecture=source.architecture,
        inputs=inputs,
        outputs=outputs,
        examples=found.examples.traced,
        opset=opset,
        exporter=exporter,
        quirks=tuple(row.name for row in quirks_for(source.model)),
        decisions=(*decisions, *by_axis.values()),
        asked=dict(vars(request)),
    )
    return Prepared(plan, flat, found, user_axes=wish is not None and wish is not True)


def prepare_declared(
    source: ModelSource,
    request: ExportRequest,
    flat: FlatModel,
    examples: Examples,
    output_axes: Mapping[str, Mapping[int, str]],
) -> Prepared:
    """The same for one graph of a task that says itself which axes move: nothing is tried but the traced inputs.

    Args:
        flat: The model as a function of the graph's inputs.
        examples: Inputs for it, with the axes named.
        output_axes: The outputs' axes: `{output: {axis: name}}`.

    Raises:
        InputsError: the model raises on them.
        OpsetError: no exporter writes that opset.
        UsageError: `dynamic` was given.
    """
    if request.dynamic not in (None, True):
        raise UsageError(
            f"dynamic={request.dynamic!r}: the axes of {source.task} are the task's own, each of them is dynamic",
            fix="leave dynamic out",
        )
    opset, exporter = choose_opset(request.opset, request.exporter)
    try:
        outputs = to_arrays(flat.run(to_tensors(examples.traced)))
    except Exception as error:  # the user's model may raise anything
        raise model_raised(source.architecture, examples.traced, error, "cache=no") from error
    found = Probe(examples, outputs, {name: output_axes.get(name, {}) for name in outputs}, runs=1)
    inputs, made = _specs(found)
    decisions = (
        Decision("task", source.task, source.task_by),
        Decision("opset", opset, "user" if request.opset is not None else "default"),
        Decision("exporter", exporter, "user" if request.exporter != "auto" else "default"),
        Decision("inputs", tuple(examples.traced), examples.by, "padded" if examples.padded else ""),
        *(
            Decision(f"{tensor}[{axis}]", name, "task")
            for tensor, moving in examples.axes.items()
            for axis, name in moving.items()
        ),
    )
    plan = ExportPlan(
        name=source.name,
        task=source.task,
        architecture=source.architecture,
        inputs=inputs,
        outputs=made,
        examples=examples.traced,
        opset=opset,
        exporter=exporter,
        quirks=tuple(row.name for row in quirks_for(source.model)),
        decisions=decisions,
    )
    return Prepared(plan, flat, found, user_axes=True)


def _specs(found: Probe) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    sizes = found.examples.sizes

    def spec(name: str, array: Any, moving: Mapping[int, str], role: Any) -> TensorSpec:
        # An output's axis that follows an input's without being as long (height // 2) has a name of its own.
        named = {a: n if follows(n) or sizes.get(n) == array.shape[a] else f"{name}_dim_{a}" for a, n in moving.items()}
        return TensorSpec(name, dtype_name(array), tuple(named.get(a, n) for a, n in enumerate(array.shape)), role)

    return (
        tuple(spec(n, a, found.examples.axes.get(n, {}), "input") for n, a in found.examples.traced.items()),
        tuple(spec(n, a, found.output_axes.get(n, {}), "output") for n, a in found.outputs.items()),
    )


def _with_axes(examples: Examples, axes: Mapping[str, Mapping[int, str]]) -> Examples:
    """The same examples with other (or renamed) axes; sizes are asked for by the new names."""
    # Two axes that moved each by itself may be given one name: then both old names mean it.
    new_names = {examples.axes[tensor][axis]: name for tensor, moving in axes.items() for axis, name in moving.items()}
    limits: dict[str, int] = {}
    for old, name in new_names.items():
        if old in examples.limits:
            limits[name] = min(examples.limits[old], limits.get(name, examples.limits[old]))
    make = examples.make
    return replace(
        examples,
        axes=axes,
        make=lambda sizes, seed: make({old: sizes[name] for old, name in new_names.items() if name in sizes}, seed),
        limits=limits,
    )


def _renamed(found: Probe, axes: Mapping[str, Mapping[int, str]]) -> dict[str, dict[int, str]]:
    new = {found.examples.axes[t][axis]: name for t, moving in axes.items() for axis, name in moving.items()}
    return {
        output: {axis: new[name] for axis, name in moving.items() if name in new}
        for output, moving in found.output_axes.items()
    }


def _wished(wish: Axes, found: Probe) -> dict[str, dict[int, str]]:
    """The dynamic axes as the user wants them, against what the probe found.

    An axis that moves with a named one takes its name: the graph needs one size for both.
    """
    known = found.examples.axes
    if wish is False:
        return {}
    if isinstance(wish, str):
        names = sorted({name for moving in known.values() for name in moving.values()})
        if wish not in names:
            near = difflib.get_close_matches(wish, names, n=1, cutoff=0.3)
            raise UsageError(
                f"dynamic={wish}: there is no such axis; the axes that can move are {', '.join(names) or 'none'}"
                + _why_not(wish, found),
                fix=f"dynamic={near[0] if near else (names[0] if names else 'no')}",
            )
        return {t: {axis: name for axis, name in moving.items() if name == wish} for t, moving in known.items()}
    assert isinstance(wish, dict)
    rename: dict[str, str] = {}
    for tensor, moving in wish.items():
        if tensor in found.output_axes and tensor not in found.examples.traced:
            continue  # torch.onnx.export asks for them too: here they follow from the inputs'
        if tensor not in found.examples.traced:
            near = difflib.get_close_matches(tensor, list(found.examples.traced), n=1, cutoff=0.3)
            raise UsageError(
                f"dynamic names {tensor!r}; the inputs are {', '.join(found.examples.traced)}",
                fix=f"dynamic={{{(near or list(found.examples.traced))[0]!r}: {moving}}}",
            )
        rank = found.examples.traced[tensor].ndim
        for axis, name in moving.items() if isinstance(moving, dict) else dict.fromkeys(moving, "").items():
            place = axis + rank if axis < 0 else axis
            if not 0 <= place < rank:
                raise UsageError(
                    f"dynamic names axis {axis} of {tensor}, which has {rank} axes", fix=f"dynamic={known}"
                )
            if place not in known.get(tensor, {}):
                label = f"{tensor}[{axis}]"
                raise UsageError(
                    f"{label} cannot be dynamic: the model does not run at another size{_why_not(name, found)}",
                    fix=f"dynamic={ {t: dict(m) for t, m in known.items() if m} }",
                )
            rename[known[tensor][place]] = name or known[tensor][place]
    _refuse_unequal(rename, found)
    return {
        tensor: {axis: rename[name] for axis, name in moving.items() if name in rename}
        for tensor, moving in known.items()
    }


def _refuse_unequal(rename: Mapping[str, str], found: Probe) -> None:
    """The same name means the same size: refuse it for axes that are traced at different ones."""
    sizes = found.examples.sizes
    first: dict[str, str] = {}
    for old, name in rename.items():
        other = first.setdefault(name, old)
        if sizes[old] != sizes[other]:
            raise UsageError(
                f"{name!r} cannot name both {other} (traced at {sizes[other]}) and {old} (traced at {sizes[old]}): "
                f"the same name means the same size",
                fix=f"dynamic={ {t: dict(m) for t, m in found.examples.axes.items() if m} }",
            )


def _why_not(name: str, found: Probe) -> str:
    reasons = [text for label, text in found.refused.items() if label == name] or list(found.refused.values())[:1]
    return f" ({reasons[0]})" if reasons else ""
