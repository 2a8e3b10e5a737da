"""A verb's arguments → help: for `?`, for `--help`, and for docstrings."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from onnx_magic.frontends.arguments import VERBS, Field, VerbArguments, VerbRow
from onnx_magic.options import OPTIONS_HEAD

_WIDTH, _INDENT = 100, " " * 22


def usage(arguments: VerbArguments, prefix: str, *, shell: bool = False, indent: int = 0) -> str:
    """What may be given, in lines of 100 columns that begin behind `indent`: broken between options alone.

    Example:
        >>> usage(VERBS["load"].arguments, "%onnx_load")
        '%onnx_load PATH [variant=NAME]'
    """
    lines = [prefix]
    for use in (_use(field, shell) for field in arguments.fields):
        if indent + len(lines[-1]) + 1 + len(use) <= _WIDTH:
            lines[-1] += f" {use}"
        else:
            lines.append(f"    {use}")
    return f"\n{' ' * indent}".join(lines)


def _use(field: Field, shell: bool) -> str:
    if field.required:
        return f"{field.metavar}{'...' if shell and field.option.many else ''}"
    if field.positional:
        return f"[{field.metavar}]"
    return f"[{field.flag} {field.metavar}]" if shell else f"[{field.word}={field.metavar}]"


def option_list(arguments: VerbArguments, *, shell: bool = False) -> str:
    """A paragraph per option: how it is written, what it does, its default."""
    return "\n".join(_paragraph(field, shell) for field in arguments.fields)


def _paragraph(field: Field, shell: bool) -> str:
    if field.required or not shell:
        head = field.metavar if field.required else f"{field.word}={field.metavar}"
    else:
        head = f"{field.flag} {field.metavar}"
    told = field.option.help
    if not field.required and field.default is not None:
        told += f" Default: {spelled(field.default)}."
    column = len(_INDENT) - 4
    start = f"  {head:<{column}}  " if len(head) <= column else f"  {head}\n{_INDENT}"
    return start + f"\n{_INDENT}".join(textwrap.wrap(told, _WIDTH - len(_INDENT)))


def spelled(value: Any) -> str:
    """A value as it is typed.

    Example:
        >>> spelled(True)
        'yes'
    """
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _described(function: Callable[..., Any]) -> str:
    """A verb's docstring without the list of its options, which is written here in the front end's own way."""
    told = (inspect.getdoc(function) or "").partition(OPTIONS_HEAD)[0]
    return told.replace("  # doctest: +SKIP", "")


def magic_help(row: VerbRow, name: str | None = None) -> str:
    """What `%magic?` shows: every form, the options, and the verb's own description.

    A magic that is both `%name` and `%%name` has one docstring, as IPython's `?` finds only one of them. Where the line
    form has a name and options of its own, its description is that of these options.

    Args:
        row: The verb.
        name: Whose help it is, where the two forms have different names; both otherwise.
    """
    parts = []
    line = row.line_magic if name in (None, row.line_magic) else None
    cell = row.cell_magic if name in (None, row.cell_magic) else None
    if line:
        parts.append(usage(row.line_arguments, f"%{line}", indent=4))
    if cell:
        parts.append(usage(row.cell_arguments, f"%%{cell}", indent=4))
    by_name = {field.name: field for field in row.line_arguments.fields} if line else {}
    if cell:
        by_name |= {field.name: field for field in row.cell_arguments.fields}
    options = option_list(VerbArguments(row.name, tuple(by_name.values())))
    own = row.line_options if line and not cell and row.line_options else row.function
    summary, _, rest = _described(own).partition("\n\n")
    listed = f"\n\nOptions (key=value or --key value):\n{options}" if options else ""
    return f"{summary}\n\n" + "\n".join(f"    {part}" for part in parts) + f"{listed}\n\n{rest}".rstrip() + "\n"


def command_help(row: VerbRow, program: str) -> str:
    """What `onnx-magic <command> --help` prints."""
    about = _described(row.function).split("\n\n")
    first = "\n\n".join(part for part in about[:2] if not part.startswith(("Args:", "Returns:", "Raises:", "Example:")))
    use = f"usage: {usage(row.arguments, f'{program} {row.command}', shell=True, indent=7)}"
    options = option_list(row.arguments, shell=True)
    listed = f"\n\noptions (--key value or key=value):\n{options}" if options else ""
    return f"{use}\n\n{first}{listed}\n"


def program_help(program: str) -> str:
    """What `onnx-magic --help` prints."""
    rows = [row for row in VERBS.values() if row.command]
    commands = "\n".join(f"  {row.command:<12}{_first_line(row)}" for row in rows)
    return (
        f"usage: {program} COMMAND [OPTIONS]\n\nA PyTorch or Transformers model becomes a verified ONNX file.\n\n"
        f"commands:\n{commands}\n\n"
        f"  {program} COMMAND --help    the options of a command\n"
        f"  {program} --version         the version\n"
        f"  --debug                      the whole traceback of an error\n\n"
        "exit codes: 0 done (export: verified or not checked), 1 an error, 2 the verdict is failed, 130 interrupted\n"
    )


def _first_line(row: VerbRow) -> str:
    return _described(row.function).partition("\n")[0]
