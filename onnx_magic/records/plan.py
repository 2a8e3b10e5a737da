"""What is decided before tracing: the tensors, their axes, and who decided what."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from onnx_magic.errors import UsageError

Dim: TypeAlias = int | str
"""A size: a number is static, a name is dynamic. The same name means the same size."""

Role: TypeAlias = Literal["input", "output"]
DecidedBy: TypeAlias = Literal["user", "task", "config", "probe", "default"]

_EDITOR = "frontends.live"
"""What makes a live table of a plan."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one input or output of a graph.

    Args:
        name: As in the graph (`input_ids`, `logits`).
        dtype: NumPy's name of it (`int64`, `float32`, `bool`), `bfloat16` beside those.
        shape: A number per static axis, a name per dynamic one.
        role: `"input"` or `"output"`.

    Example:
        >>> print(TensorSpec("input_ids", "int64", ("batch_size", "sequence_length")))
        input_ids: int64[batch_size, sequence_length]
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    role: Role = "input"

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """The dynamic axes: `{axis: name}`."""
        return {axis: dim for axis, dim in enumerate(self.shape) if isinstance(dim, str)}

    def __str__(self) -> str:
        """`name: dtype[axis, axis]`, as messages show it."""
        return f"{self.name}: {self.dtype}[{', '.join(str(dim) for dim in self.shape)}]"


@dataclass(frozen=True)
class Decision:
    """One thing that was decided before tracing, and who decided it.

    Args:
        subject: `task`, `opset`, `exporter`, `inputs`, or an axis as `input_ids[0]`.
        value: What was decided.
        by: Who decided: the user, the task's row, the model's config, a probe run, or a default.
        reason: Half a sentence, where it is not plain.
    """

    subject: str
    value: Any
    by: DecidedBy
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ExportPlan:
    """All that is decided before tracing. Change it with `replace()`.

    Args:
        name: The model's name; the default output folder is `<name>-onnx`.
        task: Canonical task, or `None` for a plain module.
        architecture: Class name of the model.
        inputs: The specs of the graph's inputs, in the order of the model's forward.
        outputs: The specs of the graph's outputs, as the probe found them.
        examples: The example inputs that are traced: `{input name: array}`.
        opset: The ONNX opset to write.
        exporter: `"dynamo"`, `"torchscript"`, or `"auto"`: the second when the first fails.
        quirks: Names of the rows of `engine.tasks.quirks` that apply.
        decisions: Who decided what, in the order of deciding.
        asked: The options of `export` that this plan was made for, the live model among them: what `edit()` plans and
            exports again with. `None` where the model is not at hand: after a load, and after `release()`.
    """

    name: str
    task: str | None
    architecture: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    examples: Mapping[str, np.ndarray[Any, Any]]
    opset: int
    exporter: str = "auto"
    quirks: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = field(default=())
    asked: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def edit(self) -> Any:
        """This plan as a table whose axes are edited in the notebook, as `%onnx_axes` shows it.

        Returns:
            The live table, which shows itself below its static form; in a terminal, or without the widgets' packages,
            this plan.

        Raises:
            UsageError: the model that it was made for is not at hand.

        Example:
            >>> onnx_magic.plan(model).edit()  # doctest: +SKIP
        """
        if self.asked is None:
            raise UsageError(
                f"the plan of {self.name} cannot be edited: its PyTorch model is not at hand (loaded, or released)",
                fix="%onnx_axes model",
            )
        # by name, and when it is called: front ends see records, and not the other way round
        return importlib.import_module(f"onnx_magic.{_EDITOR}").edit_plan(self)

    def replace(self, **changes: Any) -> ExportPlan:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def dynamic(self) -> dict[str, dict[int, str]]:
        """The inputs' dynamic axes as the option `dynamic=` takes them: `{input: {axis: name}}`."""
        return {spec.name: spec.dynamic_axes for spec in self.inputs if spec.dynamic_axes}

    def decided_by(self, subject: str) -> DecidedBy:
        """Who decided `subject`; `"default"` when nobody said anything."""
        return next((d.by for d in reversed(self.decisions) if d.subject == subject), "default")


@dataclass(frozen=True)
class TaskInfo:
    """What a person reads of a task: a line of `%onnx_tasks`.

    Args:
        name: Canonical name, as the Hub calls it.
        aliases: Other names that mean the same.
        auto_class: The Transformers auto class whose models fit.
        inputs: What one sample is (`text`, `text or pair of texts`, `image`).
        answer: What the decoded answer is.
    """

    name: str
    aliases: tuple[str, ...]
    auto_class: str
    inputs: str
    answer: str
