"""Tab in a magic's line: option names, choices, variables that hold a model, folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_magic.errors import UsageError
from onnx_magic.frontends.arguments import VERBS, Field, VerbArguments
from onnx_magic.frontends.lines import split_line
from onnx_magic.frontends.reading import variables_for

_MAGIC_LINE = re.compile(r"^(?:\s*|.*=\s*)(?P<mark>%%?)(?P<name>onnx_\w+)\s+(?P<line>.*)$")


@dataclass(frozen=True)
class Candidates:
    """What may stand where the cursor is.

    Args:
        fragment: What is typed of it already; the candidates replace it.
        texts: The candidates, in the order to show them.
        closed: Whether nothing else can stand here (choices and option names): other completers are of no use.
    """

    fragment: str
    texts: tuple[str, ...]
    closed: bool = True


def complete_magic(text: str, scope: dict[str, Any]) -> Candidates | None:
    """Candidates for a line up to the cursor; `None` when it is no magic of ours.

    Example:
        >>> complete_magic("x = %onnx_export model exporter=d", {}).texts
        ('dynamo',)
    """
    found = _MAGIC_LINE.match(text)
    if found is None:
        return None
    cell = found["mark"] == "%%"
    for row in VERBS.values():
        if found["name"] == (row.cell_magic if cell else row.line_magic):
            return complete(row.cell_arguments if cell else row.line_arguments, found["line"], scope)
    return None


def complete(arguments: VerbArguments, line: str, scope: dict[str, Any]) -> Candidates:
    """Candidates for the last word of `line`."""
    try:
        words = split_line(line).words
    except UsageError:  # within an open bracket or quote: Python's own completer knows what may stand there
        return Candidates("", (), closed=False)
    last = words[-1] if words and not line[-1:].isspace() else ""
    before = words[: len(words) - 1] if last else words
    if "=" in last:
        name, _, typed = last.removeprefix("--").partition("=")
        field = arguments.find(name)
        return _values(field, typed, scope) if field else Candidates(last, ())
    pending = arguments.find(before[-1][2:]) if before and before[-1].startswith("--") else None
    if pending is not None:
        return _values(pending, last, scope)
    return _names(arguments, before, last, scope)


def _names(arguments: VerbArguments, before: Sequence[str], last: str, scope: dict[str, Any]) -> Candidates:
    """The options that were not given yet, behind what the next positional may be."""
    given = {field.word for word in before if (field := arguments.find(re.split("=", word.removeprefix("--"))[0]))}
    dashed = last.startswith("--")
    names = [f"{field.flag} " if dashed else f"{field.word}=" for field in arguments.fields if field.word not in given]
    loose = sum(1 for word in before if "=" not in word and not word.startswith("--"))
    waiting = arguments.positional[loose : loose + 1]
    if dashed or not waiting:
        return Candidates(last, _starting(last, (name.rstrip() for name in names)))
    if waiting[0].required:  # any expression may stand here: Python's completer goes on beside ours
        return _values(waiting[0], last, scope)
    values = _values(waiting[0], last, scope).texts if last else ()
    return Candidates(last, (*_starting(last, names), *values))


def _values(field: Field, typed: str, scope: dict[str, Any]) -> Candidates:
    if field.option.reads == "object":
        paths = _paths(typed) if field.option.names else ()
        texts = (*_starting(typed, variables_for(field, scope)), *paths)
        # What is begun may be any expression: Python completes it too.
        return Candidates(typed, texts, closed=not typed)
    choices = field.choices()
    if choices:
        return Candidates(typed, _starting(typed, choices))
    return Candidates(typed, _paths(typed) if field.option.metavar == "FOLDER" else ())


def _starting(typed: str, texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if text.startswith(typed))


def _paths(typed: str) -> tuple[str, ...]:
    """Folders, and .onnx files, that begin with what is typed."""
    parent, slash, start = typed.rpartition("/")
    folder = Path(f"{parent}{slash}" or ".").expanduser()
    if not folder.is_dir():
        return ()
    entries = sorted(entry for entry in folder.iterdir() if entry.name.startswith(start) and entry.name[0] != ".")
    fitting = (entry for entry in entries if entry.is_dir() or entry.suffix == ".onnx")
    return tuple(f"{parent}{slash}{entry.name}{'/' if entry.is_dir() else ''}" for entry in fitting)


def matcher(scope: Callable[[], dict[str, Any]]) -> Callable[[Any], Any]:
    """A matcher for `shell.Completer.custom_matchers`; `scope` gives the user's namespace when Tab is pressed."""
    from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

    def onnx_magic_matcher(context: CompletionContext) -> Any:
        found = complete_magic(context.text_until_cursor, scope())
        if found is None:
            return {"completions": []}
        return {
            "completions": [SimpleCompletion(text=text, type="param") for text in found.texts],
            "matched_fragment": found.fragment,
            "ordered": True,
            "suppress": found.closed,
        }

    marked: Callable[[Any], Any] = context_matcher(identifier="onnx_magic", priority=200)(onnx_magic_matcher)
    return marked
