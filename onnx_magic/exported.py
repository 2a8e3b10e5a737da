"""ExportedModel: what a person holds after an export or a load. Its methods are the verbs."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import UsageError, VerificationError
from onnx_magic.records.artifact import ExportReport, GraphFile, Stage
from onnx_magic.records.plan import ExportPlan, TensorSpec
from onnx_magic.records.results import Validation

if TYPE_CHECKING:
    from onnx_magic.engine.examples import Examples
    from onnx_magic.engine.exporting import ExportOutcome
    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.engine.sources import ModelSource
    from onnx_magic.engine.variants.making import Parent, VariantOutcome
    from onnx_magic.records.variants import VariantRecord
    from onnx_magic.records.variants_table import VariantsTable
    from onnx_magic.runtime.folder import OpenedFolder
    from onnx_magic.runtime.tokenizing import TextTokenizer

VERBS = ("run", "generate", "compare", "view", "quantize", "optimize", "benchmark")
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


def _slow_tokenizer(folder: Path) -> TextTokenizer | None:
    from onnx_magic.engine.slow_tokenizing import slow_tokenizer

    return slow_tokenizer(folder)


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
    quantize: Callable[..., Any]
    benchmark: Callable[..., Any]
    optimize: Callable[..., Any]

    def __init__(
        self,
        opened: OpenedFolder,
        *,
        outcome: ExportOutcome | None = None,
        parent: ExportedModel | None = None,
        kin: ExportedModel | None = None,
        made: VariantOutcome | None = None,
    ) -> None:
        self.opened = opened
        opened.other_tokenizer = _slow_tokenizer
        self._outcome = outcome
        self._source = outcome.source if outcome else None
        self._parent = parent
        self._kin = kin or parent  # whose live source it shares
        self._made = made
        self.edit_line = ""
        """The magic that edits its axes, as the line that made it calls the model."""
        self._variants: dict[str, tuple[Any, ExportedModel]] = {}

    @classmethod
    def of_outcome(cls, outcome: ExportOutcome) -> ExportedModel:
        """What an export has just made, its live source still held."""
        return cls(outcome.opened, outcome=outcome)

    @classmethod
    def of_variant(cls, made: VariantOutcome, parent: ExportedModel) -> ExportedModel:
        """The variant that `quantize` or `optimize` has just made of `parent`, whose live source it shares."""
        return cls(made.opened, parent=parent, made=made)

    @property
    def variant(self) -> str | None:
        """Name of this variant: `int8`, `optimized`, ...; `None` for the plain export."""
        return self.opened.variant

    @property
    def parent(self) -> ExportedModel | None:
        """What this variant was made from; `None` for the plain export."""
        if self._parent is None and self.variant is not None:
            origin = self.opened.made.parent if self.opened.made else None
            files = self.opened.variant_files
            if (origin or "") in files:
                self._parent = self._sibling(origin, files[origin or ""])
        return self._parent

    @property
    def made(self) -> VariantRecord | None:
        """What was done to make this variant: layers left in float, operators before and after, answers changed."""
        return self.opened.made

    @property
    def variants(self) -> Variants:
        """All variants of the folder that are there now, by name: `{"int8": ..., "optimized": ...}`.

        The plain export is not among them. Read anew each time: what was made or deleted meanwhile is seen.
        """
        found = {name: files for name, files in self.opened.variant_files.items() if name}
        listed = self.opened.graphs
        there = {name: self._sibling(name, files) for name, files in found.items() if set(files) >= set(listed)}
        return Variants(there, self)

    @property
    def plain_graphs(self) -> Mapping[str, GraphFile]:
        """The graphs of the plain export; this variant's own where they lie alone."""
        from onnx_magic.runtime.graphs import read_graph

        if self.variant is None:
            return self.graphs
        files = self.opened.variant_files.get("", {})
        return {role: read_graph(files[role]) if role in files else graph for role, graph in self.graphs.items()}

    def as_parent(self) -> Parent:
        """This model as what a variant is made from."""
        from onnx_magic.engine.variants.making import Parent

        return Parent(self.opened, self.plain_graphs, self.live, self.examples)

    def _sibling(self, name: str | None, files: Mapping[str, Path]) -> ExportedModel:
        """Another variant of the folder; the same object as before while its files are the same."""
        from onnx_magic.runtime.graphs import read_graph

        if name == self.variant:
            return self
        mark = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files.values())
        known = self._variants.get(name or "")
        if known is None or known[0] != mark:
            opened = self.opened.of_variant(name, {role: read_graph(path) for role, path in files.items()})
            known = (mark, ExportedModel(opened, kin=self))
            self._variants[name or ""] = known
        return known[1]

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
        """The live model as a function of the graph's inputs, until `release()`; a variant has its parent's."""
        if self._outcome is None and self._kin is not None:
            return self._kin.live
        return self._outcome.flat if self._outcome else None

    @property
    def examples(self) -> Examples | None:
        """The inputs that the export was proven with, until `release()`; a variant has its parent's."""
        if self._outcome is None and self._kin is not None:
            return self._kin.examples
        return self._outcome.examples if self._outcome else None

    @property
    def plan(self) -> ExportPlan:
        """What was decided before tracing; `plan.edit()` changes it. After a load: what the folder tells."""
        if self._outcome is not None:
            return self._outcome.plan
        report, graph = self.opened.report, self.graph
        return ExportPlan(
            name=report.name,
            task=report.task,
            architecture=report.architecture,
            inputs=graph.inputs,
            outputs=graph.outputs,
            examples={},
            opset=graph.opset,
            exporter=report.exporter,
            decisions=report.decisions,
        )

    @property
    def validation(self) -> Validation:
        """The verdict. `bool()` is "verified"; after a load, what the manifest says was found then."""
        return self._outcome.validation if self._outcome else self.opened.validation

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What the export did, with seconds."""
        done = self._outcome or self._made
        return done.stages if done else ()

    @property
    def log(self) -> str:
        """All that the libraries wrote while exporting."""
        done = self._outcome or self._made
        return done.log if done else ""

    @property
    def report(self) -> ExportReport:
        """What is shown of it."""
        done = self._outcome or self._made
        found = done.report if done else self.opened.report
        return dataclasses.replace(found, edit=self.edit_line) if self.edit_line and found.edit else found

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
        which = f" {self.variant}" if self.variant else ""
        task = self.task or "plain module"
        return f"<ExportedModel {self.name}{which} ({task}), {self.validation.status}: {self.path}>"


for _name in VERBS:
    setattr(ExportedModel, _name, _method(_name))


class Variants(dict[str, ExportedModel]):
    """The variants of one folder by name; shown as one table.

    Example:
        >>> exported.variants["int8"].run("I loved it").decoded  # doctest: +SKIP
        [{'label': 'POSITIVE', 'score': 0.97}]
    """

    def __init__(self, found: Mapping[str, ExportedModel], exported: ExportedModel) -> None:
        super().__init__(found)
        self._exported = exported

    @property
    def table(self) -> VariantsTable:
        """Size, drift, answers changed and verdict of each, the plain export first."""
        from onnx_magic.records.variants_table import variants_table

        plain = self._exported
        while plain.variant is not None and plain.parent is not None:
            plain = plain.parent
        return variants_table(plain.report, [one.report for one in self.values()])


def named_variants(exported: ExportedModel, names: Iterable[str]) -> dict[str, ExportedModel]:
    """Variants by name (`variants=int8,q4`): those that the model holds itself, else those that lie in its folder.

    Raises:
        UsageError: there is no such variant; names those that are.
    """
    held: Mapping[str, ExportedModel] = getattr(exported, "variants", {})
    return {name: held[name] if name in held else _opened_variant(exported, name) for name in names}


def _opened_variant(exported: ExportedModel, name: str) -> ExportedModel:
    try:
        found: ExportedModel = _verb("load")(exported.model_path, variant=name)
    except UsageError as error:
        known = error.fix.removeprefix("variant=")
        fix = f"variants={known}" if known != error.fix else "leave variants out"
        raise UsageError(error.what, fix=fix) from error
    return found


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
