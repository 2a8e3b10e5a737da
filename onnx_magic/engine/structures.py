"""How tensors stand in what a forward returns, so that ONNX Runtime's arrays can be returned in the same way."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

CLONED_BYTES = 4 * 2**20
"""A recorded tensor up to this size is cloned; a larger one is only detached, and follows changes made in place."""

Node: TypeAlias = "Slot | Constant | Group"
"""A tensor's place, a value that is always the same, or what holds such."""


@dataclass(frozen=True)
class Slot:
    """A tensor's place: its name as `flatten_outputs` calls it, its dtype."""

    name: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Constant:
    """What is no tensor and does not depend on the inputs: None, a flag, a text."""

    value: Any


@dataclass(frozen=True)
class Group:
    """A tuple, a dict, a ModelOutput, a dataclass: how to build it, and what stands in it."""

    build: Callable[[list[Any]], Any]
    members: tuple[Node, ...]


@dataclass(frozen=True)
class Structure:
    """The shape of what a forward returned, without its tensors.

    Args:
        root: The tree.
        slots: The tensors' places, in order.
        numbers: Paths of Python numbers in it: they may depend on the inputs.
        objects: Paths of other objects in it (a cache), and their class names: `{path: class}`.
    """

    root: Node
    slots: tuple[Slot, ...]
    numbers: tuple[str, ...]
    objects: Mapping[str, str]

    @property
    def root_is_object(self) -> bool:
        """Whether the whole of it is an object that cannot be built."""
        return isinstance(self.root, Constant) and bool(self.objects)

    def filled(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        """The value with `tensors` in their places; what is an object becomes None."""

        def fill(node: Node) -> Any:
            if isinstance(node, Slot):
                return tensors[node.name]
            return node.build([fill(member) for member in node.members]) if isinstance(node, Group) else node.value

        return fill(self.root)


def structure_of(value: Any) -> tuple[Structure, dict[str, torch.Tensor]]:
    """The structure of what a forward returned, and its tensors by name.

    Example:
        >>> import torch
        >>> structure, tensors = structure_of((torch.ones(2), {"loss": None}))
        >>> list(tensors), structure.filled({"output_0": "y"})
        (['output_0'], ('y', {'loss': None}))
    """
    import torch

    slots: list[Slot] = []
    tensors: dict[str, torch.Tensor] = {}
    numbers: list[str] = []
    objects: dict[str, str] = {}

    def read(item: Any, path: str) -> Node:
        if isinstance(item, torch.Tensor):
            slot = Slot(path or "output", item.dtype)
            slots.append(slot)
            tensors[slot.name] = item
            return slot
        if (opened := _opened(item)) is not None:
            build, members = opened
            return Group(build, tuple(read(member, _member_path(path, key)) for key, member in members))
        if item is None or isinstance(item, bool | str | bytes | enum.Enum | torch.dtype | torch.device):
            return Constant(item)
        if isinstance(item, int | float | complex):
            numbers.append(path or "output")
        else:
            objects[path or "output"] = type(item).__name__
        return Constant(None)

    root = read(value, "")
    return Structure(root, tuple(slots), tuple(numbers), objects), tensors


def _member_path(path: str, key: str | int) -> str:
    """The name of a member, as `flatten_outputs` makes it."""
    if path:
        return f"{path}.{key}"
    return f"output_{key}" if isinstance(key, int) else key


def _opened(value: Any) -> tuple[Callable[[list[Any]], Any], Iterable[tuple[str | int, Any]]] | None:
    """How to build a value like this one, and its members; `None` where it has none."""
    kind: Any = type(value)
    if isinstance(value, Mapping):
        keys = list(value)
        named = dataclasses.is_dataclass(value)  # a ModelOutput is both: its fields that are None are no keys
        return (
            lambda items: kind(**dict(zip(keys, items, strict=True))) if named else kind(zip(keys, items, strict=True))
        ), [(str(key), value[key]) for key in keys]
    if hasattr(value, "_fields"):
        return (lambda items: kind(*items)), list(zip(value._fields, value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return (lambda items: _new_dataclass(kind, names, items)), [(name, getattr(value, name)) for name in names]
    if isinstance(value, list | tuple):
        return (lambda items: kind(items)), list(enumerate(value))
    return None


def _new_dataclass(kind: Any, names: list[str], items: list[Any]) -> Any:
    """A dataclass with these fields; its `__init__` and `__post_init__` do not run again."""
    made = object.__new__(kind)
    for name, item in zip(names, items, strict=True):
        object.__setattr__(made, name, item)
    return made


def detached(value: Any, *, always_clone: bool = False) -> Any:
    """`value` with every tensor in its lists, tuples and dicts detached; small tensors, or all, are cloned."""
    import torch

    if isinstance(value, torch.Tensor):
        plain = value.detach()
        return plain.clone() if always_clone or plain.numel() * plain.element_size() <= CLONED_BYTES else plain
    if isinstance(value, Mapping):
        return {key: detached(item, always_clone=always_clone) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [detached(item, always_clone=always_clone) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
