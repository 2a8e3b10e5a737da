"""The magics, made from the verbs' table: `%onnx_export`, `%%onnx_export`, `%onnx_load`, `%%onnx_run`, ..."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core import page
from IPython.core.magic import (
    Magics,
    cell_magic,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from traitlets import TraitError, TraitType

from onnx_magic.display import formatters
from onnx_magic.errors import OnnxMagicError
from onnx_magic.exported import ExportedModel, Variants
from onnx_magic.frontends.arguments import VERBS, Field, VerbArguments, VerbRow
from onnx_magic.frontends.completing import matcher
from onnx_magic.frontends.documenting import magic_help, spelled
from onnx_magic.frontends.fixing import Typed, axes_line_of, cell_fix
from onnx_magic.frontends.lines import Line, split_line
from onnx_magic.frontends.progress import watching
from onnx_magic.frontends.reading import Misread, NamespaceReader, parse
from onnx_magic.frontends.showing import (
    Showing,
    board_of,
    error_lines,
    interrupt_lines,
    place_of_call,
    shorten,
)
from onnx_magic.frontends.streaming import CellStream

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

MAGIC_ROWS = tuple(row for row in VERBS.values() if row.line_magic or row.cell_magic)


class OptionTrait(TraitType[Any, Any]):
    """`%config OnnxMagics.<option>`: the magics' default for an option; reads what a magic's line reads."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.info_text = f"{field.metavar} for {field.word}"
        told = f"{field.option.help} ({field.metavar})"
        super().__init__(default_value=field.default, allow_none=field.nullable, help=told, config=True)

    def validate(self, obj: Any, value: Any) -> Any:
        """The value, parsed as on a magic's line.

        Raises:
            TraitError: the option's own sentence.
        """
        try:
            return parse(self.field, spelled(value))
        except Misread as misread:
            raise TraitError(misread.what) from misread


def _configurable() -> dict[str, Field]:
    """The options of the magics that a default can be set for, each once."""
    found: dict[str, Field] = {}
    for row in MAGIC_ROWS:
        for field in (*row.line_arguments.fields, *(row.cell_arguments.fields if row.cell_magic else ())):
            option = field.option
            if not (field.required or option.per_call or option.reads in ("object", "axes")):
                found.setdefault(field.name, field)
    return found


CONFIGURABLE = _configurable()


def _magics(row: VerbRow) -> list[Callable[..., Any]]:
    """The methods behind `%name` and `%%name` of one verb: one for both where these are the same name."""
    names = dict.fromkeys(name for name in (row.line_magic, row.cell_magic) if name is not None)
    return [_magic(row, name) for name in names]


def _magic(row: VerbRow, name: str) -> Callable[..., Any]:
    """The method behind `%name`, `%%name`, or both."""

    def magic(self: OnnxMagics, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
        __tracebackhide__ = True  # what a user's cell raises is shown from the cell on
        return self.call(row, line, cell, local_ns)

    magic.__name__, magic.__qualname__, magic.__doc__ = name, f"OnnxMagics.{name}", magic_help(row, name)
    forms: dict[tuple[bool, bool], Any] = {
        (True, True): line_cell_magic,
        (True, False): line_magic,
        (False, True): cell_magic,
    }
    registered = forms[row.line_magic == name, row.cell_magic == name](magic)
    decorated: Callable[..., Any] = no_var_expand(needs_local_scope(registered))
    return decorated


def _members() -> dict[str, Any]:
    """The traits and the methods of `OnnxMagics`."""
    traits = {name: OptionTrait(field) for name, field in CONFIGURABLE.items()}
    methods = {method.__name__: method for row in MAGIC_ROWS for method in _magics(row)}
    return {**traits, **methods}


_Derived: Any = types.new_class("Magics", (Magics,), {}, lambda body: body.update(_members()))


@magics_class
class OnnxMagics(_Derived):  # type: ignore[misc]  # its base is made from the verbs' table
    """The magics of onnx_magic. `%config OnnxMagics.opset = 18` sets a default for all of them."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self.showing = Showing(shell)
        self.stream = CellStream(shell)
        self.matcher = matcher(lambda: shell.user_ns)

    def call(self, row: VerbRow, line: str, cell: str | None, local_ns: dict[str, Any] | None) -> Any:
        """Run a verb as a magic: read the line, run, show the record, return it.

        Raises:
            OnnxMagicError: with its traceback shortened to what failed and the fix.
        """
        __tracebackhide__ = True
        place = place_of_call(self.shell)
        known: Typed | None = None  # the line, once it is sound: until then its errors hold it put right themselves
        try:
            split = split_line(line)
            if {"--help", "-h"} & {*split.words}:
                page.page(magic_help(row, row.line_magic if cell is None else row.cell_magic))
                return None
            typed = self._typed(row, split, cell, local_ns)
            values = self._values(typed)
            known = typed
            silent = split.silent or _ends_silent(cell, values)
            result = self._run(row, values, cell, silent, typed)
        except OnnxMagicError as error:
            error.fix = cell_fix(error.fix, known) if known else error.fix
            shorten(error, error_lines(error))
            raise
        if not silent:
            self.showing.show(result, drawn=place.drawn)
        return None if silent and place.alone else result

    def _values(self, typed: Typed) -> dict[str, Any]:
        """What the verb is called with: the defaults of `%config`, then the line."""
        values = typed.arguments.parse(typed.words, typed.reader, prefix=typed.prefix)
        return self._defaults(typed.arguments) | values

    def _typed(self, row: VerbRow, line: Line, cell: str | None, local_ns: dict[str, Any] | None) -> Typed:
        arguments = row.line_arguments if cell is None else row.cell_arguments
        prefix = f"%{row.line_magic}" if cell is None else f"%%{row.cell_magic}"
        return Typed(arguments, line.words, NamespaceReader(self._scope(local_ns)), prefix)

    def _run(self, row: VerbRow, values: dict[str, Any], cell: str | None, silent: bool, typed: Typed) -> Any:
        __tracebackhide__ = True
        with watching(board_of(self.shell) if row.slow and not silent else None) as watch:
            try:
                if cell is not None:
                    return self._run_cell(row, values, cell)
                live = _LINE_FORMS.get(row.name)
                result = live(self.shell, values, typed) if live else row.function(**values)
                if isinstance(result, ExportedModel) and row.name == "export":
                    result.edit_line = axes_line_of(typed)
                return result
            except KeyboardInterrupt as interrupt:
                shorten(interrupt, interrupt_lines(watch, row.name))
                raise

    def _run_cell(self, row: VerbRow, values: dict[str, Any], body: str) -> Any:
        """Run the cell form, and bind its result to the variable of `as=`."""
        from onnx_magic.frontends import cells

        __tracebackhide__ = True
        name = values.pop("as_", None)
        result = _CELL_FORMS[row.name](cells, self.shell, values, body)
        if name is not None:
            self.shell.user_ns[name] = result
        return result

    def _scope(self, local_ns: dict[str, Any] | None) -> dict[str, Any]:
        user_ns: dict[str, Any] = self.shell.user_ns
        return user_ns if local_ns is None or local_ns is user_ns else {**user_ns, **local_ns}

    def _defaults(self, arguments: VerbArguments) -> dict[str, Any]:
        """What `%config` has changed, of the options that this verb has."""
        mine = {field.name for field in arguments.fields} & CONFIGURABLE.keys()
        values = {name: getattr(self, name) for name in mine}
        return {name: value for name, value in values.items() if value != CONFIGURABLE[name].default}


def _export_cell(cells: Any, shell: InteractiveShell, values: dict[str, Any], body: str) -> Any:
    __tracebackhide__ = True
    return cells.run_export_cell(shell, values, body)


def _run_cell(cells: Any, shell: InteractiveShell, values: dict[str, Any], body: str) -> Any:
    __tracebackhide__ = True
    return cells.run_cell(shell, values.pop("exported"), values, body)


_CELL_FORMS: dict[str, Callable[[Any, InteractiveShell, dict[str, Any], str], Any]] = {
    "export": _export_cell,
    "run": _run_cell,
}
"""What the body of a cell magic is handed to, by verb; `frontends.cells` is loaded when a cell is run."""


def _axes_line(shell: InteractiveShell, values: dict[str, Any], typed: Typed) -> Any:
    __tracebackhide__ = True
    from onnx_magic.frontends import live

    return live.axes_table(shell, values, typed)


def _play_line(shell: InteractiveShell, values: dict[str, Any], typed: Typed) -> Any:
    __tracebackhide__ = True
    from onnx_magic.frontends import live

    return live.playground(shell, values)


_LINE_FORMS: dict[str, Callable[[InteractiveShell, dict[str, Any], Typed], Any]] = {
    "plan": _axes_line,
    "run": _play_line,
}
"""What `%name` is handed to, by verb, where that shows more than the verb's record."""


def _ends_silent(cell: str | None, values: dict[str, Any]) -> bool:
    """Whether a cell's body ends in `;`. A body that is text may end as it likes."""
    return cell is not None and cell.rstrip().endswith(";") and not values.get("lines")


def register(shell: InteractiveShell) -> None:
    """`%load_ext onnx_magic`: magics, formatters, completion, `%config`. Doing it twice is doing it once."""
    unregister(shell)
    _drop_unreadable(shell)
    magics = OnnxMagics(shell)
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.stream.before_cell)
    shell.events.register("post_run_cell", magics.stream.after_cell)
    shell.events.register("post_run_cell", magics.showing.after_cell)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(magics.matcher)
    formatters.register(shell, {ExportedModel: lambda one: one.report, Variants: lambda found: found.table})


def _drop_unreadable(shell: InteractiveShell) -> None:
    """Take defaults that cannot be read out of the configuration: `%config` refuses them, yet keeps them."""
    section = shell.config.get(OnnxMagics.__name__, {})
    for name, field in CONFIGURABLE.items():
        if name in section:
            try:
                parse(field, spelled(section[name]))
            except Misread as misread:
                shell.log.warning("%%config OnnxMagics.%s; left out", misread.what)
                del section[name]


def unregister(shell: InteractiveShell) -> None:
    """`%unload_ext onnx_magic`: take all of it away again."""
    formatters.unregister(shell)
    manager = shell.magics_manager
    magics = manager.registry.pop(OnnxMagics.__name__, None)
    if magics is None:
        return
    for kind, named in magics.magics.items():
        for name in named:
            manager.magics[kind].pop(name, None)
    shell.events.unregister("pre_run_cell", magics.stream.before_cell)
    shell.events.unregister("post_run_cell", magics.stream.after_cell)
    magics.stream.close()
    shell.events.unregister("post_run_cell", magics.showing.after_cell)
    shell.configurables[:] = [entry for entry in shell.configurables if entry is not magics]
    if shell.Completer is not None:
        shell.Completer.custom_matchers[:] = [m for m in shell.Completer.custom_matchers if m is not magics.matcher]
