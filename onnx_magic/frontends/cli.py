"""The command line, made from the verbs' table: `onnx-magic export notebooks/models/sentiment-mini --task ner`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from onnx_magic import __version__
from onnx_magic.errors import OnnxMagicError, UsageError
from onnx_magic.frontends.arguments import VERBS, VerbRow
from onnx_magic.frontends.documenting import command_help, program_help
from onnx_magic.frontends.fixing import Typed, shell_fix, with_fixes
from onnx_magic.frontends.progress import line_on, watching
from onnx_magic.frontends.reading import ShellReader, nearest

PROGRAM = "onnx-magic"
OK, FAILED_WITH_ERROR, VERDICT_FAILED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words behind the program's name; those of this process by default.

    Returns:
        0 when it is done, 1 after an error (two lines on stderr), 2 when the verdict is "failed", 130 when interrupted.

    Example:
        >>> main(["--version"])  # doctest: +SKIP
        onnx-magic 0.1.0
        0
    """
    _survive_any_text()
    words = list(sys.argv[1:] if argv is None else argv)
    # before the first "--" only: behind it stands what is to be run
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    if debug:
        words.remove("--debug")
    try:
        return _command(words)
    except OnnxMagicError as error:
        if debug:
            traceback.print_exc()
        else:
            from onnx_magic.frontends.showing import error_lines

            print("\n".join(error_lines(error)), file=sys.stderr)
        return FAILED_WITH_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(program_help(PROGRAM), end="")
        return OK if words else FAILED_WITH_ERROR
    if words[0] in ("-V", "--version"):
        print(f"{PROGRAM} {__version__}")
        return OK
    row = _row(words[0])
    options = words[1 : words.index("--")] if "--" in words else words[1:]
    if "--help" in options or "-h" in options:
        print(command_help(row, PROGRAM), end="")
        return OK
    typed = Typed(row.arguments, tuple(words[1:]), ShellReader(), f"{PROGRAM} {row.command}", many=True)
    values = typed.arguments.parse(typed.words, typed.reader, prefix=typed.prefix, many=True)
    try:
        return _show(_run(row, values), lambda fix: shell_fix(fix, typed, PROGRAM))
    except OnnxMagicError as error:
        error.fix = shell_fix(error.fix, typed, PROGRAM)
        raise


def _row(command: str) -> VerbRow:
    rows = {row.command: row for row in VERBS.values() if row.command}
    if command in rows:
        return rows[command]
    near = nearest(command, rows)
    hint = f"did you mean {near!r}? " if near else ""
    raise UsageError(
        f"there is no command {command!r}: {hint}expected one of {', '.join(rows)}",
        fix=f"{PROGRAM} {near} --help" if near else f"{PROGRAM} --help",
    )


def _run(row: VerbRow, values: dict[str, Any]) -> Any:
    from onnx_magic.frontends.showing import interrupt_lines

    with watching(line_on(sys.stderr)) as watch:
        try:
            return row.function(**dict(row.command_defaults) | values)
        except KeyboardInterrupt:
            watch.close()
            print(interrupt_lines(watch, row.name)[0], file=sys.stderr)
            raise


def _show(record: Any, spell: Callable[[str], str]) -> int:
    from onnx_magic.display.bundles import bundle

    try:
        print(bundle(with_fixes(record, spell))["text/plain"], flush=True)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    validation = getattr(record, "validation", None)
    if validation is not None:
        return VERDICT_FAILED if validation.status == "failed" else OK
    return VERDICT_FAILED if getattr(record, "passed", True) is False else OK


def _survive_any_text() -> None:
    """Print `?` for what a terminal's encoding has no sign for (a C locale), instead of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
