"""The fix of an error, as the line that was typed put right: for the cell it came from, or for the shell."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnx_magic.errors import UsageError
from onnx_magic.frontends.arguments import VERBS, Field, VerbArguments, VerbRow
from onnx_magic.frontends.lines import split_line
from onnx_magic.frontends.reading import Reader
from onnx_magic.records.artifact import ExportReport
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Validation

_MAGIC_LINE = re.compile(r"(?:\w+ = )?%{1,2}(\w+)(?: (.+))?")
_OWN = "model"
"""What stands for the model in the fix of an error that does not know how it was written."""

_EXPORT = "exported"
"""What stands for the exported model."""

_PROGRAMS = {"df": "!", "git": "!", "hf": "!", "ls": "!", "rm": "!", "pip": "%"}
"""Programs that fixes name → what a notebook's cell calls them with."""


@dataclass(frozen=True)
class Typed:
    """The line that an error came from.

    Args:
        arguments: What its verb takes.
        words: Its words, behind the verb.
        reader: How they are read.
        prefix: What stands before them (`%onnx_export`, `onnx-magic export`).
        many: Whether the field that takes many takes all the words that are left.
    """

    arguments: VerbArguments
    words: tuple[str, ...]
    reader: Reader
    prefix: str
    many: bool = False

    def corrected(self, name: str, text: str) -> str | None:
        """The line with one option set; `None` where it has no such option."""
        field = self.arguments.find(name)
        if field is None:
            return None
        return self.arguments.corrected(self.words, self.reader, field, text, prefix=self.prefix, many=self.many)

    def text(self, name: str) -> str | None:
        """How one argument was written; `None` where it was not given."""
        return self.arguments.texts(self.words, self.reader, many=self.many).get(name)


def axes_line_of(typed: Typed) -> str:
    """The line of `%onnx_axes` for the model and the inputs of an export.

    Example:
        >>> from onnx_magic.frontends.reading import NamespaceReader
        >>> words = ("net", "opset=18", "inputs=(x, y)")
        >>> axes_line_of(Typed(VERBS["export"].line_arguments, words, NamespaceReader({}), "%onnx_export"))
        '%onnx_axes net inputs=(x, y)'
    """
    given = (typed.text("model") or "model", typed.text("inputs"))
    return " ".join(("%onnx_axes", given[0], *([f"inputs={given[1]}"] if given[1] else [])))


def cell_fix(fix: str, typed: Typed) -> str:
    """A fix as a line for the cell: an option in the typed line, `model` as it is called there, `!` before a program.

    Example:
        >>> from onnx_magic.frontends.reading import NamespaceReader
        >>> line = Typed(VERBS["export"].arguments, ("net", "opset=3"), NamespaceReader({}), "%onnx_export")
        >>> cell_fix("opset=9", line)
        '%onnx_export net opset=9'
    """
    statement, comment = _parted(fix)
    line = _with_option(statement, typed)
    if line is not None:
        return line + comment
    program = statement.partition(" ")[0]
    if program in _PROGRAMS:
        return f"{_PROGRAMS[program]}{fix}"
    own, export = typed.text(_OWN), typed.text(_EXPORT) or ""
    if statement.startswith(f"{_EXPORT}.") and export.isidentifier():
        return f"{export}{statement.removeprefix(_EXPORT)}{comment}"
    if (call := _python_call(statement)) and call[0].line_magic:
        row, words = call
        return f"%{row.line_magic} {typed.reader.join(_named(words, own))}{comment}"
    magic = _MAGIC_LINE.fullmatch(statement)
    if magic and magic[2] and own is not None:
        start = magic.start(2)
        return f"{statement[:start]}{' '.join(_named(magic[2].split(' '), own))}{comment}"
    return fix


def shell_fix(fix: str, typed: Typed, program: str) -> str:
    """A fix as a line for the shell: an option in the typed line, a magic or a call in Python as its command.

    Args:
        fix: The fix as the engine gave it.
        typed: The command line.
        program: The name of the program.

    Example:
        >>> from onnx_magic.frontends.reading import ShellReader
        >>> line = Typed(VERBS["export"].arguments, ("mini",), ShellReader(), "onnx-magic export")
        >>> shell_fix("task=ner", line, "onnx-magic")
        'onnx-magic export mini --task ner'
    """
    statement, comment = _parted(fix)
    line = _with_option(statement, typed)
    if line is not None:
        return line + comment
    method = _method_call(statement, typed)
    if method is not None:
        return f"{program} {typed.reader.join(method)}{comment}"
    call = _python_call(statement) or _magic_call(statement)
    if call is None or not (call[0].command or call[1]):
        return fix
    row, words = call
    own = typed.text(_OWN) or VERBS["export"].arguments.fields[0].metavar
    words = _named(words, own)
    if row.command is None:  # load: a command opens what it runs
        target = typed.corrected(_EXPORT, words[0])
        return (target or f"{program} run {typed.reader.join(words[:1])} INPUTS") + comment
    fields = {field.word: field for field in row.arguments.fields}
    spelled = [part for word in words for part in _spelled(word, fields, typed.reader)]
    return f"{program} {row.command} {typed.reader.join(spelled)}".rstrip() + comment


def with_fixes(record: Any, spell: Callable[[str], str]) -> Any:
    """A record as a command prints it: fixes as `spell` writes them, and no line of a notebook."""
    report = getattr(record, "report", record)
    match report:
        case ExportReport(validation=validation, findings=findings):
            found = tuple(with_fixes(finding, spell) for finding in findings)
            return dataclasses.replace(report, validation=with_fixes(validation, spell), findings=found, edit="")
        case Validation(findings=findings):
            return dataclasses.replace(report, findings=tuple(with_fixes(finding, spell) for finding in findings))
        case Finding(fix=fix) if fix:
            return dataclasses.replace(report, fix=spell(fix))
    return record


def _parted(fix: str) -> tuple[str, str]:
    """What is typed, and the comment behind it."""
    statement, mark, comment = fix.partition("  # ")
    return statement, f"{mark}{comment}"


def _with_option(statement: str, typed: Typed) -> str | None:
    name, equals, text = statement.partition("=")
    return typed.corrected(name, text) if equals and name.isidentifier() and text[:1] not in ("", "=", " ") else None


def _named(words: list[str], own: str | None) -> list[str]:
    """The words with the model's own name in the place of `model`, `model.base_model` or `model[0]`."""
    mine = re.compile(rf"^{_OWN}(?=$|[.\[])")
    return words if own is None else [mine.sub(lambda _: own, word, count=1) for word in words]


def _magic_call(statement: str) -> tuple[VerbRow, list[str]] | None:
    """The verb of a magic's line, and its words."""
    line = _MAGIC_LINE.fullmatch(statement)
    row = next((row for row in VERBS.values() if line and line[1] in (row.line_magic, row.cell_magic)), None)
    if line is None or row is None:
        return None
    try:
        return row, list(split_line(line[2] or "").words)
    except UsageError:  # words that only look like a magic's line
        return None


def _python_call(statement: str) -> tuple[VerbRow, list[str]] | None:
    """The verb of `onnx_magic.export(model, output='x')`, and its arguments as a magic's words."""
    match _parsed(statement):
        case ast.Call(ast.Attribute(ast.Name("onnx_magic"), verb), given, keywords) if verb in VERBS:
            named = [f"{keyword.arg}={_word(keyword.value)}" for keyword in keywords]
            return VERBS[verb], [*map(_word, given), *named]
    return None


def _method_call(statement: str, typed: Typed) -> list[str] | None:
    """`exported.run(inputs)` as the words of its command; arrays come from a file."""
    match _parsed(statement):
        case ast.Call(ast.Attribute(ast.Name("exported"), verb), [argument]) if verb in VERBS and VERBS[verb].command:
            return [str(VERBS[verb].command), typed.text(_EXPORT) or _EXPORT.upper(), *_samples(argument)]
    return None


def _samples(argument: ast.expr) -> list[str]:
    try:
        value = ast.literal_eval(argument)
    except ValueError:
        return ["@inputs.npz"]
    many = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value if many else [value if isinstance(value, str) else json.dumps(value)]


def _parsed(statement: str) -> ast.expr | None:
    try:
        return ast.parse(statement, mode="eval").body
    except (SyntaxError, ValueError):  # ValueError: a null byte, half a character
        return None


def _word(node: ast.expr) -> str:
    """An argument as a magic's line writes it."""
    value: Any = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) and re.fullmatch(r"[\w.~/+@-]+", value) else ast.unparse(node)


def _spelled(word: str, fields: dict[str, Field], reader: Reader) -> list[str]:
    name, equals, text = word.partition("=")
    return reader.option(fields[name], text) if equals and name in fields else [word.strip("\"'")]
