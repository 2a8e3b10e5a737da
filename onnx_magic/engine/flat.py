"""A model as a function of flat, named tensors: what is traced, run and compared is always this.

A forward may take nested arguments and return a ModelOutput, a tuple, a dict. `FlatModel` gives each tensor in there a
name, in the order of the forward: `input_ids`, `states.0`; `logits`, `hidden_states.1`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.adapters.export_flag import asked_as_exported
from onnx_magic.errors import InputsError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Leaf:
    """Where a named tensor stands in a forward's arguments."""

    name: str


@dataclass(frozen=True, eq=False)
class Binding:
    """How named tensors become a call of the forward: trees of constants with a Leaf for every tensor."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names, in the order of the forward."""
        return tuple(_leaf_names((self.args, dict(self.kwargs))))

    def call(self, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keyword arguments with the tensors in their places."""
        args = tuple(_fill(tree, tensors) for tree in self.args)
        return args, {name: _fill(tree, tensors) for name, tree in self.kwargs.items()}


def signature_of(model: torch.nn.Module) -> inspect.Signature:
    """What a model's forward takes; of a model that `torch.jit.trace` made, what its TorchScript says."""
    try:
        return inspect.signature(model.forward)
    except ValueError:  # a built-in, which Python knows nothing of
        scripted: Any = inspect.unwrap(model.forward)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(argument.name, kind) for argument in scripted.schema.arguments[1:]])


def bind_call(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Binding, dict[str, torch.Tensor]]:
    """Name every tensor of one call of `model`, by the parameters of its forward.

    Returns:
        The binding, and the tensors by name.

    Raises:
        InputsError: the arguments do not fit the forward's signature, or hold no tensor.
    """
    signature = signature_of(model)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        takes = ", ".join(signature.parameters)
        raise InputsError(
            f"the example inputs do not fit {type(model).__name__}.forward({takes}): {error}",
            fix=inputs_fix(model),
        ) from error
    tensors: dict[str, torch.Tensor] = {}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    kinds = {name: signature.parameters[name].kind for name in bound.arguments}
    stars = inspect.Parameter.VAR_POSITIONAL in kinds.values()
    for name, value in bound.arguments.items():
        if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
            positional += [_name_leaves(f"{name}_{i}", item, tensors) for i, item in enumerate(value)]
        elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
            named |= {key: _name_leaves(key, item, tensors) for key, item in value.items()}
        elif kinds[name] is inspect.Parameter.POSITIONAL_ONLY or (
            stars and kinds[name] is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(_name_leaves(name, value, tensors))
        else:
            named[name] = _name_leaves(name, value, tensors)
    if not tensors:
        raise InputsError(f"the example inputs of {type(model).__name__} hold no tensor", fix=inputs_fix(model))
    return Binding(tuple(positional), named), tensors


def inputs_fix(model: torch.nn.Module) -> str:
    """The fix that names what a forward needs: `inputs=(x, mask)`, with variables of these names.

    Example:
        >>> import torch
        >>> inputs_fix(torch.nn.Bilinear(2, 3, 4))
        'inputs=(input1, input2)  # tensors on which model(input1, input2) runs'
    """
    parameters = signature_of(model).parameters.values()
    free = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needed = [p.name for p in parameters if p.name in free and p.default is p.empty] or free[:1] or ["x"]
    names = ", ".join(needed)
    return f"inputs={names if len(needed) == 1 else f'({names})'}  # tensors on which model({names}) runs"


def _name_leaves(path: str, value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return Leaf(path)
    if isinstance(value, Mapping):
        return {key: _name_leaves(f"{path}.{key}", item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_name_leaves(f"{path}.{i}", item, tensors) for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _fill(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, Leaf):
        return tensors[tree.name]
    if isinstance(tree, dict):
        return {key: _fill(item, tensors) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        items = [_fill(item, tensors) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return tree


def _leaf_names(tree: Any) -> Iterator[str]:
    if isinstance(tree, Leaf):
        yield tree.name
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _leaf_names(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _leaf_names(item)


def flatten_outputs(value: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of what a forward returned, by name; what is no tensor is left out.

    A lone tensor is called `output`, the members of a tuple `output_0`, `output_1`; a ModelOutput, a dict, a dataclass
    or a named tuple names its own.

    Example:
        >>> import torch
        >>> list(flatten_outputs({"logits": torch.ones(1), "states": (torch.ones(1), torch.ones(1))}))
        ['logits', 'states.0', 'states.1']
    """
    import torch

    if isinstance(value, torch.Tensor):
        return {path or "output": value}
    if isinstance(value, Mapping):
        items = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif hasattr(value, "_fields"):
        items = [(f"{path}.{key}" if path else key, getattr(value, key)) for key in value._fields]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        items = [(f"{path}.{key}" if path else key, getattr(value, key)) for key in names]
    elif isinstance(value, list | tuple):
        items = [(f"{path}.{i}" if path else f"output_{i}", item) for i, item in enumerate(value)]
    else:
        return {}
    return {name: tensor for key, item in items for name, tensor in flatten_outputs(item, key).items()}


@dataclass(eq=False)
class FlatModel:
    """A live model, and how named tensors become a call of it.

    Args:
        model: The live module.
        binding: Where each named tensor goes.
        read: How the tensors in what the forward returned are named.
        asked: Lines of the person's own code that asked `torch.onnx.is_in_onnx_export()` in a run: file and number.
    """

    model: torch.nn.Module
    binding: Binding
    read: Callable[[Any], dict[str, torch.Tensor]] = flatten_outputs
    asked: set[tuple[str, int]] = field(default_factory=set)

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter or buffer lies; the CPU when it has none."""
        import itertools

        import torch

        first = next(itertools.chain(self.model.parameters(), self.model.buffers()), None)
        return first.device if first is not None else torch.device("cpu")

    def run(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run the model eagerly, without gradients, on tensors by name; its own code is told that it is exported."""
        import torch

        with torch.no_grad(), asked_as_exported() as asked:
            args, kwargs = self.binding.call({name: t.to(self.device) for name, t in tensors.items()})
            outputs = self.read(self.model(*args, **kwargs))
        self.asked |= asked
        return outputs

    @contextlib.contextmanager
    def as_forward(self) -> Iterator[tuple[str, ...]]:
        """Give the model *instance* a flat forward for the block: named tensors in, a tuple of tensors out.

        Yields the parameter names of that forward, one per input. Module paths and parameter names stay the model's
        own, which a wrapper module around it would change.
        """
        original = self.model.forward
        parameters = tuple(name.replace(".", "_") for name in self.binding.names)
        outer = dict(zip(parameters, self.binding.names, strict=True))

        def forward(**tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            args, kwargs = self.binding.call({outer[name]: tensor for name, tensor in tensors.items()})
            return _distinct(self.read(original(*args, **kwargs)), tensors)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in parameters])  # type: ignore[attr-defined]
        before = dict(self.model.__dict__)
        self.model.__dict__["forward"] = forward
        try:
            yield parameters
        finally:
            self.model.__dict__.pop("forward", None)
            if "forward" in before:
                self.model.__dict__["forward"] = before["forward"]


def _distinct(outputs: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The outputs, none of them the very tensor of an input or of another output: a graph names each value once."""
    seen = {id(tensor) for tensor in inputs.values()}
    distinct = []
    for tensor in outputs.values():
        distinct.append(tensor.clone() if id(tensor) in seen else tensor)
        seen.add(id(tensor))
    return tuple(distinct)
