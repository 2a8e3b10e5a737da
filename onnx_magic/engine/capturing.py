"""The calls of one model in a block, as example inputs for an export."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import Leaf, bind_call, signature_of
from onnx_magic.engine.probing import model_raised
from onnx_magic.engine.sources.torch_modules import unwrapped
from onnx_magic.engine.structures import detached
from onnx_magic.engine.tensors import to_arrays
from onnx_magic.errors import InputsError

if TYPE_CHECKING:
    import torch

CAPTURED_CALLS = 8
"""Calls that become example inputs."""


@dataclass(frozen=True, eq=False)
class CapturedCalls:
    """Calls of one model, as example inputs.

    Args:
        examples: A dict per call, the one to trace first: `{argument of the forward: tensor, or what holds tensors}`,
            in the order of the forward.
        constants: Arguments without a tensor that are not the forward's own defaults: `{argument: value}`.
        axes: Axes at which the calls differ, by tensor name (`states.0` for what stands inside an argument):
            `{tensor: {axis: (sizes)}}`. Empty when one call tells nothing.
        call: The first example as it was called: `(args, kwargs)`.
        notes: What was left out, a sentence each.
    """

    examples: tuple[Mapping[str, Any], ...]
    constants: Mapping[str, Any]
    axes: Mapping[str, Mapping[int, tuple[int, ...]]]
    call: tuple[tuple[Any, ...], Mapping[str, Any]]
    notes: tuple[str, ...] = ()


class Capture:
    """The calls of one model while `capture_calls` is open; `calls` makes example inputs of them afterwards."""

    def __init__(self, model: torch.nn.Module, limit: int) -> None:
        self.model, self.limit = model, limit
        self.signature = signature_of(model)
        self.seen = 0
        self._called: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._tensors: list[dict[str, torch.Tensor]] = []
        self._lock = threading.Lock()
        self._raised: tuple[BaseException, tuple[Any, ...], Mapping[str, Any]] | None = None

    def run(self, forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Record one call, and make it."""
        __tracebackhide__ = True
        self.record(args, kwargs)
        try:
            return forward(*args, **kwargs)
        except Exception as error:
            self._raised = (error, args, kwargs)
            raise

    def refusal(self, error: BaseException) -> InputsError | None:
        """What `error` says of the example inputs, if the model itself raised it; else `None`."""
        if self._raised is None or self._raised[0] is not error:
            return None
        try:
            _, tensors = bind_call(self.model, *self._raised[1:])
        except InputsError as misfit:
            return misfit
        fix = "call the model with inputs that it takes; without the first line the cell shows the whole traceback"
        return model_raised(type(self.model).__name__, to_arrays(tensors), error, fix)

    def record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep one call; one that does not fit the forward's signature is left to the model to refuse."""
        with self._lock:
            self.seen += 1
            if len(self._called) >= self.limit:
                return
            args, kwargs = detached((tuple(args), dict(kwargs)), always_clone=True)
            try:
                _, tensors = bind_call(self.model, args, kwargs)
            except InputsError:
                return
            self._called.append((args, dict(kwargs)))
            self._tensors.append(tensors)

    @property
    def calls(self) -> CapturedCalls:
        """The calls as example inputs.

        Raises:
            InputsError: no call was seen, or the calls cannot share one graph.
        """
        name = type(self.model).__name__
        if not self._called:
            what = "was not called" if not self.seen else "was called without a tensor"
            raise InputsError(
                f"{name} {what} in the cell: its calls become the example inputs",
                fix="call the model in the cell as you normally do: model(x)",
                stage="capture",
            )
        order = sorted(range(len(self._called)), key=lambda i: _traceable(self._tensors[i]), reverse=True)
        largest = max(order, key=lambda i: len(self._tensors[i]))
        kept = [i for i in order if self._tensors[i].keys() == self._tensors[largest].keys()]
        self._refuse_otherarguments_by_name(largest)
        examples, constants = self._by_argument(kept)
        left_out = len(order) - len(kept)
        notes = [f"{left_out} of {len(order)} calls gave fewer inputs and were left out"] if left_out else []
        axes = observed_axes([self._tensors[i] for i in kept])
        return CapturedCalls(tuple(examples), constants, axes, self._called[kept[0]], tuple(notes))

    def _refuse_otherarguments_by_name(self, largest: int) -> None:
        known = self._tensors[largest].keys()
        for tensors in self._tensors:
            if extra := [name for name in tensors if name not in known]:
                raise InputsError(
                    f"the calls differ in their inputs: one gives {', '.join(known)}, another {', '.join(extra)}",
                    fix="call the model in one way, or export it once for each",
                    stage="capture",
                )

    def _by_argument(self, kept: list[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Examples and constants by argument of the forward; calls that differ in a constant cannot share a graph."""
        examples: list[dict[str, Any]] = []
        constants: dict[str, Any] = {}
        for number, i in enumerate(kept):
            given = arguments_by_name(self.signature, *self._called[i])
            tensors = {name: value for name, value in given.items() if holds_tensor(value)}
            others = {
                name: value
                for name, value in given.items()
                if name not in tensors and not is_default(self.signature, name, value)
            }
            if number and repr(others) != repr(constants):
                raise InputsError(
                    f"the calls differ in what is no tensor: {constants} in one, {others} in another",
                    fix="call the model with the same values, or export it once for each",
                    stage="capture",
                )
            constants = others
            examples.append(tensors)
        return examples, constants


@contextlib.contextmanager
def capture_calls(model: torch.nn.Module, limit: int = CAPTURED_CALLS) -> Iterator[Capture]:
    """Collect the calls of `model`, or of its forward, in the block; ask the result for `.calls` afterwards.

    The model's instance `__dict__` is put back exactly, whatever happens; what the model raises passes through.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> with capture_calls(layer) as capture:
        ...     _ = layer(torch.ones(3, 2)), layer(torch.ones(5, 2))
        >>> capture.calls.axes
        {'input': {0: (5, 3)}}
    """
    target = unwrapped(model)
    capture = Capture(target, limit)
    original = target.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return capture.run(original, args, kwargs)

    with instance_forward(target, forward):
        yield capture


@contextlib.contextmanager
def instance_forward(model: torch.nn.Module, forward: Any) -> Iterator[None]:
    """Give the model *instance* another forward for the block; one that was there before (accelerate's) comes back."""
    own = model.__dict__
    had, before = "forward" in own, own.get("forward")
    own["forward"] = forward
    try:
        yield
    finally:
        if had:
            own["forward"] = before
        else:
            own.pop("forward", None)


def observed_axes(examples: list[dict[str, torch.Tensor]]) -> dict[str, dict[int, tuple[int, ...]]]:
    """Axes whose size differs between calls, and the sizes seen: `{tensor: {axis: sizes}}`.

    `torch.onnx.InputObserver` finds them. It watches a stand-in that takes the flat tensors, not the user's model:
    there it drops positional constants, and raises in the cell where a model returns more than tensors.

    Raises:
        InputsError: a tensor has another rank in another call.
    """
    import torch

    for name in examples[0]:
        ranks = sorted({example[name].ndim for example in examples})
        if len(ranks) > 1:
            raise InputsError(
                f"{name} has {' axes in one call and '.join(map(str, ranks))} in another: one graph takes one rank",
                fix=f"call the model with {name} of one rank",
                stage="capture",
            )

    class StandIn(torch.nn.Module):
        def forward(self, **tensors: torch.Tensor) -> tuple[()]:
            return ()

    stand_in, observer = StandIn(), torch.onnx.InputObserver()
    with observer(stand_in, store_n_calls=len(examples)):
        for example in examples:
            # It clones what it sees, and shapes are all it looks at.
            stand_in.forward(**{name: torch.empty(t.shape, device="meta") for name, t in example.items()})
    shapes: Any = observer.infer_dynamic_shapes()
    return {
        name: {axis: tuple(dict.fromkeys(example[name].shape[axis] for example in examples)) for axis in moving}
        for name, moving in shapes["tensors"].items()
        if moving
    }


def _traceable(tensors: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """How well a call suits tracing: few axes of size 1, which the exporter would fix, then many elements."""
    ones = sum(size == 1 for tensor in tensors.values() for size in tensor.shape)
    return -ones, sum(tensor.numel() for tensor in tensors.values())


def arguments_by_name(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, in the order of the forward; those of `**kwargs` by their own names."""
    bound = dict(signature.bind(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound |= bound.pop(name, {})
    return bound


def holds_tensor(value: Any) -> bool:
    """Whether a tensor, or the Leaf of one, stands anywhere in lists, tuples and dicts."""
    import torch

    if isinstance(value, Mapping):
        return any(holds_tensor(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds_tensor(item) for item in value)
    return isinstance(value, torch.Tensor | Leaf)


def is_default(signature: inspect.Signature, name: str, value: Any) -> bool:
    """Whether an argument has the value that the forward would take without it."""
    parameter = signature.parameters.get(name)
    if parameter is None:
        return value is None
    return parameter.default is not inspect.Parameter.empty and repr(parameter.default) == repr(value)
