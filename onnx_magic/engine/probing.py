"""Which axes can move: found by running the model at other sizes, never guessed from sizes that happen to be equal."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from onnx_magic.engine.examples import BATCH, HEIGHT, SEQUENCE, WIDTH, Examples, given_examples
from onnx_magic.engine.flat import FlatModel
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.errors import InputsError
from onnx_magic.events import Progress, emit

Array: TypeAlias = np.ndarray[Any, Any]
Place: TypeAlias = tuple[str, int]
"""One axis of one input: `(input name, axis)`."""


@dataclass(frozen=True, eq=False)
class Probe:
    """What running the model at other sizes showed.

    Args:
        examples: The example inputs, their axes now only those that move.
        outputs: What the model gave for the traced inputs.
        output_axes: Axes of the outputs that moved, with the axis name they followed: `{output: {axis: name}}`.
        refused: Axis names at which the model raised at another size, with the model's own message.
        runs: How often the model was run.
    """

    examples: Examples
    outputs: Mapping[str, Array]
    output_axes: Mapping[str, Mapping[int, str]]
    refused: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0


class Prober:
    """Runs a model at other sizes and remembers what moved; only the first run lets the model's exceptions out."""

    def __init__(self, flat: FlatModel, examples: Examples) -> None:
        self.flat = flat
        self.examples = examples
        self.runs = 1
        self.outputs = self._run(examples.traced)
        if not self.outputs:
            raise InputsError(
                f"{type(flat.model).__name__} returned no tensor: there is nothing to export",
                fix="let forward return a tensor, or a tuple or dict of tensors",
            )
        self.refused: dict[str, str] = {}
        self.output_axes: dict[str, dict[int, str]] = {name: {} for name in self.outputs}

    def _run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return to_arrays(self.flat.run(to_tensors(arrays)))

    def try_sizes(self, sizes: Mapping[str, int], label: str) -> bool:
        """Run at other sizes; note which output axes moved, or why the model refused."""
        self.runs += 1
        emit(Progress("plan", self.runs, 0))
        try:
            outputs = self._run(self.examples.at(seed=1, **sizes))
        except Exception as error:  # any exception of the user's model means: not at this size
            self.refused[label] = one_line(error)
            return False
        if {k: v.ndim for k, v in outputs.items()} != {k: v.ndim for k, v in self.outputs.items()}:
            self.refused[label] = "the outputs are others at this size"
            return False
        for name, array in outputs.items():
            for axis, (size, before) in enumerate(zip(array.shape, self.outputs[name].shape, strict=True)):
                if size != before:
                    self.output_axes[name].setdefault(axis, label)
        self.refused.pop(label, None)
        return True

    def other_sizes(self, name: str) -> list[int]:
        """Sizes to try for one axis name: double (one more hides behind patch floors), else half.

        From 1 to a size that no other axis has: to theirs it may be broadcast, and to no other.
        """
        size = self.examples.sizes[name]
        limit = self.examples.limits.get(name)
        taken = self.examples.sizes.values() if size == 1 else ()
        bigger = next(n for n in itertools.count(size * 2) if n not in taken)
        return [n for n in (bigger, size // 2) if n >= 1 and n != size and (limit is None or n <= limit)]

    def moves(self, names: Iterable[str], label: str) -> bool:
        """Whether the model runs with all of `names` at another size together."""
        names = list(names)
        options = zip(*(self.other_sizes(name) for name in names), strict=False)
        return any(self.try_sizes(dict(zip(names, sizes, strict=True)), label) for sizes in options)


def probe(flat: FlatModel, examples: Examples) -> Probe:
    """Find the axes that can move.

    A task's axes are known and only tried. A plain module's are grouped: each axis is doubled alone; those that fail
    alone are doubled together with the axes of their size, then in pairs.

    Raises:
        Exception: whatever the model raises on the traced inputs.
    """
    alone: dict[str, str] = {}
    if not examples.named:
        examples, alone = _grouped(flat, examples)
    prober = Prober(flat, examples)
    moving = {name for name in examples.sizes if prober.moves([name], name)}
    if examples.moved:
        moving &= {
            named[axis] for t, named in examples.axes.items() for axis in examples.moved.get(t, {}) if axis in named
        }
    axes = {
        tensor: {axis: name for axis, name in named.items() if name in moving}
        for tensor, named in examples.axes.items()
    }
    # What stays fixed is no longer named, but the maker still needs its size.
    sizes = examples.sizes
    kept = dataclasses.replace(
        examples, axes=axes, make=lambda moved, seed: examples.make(sizes | dict(moved), seed), named=True
    )
    return Probe(kept, prober.outputs, prober.output_axes, alone | prober.refused, prober.runs)


def _grouped(flat: FlatModel, examples: Examples) -> tuple[Examples, dict[str, str]]:
    """Group a plain module's axes by what moves together, and name the groups; also why an axis does not move alone."""
    places = [(tensor, axis) for tensor, array in examples.traced.items() for axis in range(array.ndim)]
    alone = {place: _place_name(place) for place in places}
    singles = given_examples(examples.traced, _axes_of(alone))
    prober = Prober(flat, singles)

    batch = [place for place in places if place[1] == 0]
    sizes = {singles.traced[t].shape[a] for t, a in batch}
    groups: list[list[Place]] = []
    if len(sizes) == 1 and prober.moves([alone[p] for p in batch], "batch"):
        groups.append(batch)
    grouped = {place for group in groups for place in group}
    free = [p for p in places if p not in grouped and prober.moves([alone[p]], alone[p])]
    groups += [[place] for place in free]
    stuck = [p for p in places if p not in grouped and p not in free]
    by_size: dict[int, list[Place]] = {}
    for place in stuck:
        by_size.setdefault(singles.traced[place[0]].shape[place[1]], []).append(place)
    for same in by_size.values():
        if len(same) > 1 and prober.moves([alone[p] for p in same], "same size"):
            groups.append(same)
        else:
            groups += _pairs(prober, same, alone)
    named = _axes_of(_named_groups(groups, examples.traced))
    found = given_examples(examples.traced, named, by=examples.by, named=True)
    return dataclasses.replace(found, moved=examples.moved), dict(prober.refused)


def _pairs(prober: Prober, places: list[Place], alone: Mapping[Place, str]) -> list[list[Place]]:
    """Pairs of axes, one size, that only move together."""
    found: list[list[Place]] = []
    left = list(places)
    while left:
        first, *rest = left
        partner = next((p for p in rest if prober.moves([alone[first], alone[p]], "pair")), None)
        left = [p for p in rest if p != partner]
        if partner is not None:
            found.append([first, partner])
    return found


def _place_name(place: Place) -> str:
    return f"{place[0].replace('.', '_')}_dim_{place[1]}"


def _axes_of(names: Mapping[Place, str]) -> dict[str, dict[int, str]]:
    axes: dict[str, dict[int, str]] = {}
    for (tensor, axis), name in names.items():
        axes.setdefault(tensor, {})[axis] = name
    return axes


def _named_groups(groups: list[list[Place]], traced: Mapping[str, Array]) -> dict[Place, str]:
    """One name per meaning: batch_size, sequence_length, height, width, where the tensor tells; else its own."""
    names: dict[Place, str] = {}
    for group in groups:
        tensor, axis = group[0]
        array = traced[tensor]
        if all(a == 0 for _, a in group):
            name = BATCH
        elif array.ndim == 4 and array.dtype.kind == "f" and axis in (2, 3) and len(group) == 1:
            name = HEIGHT if axis == 2 else WIDTH
        elif array.ndim == 2 and array.dtype.kind in "iu" and axis == 1:
            name = SEQUENCE
        else:
            name = _place_name((tensor, axis))
        if name in names.values():
            name = _place_name((tensor, axis))
        names |= dict.fromkeys(group, name)
    return names


def model_raised(architecture: str, arrays: Mapping[str, Array], error: BaseException, fix: str) -> InputsError:
    """The error for a model that raises on its inputs: its own message, and which inputs."""
    shapes = ", ".join(f"{name} {tuple(a.shape)} {a.dtype.name}" for name, a in arrays.items())
    return InputsError(f"{architecture} itself raises on {shapes}: {one_line(error)}", fix=fix)


def one_line(error: BaseException) -> str:
    """An exception in one line: its class and the first line of its message."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
