"""ONNX Runtime in the place of a live model: `exported.swapped_into(model)`.

The forward of the model *instance* is replaced for a block, so that pipelines, `generate()` and the user's own code run
the graph without knowing. What the graph cannot give is refused, never None.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.adapters.module_hooks import foreign_hooks, module_hooks
from onnx_magic.engine.asking import Asked
from onnx_magic.engine.capturing import instance_forward
from onnx_magic.engine.flat import bind_call, signature_of
from onnx_magic.engine.generation.standing import GeneratorStandIn
from onnx_magic.engine.random_states import random_states_kept
from onnx_magic.engine.sources import fingerprint_module
from onnx_magic.engine.sources.torch_modules import unwrapped
from onnx_magic.engine.state import heeds_training
from onnx_magic.engine.structures import Structure, structure_of
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.engine.watching import KEPT_CALLS, ModuleCall, architecture_of
from onnx_magic.errors import InputsError, OnnxMagicError, SwapError
from onnx_magic.runtime.feeds import fit_feed
from onnx_magic.runtime.generating import is_generator

if TYPE_CHECKING:
    import torch

    from onnx_magic.exported import ExportedModel

Array: TypeAlias = np.ndarray[Any, Any]

_MARK = "__onnx_magic_swap__"
_claiming = threading.Lock()
"""Two threads may ask for one model at the same time: one of them gets it."""

_STEERING = ("return_dict", "output_hidden_states", "output_attentions", "use_cache")
"""What a config says of the form of the outputs."""


@dataclass(frozen=True, eq=False)
class SwappedCall:
    """One call that ONNX Runtime answered.

    Args:
        feed: The arrays that were fed.
        outputs: All outputs of the graph.
        seconds: Wall time of the run itself.
    """

    feed: Mapping[str, Array]
    outputs: Mapping[str, Array]
    seconds: float


@dataclass(eq=False)
class SwapReport:
    """What happened while ONNX Runtime stood in for a model; it grows while the block runs.

    Args:
        architecture: Class name of the model.
        calls: The first calls that ONNX Runtime answered.
        count: How many it answered.
        failures: Calls that it could not run, an error each.
        rows: Rows of tokens that were generated: one per call and row of its batch.
        bypassed: Inner modules that ran in PyTorch all the same, by path, and how often.
    """

    architecture: str
    calls: list[SwappedCall] = field(default_factory=list, repr=False)
    count: int = 0
    rows: int = 0
    failures: list[OnnxMagicError] = field(default_factory=list)
    bypassed: dict[str, int] = field(default_factory=dict)
    _said: dict[str, None] = field(default_factory=dict)

    def say(self, *sentences: str) -> None:
        """Add notes; one that is there already is not said twice."""
        self._said |= dict.fromkeys(sentences)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, a sentence each."""
        notes = list(self._said)
        if not self.count and not self.failures:
            notes.append(f"ONNX Runtime was not called: {self.architecture} was not called in the block")
        outer = [path for path in self.bypassed if not any(path.startswith(f"{other}.") for other in self.bypassed)]
        if outer:
            notes.append(f"inner modules were called past ONNX Runtime and ran in PyTorch: {', '.join(outer)}")
        return tuple(notes)


@contextlib.contextmanager
def swapped(
    exported: ExportedModel, model: Any, *, provider: str | None = None, seen: Sequence[ModuleCall] = ()
) -> Iterator[SwapReport]:
    """Put ONNX Runtime in the place of `model.forward` for the block; the instance's `__dict__` is put back exactly.

    Args:
        exported: The exported model.
        model: The live model: a module, a compiled module, or a pipeline that holds one.
        provider: Execution provider.
        seen: Calls of the model that were watched: the form of its outputs is known from them.

    Yields:
        SwapReport: the calls, and what bypassed them; it grows while the block runs.

    Raises:
        SwapError: not a model; another architecture; weights that are not those of the export; already swapped.

    Example:
        >>> with swapped(exported, model) as report:  # doctest: +SKIP
        ...     model(**tokenizer("I loved it", return_tensors="pt")).logits
    """
    target = swap_target(model)
    refuse_other_model(exported, target)
    stand_in = stand_in_for(exported, target, provider)
    for call in seen:
        stand_in.learn(call)
    with contextlib.ExitStack() as stack:
        with _claiming:
            if hasattr(target.__dict__.get("forward"), _MARK):
                raise SwapError(
                    f"ONNX Runtime stands in for this {architecture_of(target)} already: swaps are not nested",
                    fix="leave the outer `with exported.swapped_into(model)` first",
                )
            swapped_forwards = list(stand_in.forwards())
            for module, forward in swapped_forwards:
                setattr(forward, _MARK, True)
                stack.enter_context(instance_forward(module, forward))
        stack.enter_context(_bypass_watched(target, stand_in, [module for module, _ in swapped_forwards]))
        yield stand_in.report


def swap_target(model: Any) -> torch.nn.Module:
    """The module whose forward is replaced: out of `torch.compile`, a pipeline's model.

    Raises:
        SwapError: neither a module nor something that holds one.
    """
    import torch

    held = model if isinstance(model, torch.nn.Module) else getattr(model, "model", None)
    if not isinstance(held, torch.nn.Module):
        raise SwapError(
            f"ONNX Runtime cannot stand in for a {type(model).__name__}: expected a model or a pipeline",
            fix="exported.swapped_into(model)",
        )
    return unwrapped(held)


def exported_fingerprint(exported: ExportedModel) -> str | None:
    """The fingerprint of the weights that were exported; `None` for a file without a manifest."""
    manifest = exported.opened.manifest
    return manifest.fingerprint if manifest is not None else None


def refuse_other_model(exported: ExportedModel, target: torch.nn.Module) -> None:
    """Raise a SwapError unless `target` has the architecture and the weights that were exported."""
    architecture, expected = architecture_of(target), exported.opened.architecture
    if expected and architecture != expected:
        raise SwapError(
            f"{exported.name} is an export of {expected}, not of {architecture}", fix="exported = %onnx_export model"
        )
    known = exported_fingerprint(exported)
    if known is None:
        raise SwapError(
            f"{exported.model_path.name} carries no fingerprint: whether its weights are those of this {architecture} "
            "cannot be told",
            fix="exported = %onnx_export model",
        )
    if (now := fingerprint_module(target)) != known:
        raise SwapError(
            f"the model has changed since the export: its weights are {now}, those exported were {known}",
            fix="exported = %onnx_export model",
        )


def stand_in_for(
    exported: ExportedModel, target: torch.nn.Module, provider: str | None = None
) -> StandIn | GeneratorStandIn:
    """What answers in the model's place: a model that generates carries a past from call to call."""
    if is_generator(exported.opened) and hasattr(target, "generate"):
        return GeneratorStandIn(exported, target, SwapReport(architecture_of(target)), provider)
    return StandIn(exported, target, provider)


class StandIn:
    """A forward that ONNX Runtime answers, for one model.

    Args:
        exported: The exported model.
        target: The module it stands in for, out of its wrappers.
        provider: Execution provider.
    """

    def __init__(self, exported: ExportedModel, target: torch.nn.Module, provider: str | None = None) -> None:
        self.exported, self.target = exported, target
        self.session = exported.opened.session(provider)
        self.report = SwapReport(architecture_of(target))
        self.original = target.forward
        self.signature = signature_of(target)
        self.asked = Asked(exported, self.report.architecture, self.signature)
        self._structures: dict[str, Structure] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        self.report.say(*_hooks_that_rest(target))
        self.forward = self._make_forward()

    def _make_forward(self) -> Any:
        @functools.wraps(self.original)  # generate() reads the signature to see what it may pass
        def forward(*args: Any, **kwargs: Any) -> Any:
            return self.original(*args, **kwargs) if self.inside else self._answer(args, kwargs)

        if "torch._dynamo" in sys.modules:  # only then can there be a compiled model that would trace this
            import torch

            forward = torch.compiler.disable(forward)
        return forward

    def forwards(self) -> Iterator[tuple[torch.nn.Module, Any]]:
        """The module whose forward is replaced, and with what."""
        yield self.target, self.forward

    @property
    def inside(self) -> bool:
        """Whether this thread is running the original forward, to see the form of its outputs."""
        return bool(getattr(self._local, "inside", False))

    def feed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays of one call, as the graph takes them.

        Raises:
            TypeError: the arguments do not fit the forward.
            SwapError: something is asked for that the graph cannot give.
            FeedError: an array that the graph does not take.
        """
        tensors = self._tensors(args, kwargs)
        self.report.say(*self.asked.check(args, kwargs, tensors))
        given = {name: tensors[name] for name in tensors if name in self.session.inputs}
        feed, notes = fit_feed(to_arrays(given), self.exported.graph.inputs)
        self.report.say(*notes)
        return feed

    def _tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The tensors of one call by the graph's names; those in a dict of tensors go by their keys too."""
        self.signature.bind(*args, **kwargs)
        try:
            _, tensors = bind_call(self.target, args, kwargs)
        except InputsError as error:
            raise SwapError(
                f"{self.report.architecture} was called without a tensor: ONNX Runtime has nothing to run on",
                fix=error.fix,
            ) from error
        keys = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}
        named = {name: keys[name] for name in self.session.inputs if name not in tensors and name in keys}
        return {**tensors, **named}

    def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if heeds_training(self.target):
            raise SwapError(
                f"{self.report.architecture} is in train mode: ONNX Runtime answers as in eval mode", fix="model.eval()"
            )
        feed = self.feed(args, kwargs)
        started = time.perf_counter()
        try:
            outputs = self.session.run(feed)
        except OnnxMagicError as error:
            self.report.failures.append(error)
            raise
        seconds = time.perf_counter() - started
        value = self._returned(args, kwargs, outputs)
        with self._lock:
            self.report.count += 1
            if len(self.report.calls) < KEPT_CALLS:
                self.report.calls.append(SwappedCall(feed, outputs, seconds))
        return value

    def outputs_of(self, call: ModuleCall) -> dict[str, Array]:
        """What PyTorch returned in a call that was watched, by the names of the graph's outputs."""
        names = self.asked.names_of(call.structure, call.kwargs, self._tensors(call.args, call.kwargs))
        return to_arrays({name: call.outputs[slot] for slot, name in names.items() if name is not None})

    def _returned(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], outputs: Mapping[str, Array]) -> Any:
        """The arrays as the model itself would return them: same classes, same device, same dtypes."""
        structure = self._structure(args, kwargs)
        given = self._tensors(args, kwargs)
        names = self.asked.names_of(structure, kwargs, given)
        self.report.say(*self.asked.left_out(structure))
        arrays = to_tensors({slot: outputs[name] for slot, name in names.items() if name is not None})
        device = _device(self.target)
        tensors = {
            slot.name: arrays[slot.name].to(device, slot.dtype) if slot.name in arrays else given[slot.name]
            for slot in structure.slots
        }
        return structure.filled(tensors)

    def _structure(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Structure:
        """The form of what the model returns for such a call: seen once, by running it in PyTorch."""
        import torch

        key = self._key(args, kwargs)
        if key not in self._structures:
            self._local.inside = True
            try:
                with torch.no_grad(), random_states_kept():
                    self._structures[key], _ = structure_of(self.original(*args, **kwargs))
            finally:
                self._local.inside = False
        return self._structures[key]

    def learn(self, call: ModuleCall) -> None:
        """Take the form of the outputs from a call that was watched."""
        self._structures.setdefault(self._key(call.args, call.kwargs), call.structure)

    def _key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """All that the form of the outputs may depend on, beside the tensors."""
        config = getattr(self.target, "config", None)
        return repr((self.asked.constants(args, kwargs), [getattr(config, name, None) for name in _STEERING]))


@contextlib.contextmanager
def _bypass_watched(
    target: torch.nn.Module, stand_in: StandIn | GeneratorStandIn, swapped_modules: Sequence[torch.nn.Module]
) -> Iterator[None]:
    """Note the inner modules that are called in the block from elsewhere than the forward that was replaced."""
    own = {id(module) for module in swapped_modules}
    paths = {id(module): path for path, module in target.named_modules() if id(module) not in own}

    def enter(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        path = paths.get(id(module))
        if path is not None and not stand_in.inside:
            stand_in.report.bypassed[path] = stand_in.report.bypassed.get(path, 0) + 1

    with module_hooks(enter):
        yield


def _hooks_that_rest(target: torch.nn.Module) -> Iterator[str]:
    """A note where hooks on inner modules wait for calls that will not come."""
    hooked = [path for path, m in target.named_modules() if path and foreign_hooks(m)]
    if hooked:
        shown = ", ".join(hooked[:3]) + (", ..." if len(hooked) > 3 else "")
        yield f"hooks on inner modules see nothing of what ONNX Runtime computes: {shown}"


def _device(module: torch.nn.Module) -> torch.device:
    import itertools

    import torch

    first = next(itertools.chain(module.parameters(), module.buffers()), None)
    return first.device if first is not None else torch.device("cpu")
