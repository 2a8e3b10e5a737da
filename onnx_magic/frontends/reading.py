"""One word → its value, as its option reads it: from the user's namespace (magics) or from the shell (command line)."""

from __future__ import annotations

import ast
import builtins
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from onnx_magic.frontends.lines import insert_values, unquoted
from onnx_magic.option_values import NONE_WORDS, TRUE_WORDS
from onnx_magic.options import Option

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*|[A-Za-z0-9][\w.]*(-[\w.]+)+")
"""`owner/name`, or one of the old names without an owner: `bert-base-uncased`."""

_PATH = re.compile(r"[\w.~/\\:+@-]+")
"""What a path or a Hub id may be written with when it stands without quotes."""

_PATH_WITH_VALUES = re.compile(r"(?=[^{])([\w.~/\\:+@-]|\{[^{}]*\})+")
"""The same with `{expr}` in it."""

_FROM_FILE = "@inputs.json"
"""An object on a command line, where it is not typed."""


class Misread(Exception):
    """A word cannot be read. The parser makes a UsageError of it, whose fix is the line with the word put right.

    Args:
        what: What was read, observed against expected.
        instead: The text that was probably meant; `None` when the word is best left out.
        fix: Another fix than the corrected line.
    """

    def __init__(self, what: str, *, instead: str | None = None, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.instead, self.fix = what, instead, fix


class Readable(Protocol):
    """What a reader needs to know of a field."""

    @property
    def option(self) -> Option:
        """The option."""

    @property
    def word(self) -> str:
        """Its name as it is typed."""

    @property
    def nullable(self) -> bool:
        """Whether None is one of its values."""

    @property
    def flag(self) -> str:
        """Its name on a command line."""


class Reader(Protocol):
    """Reads one word."""

    def read(self, field: Readable, text: str) -> Any:
        """The value that `text` means for `field`; raises Misread."""

    def join(self, words: Iterable[str]) -> str:
        """The words as one line that can be typed."""

    def sample(self, field: Readable) -> str:
        """What might be given for `field`, for the fix of an error."""

    def option(self, field: Readable, text: str) -> list[str]:
        """The words that give `field` the value which a magic's line writes as `text`."""


def nearest(text: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant.

    Example:
        >>> nearest("taks", ["task", "opset"])
        'task'
    """
    close = difflib.get_close_matches(text, sorted(set(names)), n=1, cutoff=0.6)
    return close[0] if close else None


def parse(field: Readable, text: str) -> Any:
    """Literal text → value. `auto` and `none` are None where a number, a flag or axes may be None.

    Raises:
        Misread: the option's own sentence, or the choices.
    """
    option = field.option
    if option.choices and text not in option.choices:
        near = nearest(text, option.choices)
        hint = f"did you mean {near!r}? " if near else ""
        expected = f"{hint}expected one of {', '.join(option.choices)}"
        raise Misread(f"{field.word}={text} is not known: {expected}", instead=near or option.choices[0])
    if field.nullable and option.reads != "text" and text.lower() in NONE_WORDS:
        return None
    try:
        return option.parse(text)
    except ValueError as error:
        raise Misread(f"{field.word}={text}: {error}") from error


@dataclass(frozen=True)
class NamespaceReader:
    """Reads words of a magic's line: objects are Python expressions in `scope`, `{expr}` in a text inserts a value.

    Args:
        scope: The user's namespace, with the caller's local names on top.
    """

    scope: dict[str, Any]

    def join(self, words: Iterable[str]) -> str:
        """The words as they were typed."""
        return " ".join(words)

    def sample(self, field: Readable) -> str:
        """A variable that fits, else the word that stands for the value in help."""
        return next(iter(variables_for(field, self.scope)), field.option.metavar.lower() or field.word)

    def option(self, field: Readable, text: str) -> list[str]:
        """`key=value`."""
        return [f"{field.word}={text}"]

    def read(self, field: Readable, text: str) -> Any:
        """The value that `text` means for `field`.

        Raises:
            Misread: it means none; `__cause__` is what was raised.
        """
        if field.option.reads == "object":
            return self._object(field, text)
        bare = unquoted(text)
        if field.option.reads == "axes":
            return parse(field, bare)
        try:
            literal = insert_values(bare, self.scope)
        except Exception as error:
            raise self._raised(field, text, error) from error
        try:
            return parse(field, literal)
        except Misread as misread:
            if field.option.reads != "text" and literal in self.scope:  # opset=n, where a variable n was meant
                misread.instead = f"{{{literal}}}"
            raise

    def _object(self, field: Readable, text: str) -> Any:
        if field.option.names and "{" in text and _PATH_WITH_VALUES.fullmatch(text):
            try:
                return insert_values(text, self.scope)
            except Exception as error:
                raise self._raised(field, text, error) from error
        tree, syntax_error = _expression(text)
        if field.option.names and tree and isinstance(tree.body, ast.Set) and len(tree.body.elts) == 1:
            return self._object(field, ast.unparse(tree.body.elts[0]))  # {model}, as other magics take it; never a set
        missing = _names(tree) - self.scope.keys() - vars(builtins).keys() if tree else {text}
        is_variable = tree is not None and isinstance(tree.body, ast.Name) and not missing
        if field.option.names and _PATH.fullmatch(text) and not is_variable:
            path = Path(text).expanduser()
            if path.exists():  # before evaluating: model.onnx may lie beside a variable called model
                return str(path)
            if missing:
                return self._hub_id(field, text)
        if tree is None:
            said = f"{field.word}={text} is not a Python expression: {syntax_error}"
            raise Misread(said, instead=f'"{unquoted(text)}"') from syntax_error
        if isinstance(tree.body, ast.Name) and missing:
            raise self._nothing_called(field, text)
        try:
            return eval(compile(tree, f"<{field.word}>", "eval"), self.scope)
        except Exception as error:
            if isinstance(error, AttributeError) and text.endswith(".onnx") and ".onnx file" in field.option.names:
                raise self._nothing_called(field, text) from error  # a file was meant, not an attribute
            raise self._raised(field, text, error) from error

    def _hub_id(self, field: Readable, text: str) -> str:
        if "Hub id" in field.option.names and _HUB_ID.fullmatch(text):
            return text
        raise self._nothing_called(field, text)

    def _nothing_called(self, field: Readable, text: str) -> Misread:
        names, fix = field.option.names, ""
        kinds = f"{', '.join(('variable', *names[:-1]))} or {names[-1]}" if names else "variable"
        models = variables_for(field, self.scope)
        variable = None if text.endswith(".onnx") else self._nearest(text, models)
        near = variable or (_nearest_path(text) if names else None)
        hint = f": did you mean {near!r}?" if near else ""
        held = f" (variables that hold a model: {', '.join(models[:8])})" if models else ""
        if not near and not models and names:
            fix = "" if "Hub id" in names else "exported = %onnx_export model"
        instead = near or (models[0] if models else f'"{text}"' if "Hub id" in names else None)
        return Misread(f"there is no {kinds} called {text!r}{hint}{held}", instead=instead, fix=fix)

    def _nearest(self, text: str, models: list[str]) -> str | None:
        """The variable that was meant; of `modle.encoder` the first name is put right."""
        root, dot, rest = text.partition(".")
        near = nearest(root, models) or nearest(root, _visible(self.scope))
        return f"{near}{dot}{rest}" if near and near != root else None

    def _raised(self, field: Readable, text: str, error: Exception) -> Misread:
        near = None
        if isinstance(error, NameError) and error.name and error.name in text:
            near = nearest(error.name, _visible(self.scope))
        hint = f": did you mean {near!r}?" if near else ""
        what = f"{field.word}={text} raised {type(error).__name__}: {first_line(error)}{hint}"
        if near:
            return Misread(what, instead=text.replace(str(getattr(error, "name", "")), near))
        return Misread(what, fix=f"try it alone in a cell: {text}")


@dataclass(frozen=True)
class ShellReader:
    """Reads words of a command line: an object is a path or literal text, JSON where it begins so, or `@file`."""

    def join(self, words: Iterable[str]) -> str:
        """The words, quoted for a POSIX shell."""
        import shlex

        return shlex.join(words)

    def sample(self, field: Readable) -> str:
        """The word that stands for the value in help."""
        return field.option.metavar or field.word.upper()

    def option(self, field: Readable, text: str) -> list[str]:
        """`--key value`; Python objects come from a file here."""
        if field.option.reads == "flag" and text in TRUE_WORDS:
            return [field.flag]
        return [field.flag, _FROM_FILE if field.option.reads == "object" else text.strip("\"'")]

    def read(self, field: Readable, text: str) -> Any:
        """The value that `text` means for `field`.

        Raises:
            Misread: it means none; `__cause__` is what was raised.
        """
        if field.option.reads != "object":
            return parse(field, text)
        try:
            if text.startswith("@"):
                return _file_value(Path(text[1:]))
            return json.loads(text) if text.lstrip().startswith(("{", "[")) else text
        except (OSError, ValueError) as error:
            what = f"{field.word}: {text!r} cannot be read: {first_line(error)}"
            raise Misread(what, instead=_FROM_FILE) from error


def _file_value(path: Path) -> Any:
    """What a `.json`, `.npy` or `.npz` file holds; the lines of any other."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix in (".npy", ".npz"):
        import numpy as np

        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if path.suffix == ".npz" else loaded
    return path.read_text(encoding="utf-8").splitlines()


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, its class where it says nothing."""
    try:
        lines = str(error).strip().splitlines()
    except Exception as broken:  # somebody else's __str__
        return f"{type(error).__name__} (its message cannot be read: {type(broken).__name__})"
    return lines[0] if lines else type(error).__name__


def variables_for(field: Readable, scope: dict[str, Any]) -> list[str]:
    """The variables that hold what `field` takes: models for MODEL, exports for EXPORTED. Calls nothing of theirs."""
    from onnx_magic.exported import ExportedModel

    def fits(value: Any) -> bool:
        kind = type(value)
        if field.option.metavar == "EXPORTED":
            return isinstance(value, ExportedModel)
        module = hasattr(kind, "forward") and (hasattr(kind, "parameters") or hasattr(kind, "preprocess"))
        return field.option.metavar == "MODEL" and module

    return [name for name in _visible(scope) if fits(scope[name])]


def _visible(scope: dict[str, Any]) -> list[str]:
    """The names that the user gave: IPython's own, and built-in ones that it puts there, were not meant."""
    own = ("In", "Out", "get_ipython", *vars(builtins))
    return [name for name in scope if not name.startswith("_") and name not in own]


def _nearest_path(text: str) -> str | None:
    parent, _, name = text.rpartition("/")
    folder = Path(parent or ".").expanduser()
    if not folder.is_dir():
        return None
    near = nearest(name, (entry.name for entry in folder.iterdir() if not entry.name.startswith(".")))
    return (f"{parent}/{near}" if parent else near) if near else None


def _expression(text: str) -> tuple[ast.Expression | None, Exception | None]:
    try:
        return ast.parse(text.strip(), mode="eval"), None
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        return None, error


def _names(tree: ast.AST) -> set[str]:
    """The names that an expression looks up and does not bind itself."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {node.id for node in nodes} - bound - arguments
