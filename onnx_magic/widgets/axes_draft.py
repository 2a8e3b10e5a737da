"""Axes that are being edited: what was typed in a cell → a plan made again, or a sentence that says why not."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from onnx_magic.display.axes import decider
from onnx_magic.display.wording import shape_text, shown
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.option_values import Axes
from onnx_magic.records.plan import Decision, Dim, ExportPlan, TensorSpec

Place: TypeAlias = tuple[str, int]
"""One axis of one input: `(input name, axis)`."""

Replan: TypeAlias = Callable[[Axes | None], ExportPlan]
"""Makes the plan again for another `dynamic=`; raises UsageError where that cannot be."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_NAME_LIMIT, _TEXT_LIMIT = 48, 60


class AxesDraft:
    """The axes of one plan, edited a cell at a time; `plan` is always one that planning agreed to.

    Axes that the probe moved together are one group: a name given to one of them is the name of all.

    Args:
        base: The plan with every axis that can move.
        plan: The plan to begin with; `base` where the user asked for nothing else.
        replan: Makes the plan again.
    """

    def __init__(self, base: ExportPlan, plan: ExportPlan, replan: Replan) -> None:
        self.base, self._replan = base, replan
        self.groups: dict[Place, str] = {(t, axis): n for t, named in base.dynamic.items() for axis, n in named.items()}
        now = plan.dynamic
        self.names: dict[str, str | None] = {}
        for (tensor, axis), group in self.groups.items():
            self.names.setdefault(group, now.get(tensor, {}).get(axis))
        self.plan = self._told(plan)
        self.wrong: dict[Place, tuple[str, str]] = {}
        """Cells that hold what cannot be: `{place: (what was typed, why not)}`."""
        self.edited = False

    @property
    def dynamic(self) -> Axes | None:
        """The option `dynamic=` that gives `plan`: None for all that can move, False for nothing.

        An axis of each group is enough: the others follow it.
        """
        if all(name == group for group, name in self.names.items()):
            return None
        return {**self._wish(self.names)} or False

    def edit(self, tensor: str, axis: int, text: str) -> None:
        """Take what was typed in a cell: `plan` is made again, or `wrong` says why it stays as it was.

        Raises:
            KeyError: there is no such cell.
            Exception: whatever planning raises beside the errors of ours.
        """
        place, text = (tensor, axis), text.strip()
        self._size(place)
        for other in self._together(place):
            self.wrong.pop(other, None)
        try:
            self._take(place, self._name(place, text))
        except OnnxMagicError as error:
            self.wrong[place] = (text, error.what)

    def rows(self) -> list[dict[str, Any]]:
        """A row per tensor as the view draws it: name, role, dtype, traced shape, a cell per axis."""
        by = {d.subject: d for d in self.plan.decisions}
        return [self._row(spec, by) for spec in (*self.plan.inputs, *self.plan.outputs)]

    def _row(self, spec: TensorSpec, by: Mapping[str, Decision]) -> dict[str, Any]:
        example = self.plan.examples.get(spec.name) if spec.role == "input" else None
        return {
            "key": spec.name,
            "name": shown(spec.name, _NAME_LIMIT),
            "role": "in" if spec.role == "input" else "out",
            "dtype": spec.dtype,
            "traced": "" if example is None else shape_text(example.shape),
            "cells": [self._cell(spec, axis, dim, by) for axis, dim in enumerate(spec.shape)],
        }

    def _cell(self, spec: TensorSpec, axis: int, dim: Dim, by: Mapping[str, Decision]) -> dict[str, Any]:
        place = (spec.name, axis)
        mine = spec.role == "input"
        text, error = self.wrong.get(place, (str(dim), "")) if mine else (str(dim), "")
        decision = by.get(f"{spec.name}[{axis}]")
        return {
            "text": text,
            "error": error,
            "dynamic": isinstance(dim, str),
            "who": decider(decision) if decision else "",
            "group": self.groups.get(place, "") if mine else "",
            "size": str(self._size(place)) if mine else "",
        }

    def _size(self, place: Place) -> int:
        """The size that this axis is traced at."""
        tensor, axis = place
        if not 0 <= axis < self.base.examples[tensor].ndim:
            raise KeyError(place)
        return int(self.base.examples[tensor].shape[axis])

    def _together(self, place: Place) -> list[Place]:
        group = self.groups.get(place)
        return [place] if group is None else [other for other, theirs in self.groups.items() if theirs == group]

    def _name(self, place: Place, text: str) -> str | None:
        """The name that was typed, None for the size that is traced."""
        label, size, typed = f"{place[0]}[{place[1]}]", self._size(place), shown(text, _TEXT_LIMIT)
        if not text:
            raise UsageError(f"{label} is empty: expected {size} (static) or a name (dynamic)")
        if _NUMBER.fullmatch(text):
            if not text.isdecimal() or int(text) < 1:
                raise UsageError(f"{label} cannot be {typed}: a static axis is a whole number from 1 on, here {size}")
            if int(text) != size:
                raise UsageError(
                    f"{label} cannot be {typed}: a static axis has the size of the example inputs, which is {size}; "
                    f"give inputs= of that size to %onnx_axes"
                )
            return None
        if not text.isidentifier() or keyword.iskeyword(text):
            raise UsageError(f"{label} cannot be called {typed!r}: a name is letters, digits and _, as in Python")
        return text

    def _take(self, place: Place, name: str | None) -> None:
        group = self.groups.get(place)
        if group is None:
            if name is not None:  # planning knows why this axis does not move
                wish = self._wish(self.names)
                self._replan({**wish, place[0]: {**wish.get(place[0], {}), place[1]: name}})
                raise UsageError(f"{place[0]}[{place[1]}] cannot be dynamic: it did not move when the model was probed")
            return
        names = {**self.names, group: name}
        if names == self.names:
            return
        before, self.names = self.names, names
        try:
            self.plan = self._told(self._replan(self.dynamic))
        except BaseException:
            self.names = before
            raise
        self.edited = True

    def _wish(self, names: Mapping[str, str | None]) -> dict[str, dict[int, str]]:
        wish: dict[str, dict[int, str]] = {}
        first: set[str] = set()
        for (tensor, axis), group in self.groups.items():
            name = names[group]
            if name is not None and group not in first:
                first.add(group)
                wish.setdefault(tensor, {})[axis] = name
        return wish

    def _told(self, plan: ExportPlan) -> ExportPlan:
        """The plan, its axes decided by the user only where they are not as the probe had them."""
        mine = {d.subject: d for d in plan.decisions}
        for spec, before in zip(plan.inputs, self.base.inputs, strict=True):
            for axis, (dim, was) in enumerate(zip(spec.shape, before.shape, strict=True)):
                subject = f"{spec.name}[{axis}]"
                if dim != was:
                    mine[subject] = Decision(subject, dim, "user")
                elif subject in mine:
                    mine[subject] = Decision(subject, dim, self.base.decided_by(subject))
        return plan.replace(decisions=tuple(mine.values()))
