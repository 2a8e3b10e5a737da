"""ExportedModel: what a person holds after an export or a load. Its methods are the verbs."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import UsageError, VerificationError
from onnx_magic.records.artifact import ExportReport, GraphFile, Stage
from onnx_magic.records.plan import ExportPlan, TensorSpec
from onnx_magic.records.results import Validation

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportOutcome
    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.engine.sources import ModelSource
    from onnx_magic.runtime.folder import OpenedFolder

VERBS = ("run", "generate", "compare", "view")
"""The verbs that are methods too; `verbs.<name>` takes the ExportedModel first."""


def _method(verb: str) -> Callable[..., Any]:
    """A method that calls `verbs.<verb>`, looked up at call time so that a verb may import ExportedModel."""

    def method(self: ExportedModel, *args: Any, **options: Any) -> Any:
        return _verb(verb)(self, *args, **options)

    method.__name__, method.__qualname__ = verb, f"ExportedModel.{verb}"
    method.__doc__ = f"The verb `{verb}` on this model: see `onnx_magic.{verb}`."
    return method


@functools.cache
def _verb(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module(f"onnx_magic.verbs.{name}"), name)
    return function


class ExportedModel:
    """An exported folder (or a bare .onnx file), and the live PyTorch model behind it until `release()`.

    Example:
        >>> exported = onnx_magic.load("sentiment-mini-onnx")  # doctest: +SKIP
        >>> exported.run("I loved it").decoded  # doctest: +SKIP
        [{'label': 'POSITIVE', 'score': 0.98}]
    """

    run: Callable[..., Any]
    generate: Callable[..., Any]
    compare: Callable[..., Any]
    view: Callable[..., Any]

    def __init__(self, opened: OpenedFolder, *, outcome: ExportOutcome | None = None) -> None:
        self.opened = opened
        self._outcome = outcome
        self._source = outcome.source if outcome else None

    @classmethod
    def of_outcome(cls, outcome: ExportOutcome) -> ExportedModel:
        """What an export has just made, its live source still held."""
        return cls(outcome.opened, outcome=outcome)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.opened.folder

    @property
    def graphs(self) -> Mapping[str, GraphFile]:
        """All graphs of this variant: `{"model": GraphFile}`."""
        return self.opened.graphs

    @property
    def graph(self) -> GraphFile:
        """The graph that yields the task's answer."""
        return self.opened.graph

    @property
    def model_path(self) -> Path:
        """The .onnx file of `graph`."""
        return self.graph.path

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of the inputs of `graph`."""
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Specs of the outputs of `graph`."""
        return self.graph.outputs

    @property
    def task(self) -> str | None:
        """Canonical task, `None` for a plain module."""
        return self.opened.task

    @property
    def name(self) -> str:
        """The model's name."""
        return self.opened.name

    @property
    def source(self) -> ModelSource | None:
        """The live PyTorch model, until `release()`; `None` after a load."""
        return self._source

    @property
    def live(self) -> FlatModel | None:
        """The live model as a function of the graph's inputs, until `release()`."""
        return self._outcome.flat if self._outcome else None

    @property
    def plan(self) -> ExportPlan | None:
        """What was decided before tracing; `None` after a load."""
        return self._outcome.plan if self._outcome else None

    @property
    def validation(self) -> Validation:
        """The verdict. `bool()` is "verified"; after a load, what the manifest says was found then."""
        return self._outcome.validation if self._outcome else self.opened.validation

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What the export did, with seconds."""
        return self._outcome.stages if self._outcome else ()

    @property
    def log(self) -> str:
        """All that the libraries wrote while exporting."""
        return self._outcome.log if self._outcome else ""

    @property
    def report(self) -> ExportReport:
        """What is shown of it."""
        return self._outcome.report if self._outcome else self.opened.report

    def require_verified(self) -> ExportedModel:
        """This model, if it is verified.

        Raises:
            VerificationError: it is not; names the first failed check.
        """
        if self.validation:
            return self
        first = next(iter(self.validation.failures), None)
        what = first.sentence if first else f"{self.name} was not checked"
        raise VerificationError(
            f"{self.name} is {self.validation.status}: {what}",
            fix=(first.fix if first else "") or f"onnx_magic.export(model, output={str(self.path)!r})",
        )

    def swapped_into(self, model: Any) -> AbstractContextManager[Any]:
        """Put ONNX Runtime in the place of `model`'s forward for the block; the model is restored exactly.

        Raises:
            SwapError: another model, a nested swap, or outputs asked for that the graph does not give.

        Example:
            >>> with exported.swapped_into(model):  # doctest: +SKIP
            ...     pipeline("text-classification", model=model, tokenizer=tokenizer)("I loved it")
        """
        from onnx_magic.engine.swapping import swapped

        return swapped(self, model)

    def release(self) -> None:
        """Let go of the live PyTorch model and of the ONNX Runtime sessions."""
        self._source = None
        if self._outcome is not None:
            self._outcome = self._outcome.released()
        self.opened.close()

    def __repr__(self) -> str:
        """One line: name, task, verdict, path."""
        return f"<ExportedModel {self.name} ({self.task or 'plain module'}), {self.validation.status}: {self.path}>"


for _name in VERBS:
    setattr(ExportedModel, _name, _method(_name))


def as_exported(value: Any) -> ExportedModel:
    """`value` as an ExportedModel: itself, or the folder or file it names.

    Raises:
        UsageError: neither.
    """
    if isinstance(value, ExportedModel):
        return value
    if isinstance(value, str | Path):
        loaded: ExportedModel = _verb("load")(Path(value))
        return loaded
    raise UsageError(
        f"expected an exported model, a folder or an .onnx file, not {type(value).__name__}",
        fix="exported = %onnx_export model",
    )


def verb_signature(verb: str) -> inspect.Signature:
    """The signature of a verb that is a method too."""
    return inspect.signature(_verb(verb))
