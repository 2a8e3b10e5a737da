"""The body of a cell magic: run it, see which model it calls, run it again with ONNX Runtime in the model's place."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

from IPython.utils.capture import capture_output

from onnx_magic.errors import InputsError, OnnxMagicError, SwapError, UsageError
from onnx_magic.exported import ExportedModel, as_exported, named_variants
from onnx_magic.records.results import Comparison, RunResult, SideBySide, VariantAnswer
from onnx_magic.runtime.generating import is_generator

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from onnx_magic.engine.random_states import RandomStates
    from onnx_magic.engine.watching import Watch
    from onnx_magic.records.latency import Latency


@dataclass(frozen=True)
class RunOptions:
    """What the first line of `%%onnx_run` says beside the exported model; see `options.py`.

    Args:
        asked: Generation options.
    """

    model: Any = None
    once: bool = False
    lines: bool = False
    top_k: int | None = None
    provider: str | None = None
    variants: tuple[str, ...] = ()
    time: bool = False
    full_text: bool = True
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> RunOptions:
        """The options of a line; those that are not of the cell itself say how to generate."""
        own = {option.name for option in dataclasses.fields(cls)}
        asked = {name: value for name, value in values.items() if name not in own}
        return cls(**{name: value for name, value in values.items() if name in own}, asked=asked)


def run_cell(shell: InteractiveShell, exported: Any, values: dict[str, Any], body: str) -> SideBySide | RunResult:
    """`%%onnx_run`: the body in PyTorch, and again with ONNX Runtime in the model's place; or an input for both.

    The first run is the real one: its variables stay and what it prints shows. Its random states are put back for the
    second, which runs in a copy of the namespace and shows nothing.

    Args:
        shell: The shell whose cell this is.
        exported: The exported model, or its folder.
        values: Fields of RunOptions.
        body: The cell.

    Returns:
        The two last values and the tensors' differences per call; a RunResult alone when PyTorch's side is missing.

    Raises:
        UsageError: an empty cell, one that trains, one that calls other models only.
        SwapError: the cell asks the model for something that the graph cannot give.
        Exception: whatever the cell raises in its first run.
    """
    __tracebackhide__ = True
    from onnx_magic.engine.random_states import RandomStates
    from onnx_magic.engine.replaying import both_answers, called_model, timed_call, watched_class
    from onnx_magic.engine.watching import watch_modules

    target, options = as_exported(exported), RunOptions.read(values)
    variants = named_variants(target, options.variants)
    how: dict[str, Any] = {"top_k": options.top_k, "provider": options.provider, "variants": variants}
    texts: dict[str, Any] = {"asked": options.asked, "full_text": options.full_text}
    if options.lines:
        return both_answers(target, _samples(body), model=options.model, timed=options.time, **how, **texts)
    cell = Cell.read(shell, body, "%%onnx_run")
    before, states = dict(shell.user_ns), RandomStates.now()
    watched = watched_class(target, options.model)
    try:
        with watch_modules(watched) as watch:
            value = cell.run(shell.user_ns)
    except UsageError as error:
        error.fix = _for_whom(error.fix, shell.user_ns, watched)
        raise
    if trained := watch.trained():
        raise UsageError(
            f"{trained}; the second run would train it again", fix="call the model in a cell of its own, after training"
        )
    model = called_model(target, watch, options.model)
    if model is not None and options.asked:
        name = next(iter(options.asked))
        raise UsageError(
            f"the cell calls the model itself: {name} is for a cell that ends in a text to go on with",
            fix=f"model.generate(..., {name}={options.asked[name]!r})",
        )
    if model is None:
        _refuse_no_input(target, watch, value)
        return both_answers(target, value, model=options.model, timed=options.time, **how, **texts)
    watch = watch.only(model)
    generating = is_generator(target.opened)
    if options.once and generating:
        raise UsageError(
            "the cell generates, and each call goes on from the one before: once=yes cannot replay them",
            fix="leave once out",
        )
    if options.once:
        side = _replayed(target, model, watch, how)
    else:
        second = _Second(shell, cell, before, states)
        main = _again(second, target, model, watch, value, options.provider)
        others = {name: _variant(second, other, model, watch, value, options) for name, other in variants.items()}
        side = SideBySide(value, main.answer, main.comparison, main.notes, others, top_k=options.top_k)
    if options.time and generating:
        latency = _timed_generation(_Second(shell, cell, before, states), target, model, variants, options.provider)
        side = dataclasses.replace(side, latency=latency)
    elif options.time and watch.calls:
        latency = timed_call(target, model, watch.calls[0], variants=variants, provider=options.provider)
        side = dataclasses.replace(side, latency=latency)
    return side


def _for_whom(fix: str, scope: Mapping[str, Any], architecture: str | None) -> str:
    """`model.eval()` with the name of the variable that holds such a model in train mode."""
    from onnx_magic.engine.watching import architecture_of

    if not fix.startswith("model."):
        return fix
    held = ((name, value) for name, value in scope.items() if not name.startswith("_"))
    names = (n for n, v in held if getattr(v, "training", False) is True and architecture_of(v) == architecture)
    return f"{next(names, 'model')}{fix.removeprefix('model')}"


def run_export_cell(shell: InteractiveShell, values: dict[str, Any], body: str) -> ExportedModel:
    """`%%onnx_export`: run the body, in which the model is called, and export with these calls as example inputs.

    Args:
        shell: The shell whose cell this is.
        values: Options of `export`, `model` among them.
        body: The cell.

    Raises:
        InputsError: the cell does not call the model, or in ways that cannot share a graph.
        Exception: whatever the cell raises, or `export` does.
    """
    __tracebackhide__ = True
    from onnx_magic.engine.capturing import capture_calls
    from onnx_magic.engine.swapping import swap_target
    from onnx_magic.verbs.export import export

    model = values.pop("model")
    try:
        target = swap_target(model)
    except SwapError as error:
        raise InputsError(
            f"the cell form captures the calls of a live model, and {type(model).__name__} is none",
            fix="%onnx_export without a cell, or a variable that holds the model",
        ) from error
    cell = Cell.read(shell, body, "%%onnx_export")
    with capture_calls(target) as capture:
        try:
            cell.run(shell.user_ns)
        except Exception as error:
            refusal = capture.refusal(error)
            if refusal is None:
                raise
            raise refusal from error
    return export(model, inputs=capture.calls, **values)


@dataclass(frozen=True)
class Cell:
    """A cell's body, compiled: its statements, and the expression at its end, if there is one."""

    statements: CodeType
    last: CodeType | None

    @classmethod
    def read(cls, shell: InteractiveShell, body: str, magic: str) -> Cell:
        """Compile a body as IPython does: magics, `!commands` and AST transformations included.

        Raises:
            UsageError: an empty cell, one that awaits at its top level, or a body that is no Python.
        """
        __tracebackhide__ = True
        source: str = shell.transform_cell(body)
        if shell.should_run_async(body, transformed_cell=source):
            raise UsageError(
                f"the cell awaits at its top level, which {magic} cannot do",
                fix="await in a cell above, and use its value here",
            )
        result = shell.displayhook.exec_result
        number = result.execution_count if result is not None else shell.execution_count
        # The line of the magic counts, so that tracebacks name the lines of the notebook's cell.
        lead = "\n" * (1 + len(body) - len(body.lstrip("\n")))
        name = shell.compile.cache(f"{magic}{lead}{source}", number, raw_code=f"{magic}\n{body}")
        try:
            tree = shell.transform_ast(shell.compile.ast_parse(lead + source, filename=name))
        except SyntaxError as error:  # as such IPython would show it below ten frames of its own and ours
            raise _no_python(error, body, magic) from error
        if not tree.body:
            raise UsageError(f"the cell is empty: {magic} runs its body", fix=f"{magic} ..., and Python below it")
        final = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        # codeop.Compile takes trees too, and remembers `from __future__` of earlier cells.
        compiled: Any = shell.compile
        last = compiled(ast.Expression(final.value), name, "eval") if isinstance(final, ast.Expr) else None
        return cls(compiled(tree, name, "exec"), last)

    def run(self, namespace: dict[str, Any]) -> Any:
        """Execute in `namespace`; the value of the last expression, `None` without one."""
        __tracebackhide__ = True
        exec(self.statements, namespace)
        return None if self.last is None else eval(self.last, namespace)


def _no_python(error: SyntaxError, body: str, magic: str) -> UsageError:
    text = (error.text or "").strip()
    what = f"line {error.lineno} of the cell is no Python: {error.msg}{f', in {text}' if text else ''}"
    if magic == "%%onnx_run" and not set(body) & {*"()[]{}=:#"}:
        return UsageError(what, fix="lines=yes  # takes the body as text, a sample a line")
    return UsageError(what, fix=f"mend line {error.lineno}, and run the cell again")


@dataclass(frozen=True, eq=False)
class _Second:
    """The second run of a cell: where the first one began, leaving no trace."""

    shell: InteractiveShell
    cell: Cell
    namespace: Mapping[str, Any]
    states: RandomStates

    def run(self) -> Any:
        namespace = dict(self.namespace)
        with self._aside(namespace):
            return self.cell.run(namespace)

    @contextlib.contextmanager
    def _aside(self, namespace: dict[str, Any]) -> Iterator[None]:
        """Nothing shows, magics bind in the copy of the namespace, random states are those of the first run.

        What other threads print and log goes on: a loop that another cell started keeps its output.
        """
        from onnx_magic.engine.quiet import Log, quiet
        from onnx_magic.engine.random_states import random_states_kept

        real = self.shell.user_ns
        captured = capture_output(stdout=False, stderr=False)
        with random_states_kept(), captured, quiet(Log()), _handlers_muted():
            self.states.restore()
            self.shell.user_ns = namespace
            try:
                yield
            finally:
                self.shell.user_ns = real


@contextlib.contextmanager
def _handlers_muted() -> Iterator[None]:
    """Keep what this thread logs from the handlers: they hold the streams of the cell, captured or not."""
    me = threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != me

    known = logging.root.manager.loggerDict.values()
    loggers = (logging.root, *(logger for logger in known if isinstance(logger, logging.Logger)))
    handlers = {handler for logger in loggers for handler in logger.handlers}
    for handler in handlers:
        handler.addFilter(of_others)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(of_others)


def _again(
    second: _Second, exported: ExportedModel, model: Any, watch: Watch, value: Any, provider: str | None
) -> VariantAnswer:
    """Run the cell again with ONNX Runtime in the model's place: its value, and the differences of every call."""
    from onnx_magic.engine.replaying import compare_calls
    from onnx_magic.engine.swapping import stand_in_for, swapped

    failed: tuple[Comparison, ...] = ()
    actual, notes = None, list[str]()
    with swapped(exported, model, provider=provider, seen=watch.calls) as report:
        try:
            actual = second.run()
        except OnnxMagicError as error:
            if not report.failures:
                raise
            notes.append(f"the second run stopped: {error.what}")
        except Exception as error:  # the cell's own: what it made of ONNX Runtime's answer
            notes.append(f"the second run raised {type(error).__name__}: {error}")
            failed = (Comparison("second run", {}, error=f"the cell raised {type(error).__name__}: {error}"),)
    comparisons, drift = compare_calls(stand_in_for(exported, model, provider), watch.calls, report.calls)
    notes += [*report.notes, *drift, *_counted(watch, report.count if not notes else watch.count)]
    if actual is value and isinstance(value, list | dict | set):
        notes.append("both runs changed one and the same object, which is shown: make it anew in the cell, or once=yes")
    return VariantAnswer(actual, (*comparisons, *failed), tuple(notes))


def _timed_generation(
    second: _Second, exported: ExportedModel, model: Any, variants: Mapping[str, ExportedModel], provider: str | None
) -> Latency:
    """How long the cell takes with each backend, and how many tokens that makes per second."""
    from onnx_magic.engine.generation.timing import timed_generation
    from onnx_magic.engine.swapping import swapped

    forms = {"ONNX Runtime": exported, **variants}
    return timed_generation(
        model,
        second.run,
        {name: functools.partial(swapped, form, model, provider=provider) for name, form in forms.items()},
        exported.opened.session(provider).provider,
    )


def _variant(
    second: _Second, exported: ExportedModel, model: Any, watch: Watch, value: Any, options: RunOptions
) -> VariantAnswer:
    """The cell once more with a variant; one that cannot answer says why in its column: the others have answered."""
    from onnx_magic.engine.replaying import failed_variant

    try:
        found = _again(second, exported, model, watch, value, options.provider)
    except OnnxMagicError as error:
        return failed_variant("second run", error.what)
    stopped = found.answer is None and any(comparison.error for comparison in found.comparison)
    return dataclasses.replace(found, answer={}) if stopped else found


def _counted(watch: Watch, answered: int) -> Iterator[str]:
    if watch.count > len(watch.calls):
        yield f"{watch.count} calls; the first {len(watch.calls)} are compared"
    if answered not in (0, watch.count):
        yield f"the model was called {watch.count} times by PyTorch's run, {answered} times by ONNX Runtime's"


def _replayed(exported: ExportedModel, model: Any, watch: Watch, how: dict[str, Any]) -> SideBySide:
    from onnx_magic.engine.replaying import replayed

    side = replayed(exported, model, watch.calls, **how)
    return dataclasses.replace(side, notes=(*side.notes, *_counted(watch, 0)))


def _samples(body: str) -> list[str]:
    samples = [line.strip() for line in body.splitlines() if line.strip()]
    if not samples:
        raise UsageError("the cell is empty: lines=yes takes a sample a line", fix="a text in the lines below")
    return samples


def _refuse_no_input(exported: ExportedModel, watch: Watch, value: Any) -> None:
    """Raise a UsageError where the cell neither called the model nor ends in an input."""
    from onnx_magic.engine.replaying import called_inside

    if (path := called_inside(exported, watch)) is not None:
        raise UsageError(
            f"the cell calls {path}, an inner module of {watch.architecture}, and not {watch.architecture} itself",
            fix="call the model: model(...)",
        )
    if value is None:
        raise UsageError(
            f"the cell neither calls {watch.architecture or 'the model'} nor ends in an input for it",
            fix="end the cell in what exported.run(...) takes, or call the model in it",
        )
