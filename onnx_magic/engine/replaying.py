"""ONNX Runtime and PyTorch on the same inputs: calls that were watched in a cell, or an input given to both."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import compare_outputs
from onnx_magic.engine.flat import FlatModel, bind_call
from onnx_magic.engine.generation.asking import generates
from onnx_magic.engine.generation.standing import GeneratorStandIn
from onnx_magic.engine.inputs import keyword_binding
from onnx_magic.engine.nearness import compare_near, rule_of
from onnx_magic.engine.precision import as_narrow, narrow_notes, narrow_tolerances
from onnx_magic.engine.reference import reference_model, run_reference
from onnx_magic.engine.sources import fingerprint_module
from onnx_magic.engine.swapping import StandIn, SwappedCall, exported_fingerprint, refuse_other_model, swap_target
from onnx_magic.engine.timing import Stopwatch
from onnx_magic.engine.watching import ModuleCall, Watch, architecture_of
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.records.latency import BackendTime, Latency
from onnx_magic.records.results import Comparison, RunResult, SideBySide, VariantAnswer
from onnx_magic.runtime.feeds import fit_feed
from onnx_magic.runtime.running import FeedPlan, build_feed, decode_outputs

if TYPE_CHECKING:
    import torch

    from onnx_magic.exported import ExportedModel

Array: TypeAlias = np.ndarray[Any, Any]

NO_PYTORCH = "PyTorch's side is missing: there is no live model; model=... gives one"


def called_model(exported: ExportedModel, watch: Watch, model: Any = None) -> torch.nn.Module | None:
    """The module of a watched cell that was exported; `None` when the cell called none of its class.

    Args:
        model: The one that the user says it is.

    Raises:
        UsageError: only others of its class were called, or several with the same weights.
    """
    name = watch.architecture
    if model is not None:
        target = swap_target(model)
        if watch.modules and not any(target is called for called in watch.modules):
            raise UsageError(
                f"the cell calls another {name} than the one that model= gives",
                fix="%%onnx_run exported model=<the model that the cell calls>",
            )
        return target if watch.modules else None
    known = exported_fingerprint(exported)
    prints = [(module, fingerprint_module(module)) for module in watch.modules]
    same = [module for module, found in prints if found == known]
    if len(same) > 1:
        raise UsageError(
            f"the cell calls {len(same)} models of class {name} with the weights that were exported",
            fix="%%onnx_run exported model=<one of them>",
        )
    if prints and not same:
        raise UsageError(
            f"the cell calls {name} with other weights ({prints[0][1]}) than were exported ({known}); "
            "model=... says which model is meant",
            fix="exported = %onnx_export model",
        )
    return same[0] if same else None


def called_inside(exported: ExportedModel, watch: Watch) -> str | None:
    """The path of an inner module of the live model that was called, though the model itself was not."""
    if exported.source is None or watch.modules:
        return None
    inner = {id(module): path for path, module in exported.source.model.named_modules() if path}
    return next((inner[id(module)] for module in watch.others if id(module) in inner), None)


def compare_calls(
    stand_in: StandIn | GeneratorStandIn, calls: Sequence[ModuleCall], answered: Sequence[SwappedCall] = ()
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """A Comparison per watched call, on that call's own inputs, and notes.

    Args:
        answered: What ONNX Runtime answered when the cell ran again; a call whose inputs were others is run once more.
    """
    if isinstance(stand_in, GeneratorStandIn):
        return stand_in.compared(calls, answered)
    comparisons: list[Comparison] = []
    other: list[int] = []
    for number, call in enumerate(calls):
        feed = stand_in.feed(call.args, call.kwargs)
        swapped = answered[number] if number < len(answered) else None
        if swapped is not None and not _same(feed, swapped.feed):
            other.append(number + 1)
            swapped = None
        comparisons.append(_compare(stand_in, f"call {number + 1}", call, feed, swapped))
    shown = ", ".join(map(str, other[:5])) + (", ..." if len(other) > 5 else "")
    notes = (f"the second run gave the model other inputs (call {shown}): differences are on the first run's inputs",)
    return tuple(comparisons), (*(notes if other else ()), *narrow_notes(stand_in.exported, comparisons))


def _compare(
    stand_in: StandIn, label: str, call: ModuleCall, feed: Mapping[str, Array], answered: SwappedCall | None
) -> Comparison:
    exported = stand_in.exported
    try:
        actual = answered.outputs if answered is not None else stand_in.session.run(feed)
    except OnnxMagicError as error:
        return Comparison(label, {name: tuple(array.shape) for name, array in feed.items()}, error=error.what)
    return _compared(exported, label, stand_in.outputs_of(call), actual, feed)


def _compared(
    exported: ExportedModel,
    label: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    feed: Mapping[str, Array],
) -> Comparison:
    """With the tolerances of the export; a smaller variant's by the rule of its own verdict."""
    actual = as_narrow(actual, expected)
    rule = rule_of(exported.made)
    if rule is not None:
        return compare_near(label, expected, actual, feed, rule, task=exported.task, closeup=True)
    atol, rtol = narrow_tolerances(expected, exported.validation)
    return compare_outputs(label, expected, actual, feed, task=exported.task, atol=atol, rtol=rtol, closeup=True)


def _same(feed: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return feed.keys() == other.keys() and all(
        array.shape == other[name].shape and array.tobytes() == other[name].tobytes() for name, array in feed.items()
    )


def replayed(
    exported: ExportedModel,
    model: torch.nn.Module,
    calls: Sequence[ModuleCall],
    *,
    top_k: int | None = None,
    provider: str | None = None,
    variants: Mapping[str, ExportedModel] | None = None,
) -> SideBySide:
    """ONNX Runtime on the inputs of calls that were watched, beside what PyTorch answered; the last call is shown.

    Raises:
        SwapError: another model, or something is asked for that the graph cannot give.
    """
    refuse_other_model(exported, model)
    side = _replay(exported, model, calls, top_k, provider)
    others: dict[str, VariantAnswer] = {}
    for name, variant in (variants or {}).items():
        with _told(others, name, "replayed"):
            again = _replay(variant, model, calls, top_k, provider)
            others[name] = VariantAnswer(again.actual, again.comparison)
    return dataclasses.replace(side, others=others, top_k=top_k)


def _replay(
    exported: ExportedModel,
    model: torch.nn.Module,
    calls: Sequence[ModuleCall],
    top_k: int | None,
    provider: str | None,
) -> SideBySide:
    stand_in = StandIn(exported, model, provider)
    answered: list[SwappedCall] = []
    for call in calls:
        feed = stand_in.feed(call.args, call.kwargs)
        started = time.perf_counter()
        outputs = stand_in.session.run(feed)
        answered.append(SwappedCall(feed, outputs, time.perf_counter() - started))
    comparisons, _ = compare_calls(stand_in, calls, answered)
    last, seen = answered[-1], calls[-1]
    plan = FeedPlan(last.feed)
    notes = (f"{len(calls)} calls were replayed; the last one's answer is shown",) if len(calls) > 1 else ()
    return SideBySide(
        _pytorch_result(exported, stand_in.outputs_of(seen), plan, top_k, seen.seconds, model),
        _result(exported, last.outputs, plan, top_k, last.seconds, stand_in.session.provider),
        comparisons,
        (
            *notes,
            *narrow_notes(exported, comparisons),
            *(note for note in stand_in.report.notes if stand_in.report.count),
        ),
    )


def both_answers(
    exported: ExportedModel,
    inputs: Any,
    *,
    model: Any = None,
    top_k: int | None = None,
    provider: str | None = None,
    variants: Mapping[str, ExportedModel] | None = None,
    timed: bool = False,
    asked: Mapping[str, Any] | None = None,
    full_text: bool = True,
) -> SideBySide | RunResult:
    """PyTorch's and ONNX Runtime's answer to one input; ONNX Runtime's alone, with a note, when no model is live.

    Args:
        exported: The exported model.
        inputs: What `exported.run` takes.
        model: The live model, where the export does not hold it.
        top_k: How many answers per sample.
        provider: Execution provider.
        variants: Further forms that answer beside it, by name.
        timed: Whether to measure how long each side takes.
        asked: Generation options.
        full_text: Whether a generated text begins with its prompt.

    Raises:
        FeedError: the inputs do not fit the graph.
        SwapError: `model` is another one.
        VerificationError: the live model has changed since the export.
    """
    if generates(exported.opened, inputs, asked or {}):
        wanted = {**(asked or {}), "top_k": top_k}
        return _both_generated(exported, inputs, wanted, model, full_text, timed, variants or {}, provider)
    plan = build_feed(exported.opened, inputs)
    session = exported.opened.session(provider)
    started = time.perf_counter()
    actual = session.run(plan.arrays)
    seconds = time.perf_counter() - started
    notes = plan.notes if model is not None or exported.live is not None else (*plan.notes, NO_PYTORCH)
    result = _result(exported, actual, plan, top_k, seconds, session.provider, notes)
    if model is None and exported.live is None:
        if variants or timed:
            raise UsageError(f"{NO_PYTORCH}, which variants= and time= compare with", fix="model=<the live model>")
        return result
    flat = _reference(exported, model)
    started = time.perf_counter()
    expected = run_reference(flat, plan.arrays)
    side = _pytorch_result(exported, expected, plan, top_k, time.perf_counter() - started, flat.model)
    others: dict[str, VariantAnswer] = {}
    for name, variant in (variants or {}).items():
        with _told(others, name, "given"):
            others[name] = _variant_answer(exported, variant, plan, expected, top_k, provider)
    compared = (_compared(exported, "given", expected, actual, plan.arrays),)
    latency = Stopwatch(exported, flat, variants, provider=provider).measure(plan.arrays) if timed else None
    return SideBySide(side, result, compared, plan.notes, others, latency, top_k)


def _both_generated(
    exported: ExportedModel,
    inputs: Any,
    asked: Mapping[str, Any],
    model: Any,
    full_text: bool,
    timed: bool,
    variants: Mapping[str, ExportedModel],
    provider: str | None,
) -> SideBySide | RunResult:
    """What every side goes on with, and how far their tokens agree."""
    from onnx_magic.engine.generation.continuing import continued, in_pytorch

    opened = exported.opened
    if model is not None:
        refuse_other_model(exported, swap_target(model))
    live = swap_target(model) if model is not None else exported.source.model if exported.source else None
    if live is None and (variants or timed):
        raise UsageError(f"{NO_PYTORCH}, which variants= and time= compare with", fix="model=<the live model>")
    actual = continued(opened, inputs, asked, full_text=full_text, provider=provider, live=live)
    if live is None:
        return replace(actual, notes=(*actual.notes, NO_PYTORCH))
    expected = in_pytorch(opened, inputs, asked, live, full_text=full_text)
    others: dict[str, VariantAnswer] = {}
    for name, variant in variants.items():
        with _told(others, name, "given"):
            answer = continued(variant.opened, inputs, asked, full_text=full_text, provider=provider, live=live)
            others[name] = VariantAnswer(answer, (_compared_tokens(expected, answer),), answer.notes)
    sides = {"PyTorch": expected, "ONNX Runtime": actual, **{name: other.answer for name, other in others.items()}}
    latency = Latency(tuple(_rate(name, side) for name, side in sides.items() if isinstance(side, RunResult)))
    compared = (_compared_tokens(expected, actual),)
    return SideBySide(expected, actual, compared, actual.notes, others, latency if timed else None)


def _compared_tokens(expected: RunResult, actual: RunResult) -> Comparison:
    return compare_outputs("tokens", expected.outputs, actual.outputs, actual.feed, task=None)


def _rate(name: str, side: RunResult) -> BackendTime:
    return BackendTime(name, side.provider, None, side.seconds, side.seconds, side.seconds, 1, side.tokens)


def _variant_answer(
    exported: ExportedModel,
    variant: ExportedModel,
    plan: FeedPlan,
    expected: Mapping[str, Array],
    top_k: int | None,
    provider: str | None,
) -> VariantAnswer:
    """What a variant answers to a feed that was made for the plain export."""
    feed, notes = fit_feed(plan.arrays, variant.inputs)
    session = variant.opened.session(provider)
    started = time.perf_counter()
    actual = session.run(feed)
    seconds = time.perf_counter() - started
    result = _result(exported, actual, plan, top_k, seconds, session.provider)
    compared = (_compared(variant, "given", expected, actual, plan.arrays),)
    return VariantAnswer(result, compared, notes)


@contextlib.contextmanager
def _told(others: dict[str, VariantAnswer], name: str, label: str) -> Iterator[None]:
    """Let a variant that cannot answer say why in its column: the others have answered."""
    try:
        yield
    except OnnxMagicError as error:
        others[name] = failed_variant(label, error.what)


def failed_variant(label: str, why: str) -> VariantAnswer:
    """A variant that gave no answer."""
    return VariantAnswer({}, (Comparison(label, {}, error=why),))


def timed_call(
    exported: ExportedModel,
    model: torch.nn.Module,
    call: ModuleCall,
    *,
    variants: Mapping[str, ExportedModel] | None = None,
    provider: str | None = None,
) -> Latency:
    """How long each side takes for a call that was watched.

    Raises:
        SwapError: something is asked for that the graph cannot give.
    """
    binding, tensors = bind_call(model, call.args, call.kwargs)
    feed = StandIn(exported, model, provider).feed(call.args, call.kwargs)
    watch = Stopwatch(exported, FlatModel(model, binding), variants, provider=provider)
    return watch.measure(feed, tensors=tensors)


def _reference(exported: ExportedModel, model: Any) -> FlatModel:
    if model is None:
        return reference_model(exported.opened, exported.live)
    target = swap_target(model)
    refuse_other_model(exported, target)
    return FlatModel(target, keyword_binding(target, tuple(spec.name for spec in exported.inputs)))


def _result(
    exported: ExportedModel,
    outputs: Mapping[str, Array],
    plan: FeedPlan,
    top_k: int | None,
    seconds: float,
    provider: str,
    notes: tuple[str, ...] = (),
) -> RunResult:
    decoded = decode_outputs(exported.opened, outputs, plan, top_k)
    return RunResult(outputs, decoded, provider=provider, seconds=seconds, notes=notes, feed=plan.arrays)


def _pytorch_result(
    exported: ExportedModel,
    outputs: Mapping[str, Array],
    plan: FeedPlan,
    top_k: int | None,
    seconds: float,
    model: torch.nn.Module,
) -> RunResult:
    decoded = decode_outputs(exported.opened, outputs, plan, top_k)
    device = str(FlatModel(model, keyword_binding(model, ())).device)
    return RunResult(outputs, decoded, "pytorch", device, seconds, feed=plan.arrays)


def watched_class(exported: ExportedModel, model: Any = None) -> str:
    """The class name whose calls tell which model a cell runs."""
    return architecture_of(swap_target(model)) if model is not None else exported.opened.architecture
