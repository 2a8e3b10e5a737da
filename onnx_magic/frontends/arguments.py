"""The verbs' table, and a verb's signature → what may be given to it, from a magic's line or from a command line.

An option is declared once, in the verb's keyword-only signature with a type from options.py. Here it becomes
`key=value` and `--key value`; documenting.py makes help of it, completing.py completions, magics.py `%config` defaults.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_magic.errors import UnknownOptionError, UsageError
from onnx_magic.frontends import extras
from onnx_magic.frontends.reading import Misread, Reader, nearest
from onnx_magic.option_values import FALSE_WORDS, TRUE_WORDS
from onnx_magic.options import Option

_KEY_VALUE = re.compile(r"([A-Za-z_][\w-]*)=(?!=)(.*)", re.DOTALL)
REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Field:
    """One parameter of a verb: its option, and how it may be given.

    Args:
        name: As the signature names it (`as_`).
        option: What is known of it.
        default: `REQUIRED` when it has none.
        positional: Whether it may be given without its name.
        nullable: Whether None is one of its values.
    """

    name: str
    option: Option
    default: Any
    positional: bool
    nullable: bool

    @property
    def word(self) -> str:
        """Its name as it is typed: `as` for `as_`, which Python keeps for itself."""
        return self.name.rstrip("_")

    @property
    def flag(self) -> str:
        """Its name on a command line: `--trust-remote-code`."""
        return f"--{self.word.replace('_', '-')}"

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED

    @property
    def metavar(self) -> str:
        """What stands for its value in help: its choices, yes|no, or a word."""
        if self.option.choices:
            return "|".join(self.option.choices)
        return "yes|no" if self.option.reads == "flag" else self.option.metavar or self.word.upper()

    def choices(self) -> tuple[str, ...]:
        """All values it may take, where they are few; looked up in a higher layer where they live there."""
        if self.option.choices_from is None:
            return self.option.choices or (("yes", "no") if self.option.reads == "flag" else ())
        module, _, function = self.option.choices_from.partition(":")
        return tuple(getattr(importlib.import_module(module), function)())


@dataclass(frozen=True)
class VerbRow:
    """One verb: where it can be called from. A name is `None` where there is no such way.

    Args:
        name: The function, in `onnx_magic.verbs.<name>`.
        line_magic: `%name`.
        cell_magic: `%%name`; its body is what `frontends.cells` makes of it.
        command: `onnx-magic <command>`.
        line_also: A verb whose options the line form takes too, beside its own.
        line_options: A function whose options the line form has beside the verb's own.
        line_without: Options that the line form takes in its own way, or not at all.
        cell_options: A function whose keyword-only options the cell form has beside the verb's own.
        cell_without: Options that the cell's body stands for.
        slow: Takes long enough that its stages are shown while it runs.
        command_defaults: Options that have another default on the command line: (name, value).
    """

    name: str
    line_magic: str | None = None
    cell_magic: str | None = None
    command: str | None = None
    line_also: str | None = None
    line_options: Callable[..., None] | None = None
    line_without: tuple[str, ...] = ()
    cell_options: Callable[..., None] | None = None
    cell_without: tuple[str, ...] = ()
    slow: bool = False
    command_defaults: tuple[tuple[str, str], ...] = ()

    @property
    def function(self) -> Callable[..., Any]:
        """The verb itself, looked up when it is called."""
        function: Callable[..., Any] = getattr(importlib.import_module(f"onnx_magic.verbs.{self.name}"), self.name)
        return function

    @property
    def arguments(self) -> VerbArguments:
        """What the verb takes, and `onnx-magic <command>`."""
        return verb_arguments(self.function)

    @property
    def line_arguments(self) -> VerbArguments:
        """What `%name` takes."""
        own = tuple(field for field in self.arguments.fields if field.name not in self.line_without)
        also = VERBS[self.line_also].arguments.fields if self.line_also else ()
        also = (*also, *(verb_arguments(self.line_options).fields if self.line_options else ()))
        names = {field.name for field in own}
        return VerbArguments(self.name, (*own, *(field for field in also if field.name not in names)))

    @property
    def cell_arguments(self) -> VerbArguments:
        """What the cell form takes on its first line."""
        own = [field for field in self.arguments.fields if field.name not in self.cell_without]
        extra = verb_arguments(self.cell_options).fields if self.cell_options else ()
        return VerbArguments(self.name, (*own, *extra))


_ROWS = (
    VerbRow(
        "export",
        "onnx_export",
        "onnx_export",
        "export",
        cell_options=extras.export_cell,
        cell_without=("inputs",),
        slow=True,
    ),
    VerbRow("plan", "onnx_axes", None, "plan", line_also="export", slow=True),
    VerbRow("load", line_magic="onnx_load"),
    VerbRow(
        "run",
        "onnx_play",
        "onnx_run",
        "run",
        line_options=extras.play_line,
        line_without=("inputs",),
        cell_options=extras.run_cell,
        cell_without=("inputs",),
    ),
    VerbRow("generate"),
    VerbRow("compare", command="compare"),
    VerbRow("optimize", line_magic="onnx_optimize", command="optimize", slow=True),
    VerbRow("quantize", line_magic="onnx_quantize", command="quantize", slow=True),
    VerbRow("benchmark", line_magic="onnx_benchmark", command="benchmark", slow=True),
    VerbRow("view", line_magic="onnx_view", command="view", command_defaults=(("output", "."),)),
    VerbRow("tasks", line_magic="onnx_tasks", command="tasks"),
)
VERBS: Mapping[str, VerbRow] = types.MappingProxyType({row.name: row for row in _ROWS})
"""Every verb, by its name."""


@functools.cache
def verb_arguments(function: Callable[..., Any]) -> VerbArguments:
    """Read a verb's signature.

    Raises:
        TypeError: a parameter's type carries no Option.

    Example:
        >>> [field.word for field in verb_arguments(VERBS["load"].function).fields]
        ['path', 'variant']
    """
    # Only the parameters' types are looked up: a verb may name its result's type under TYPE_CHECKING.
    noted = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    stand_in = types.SimpleNamespace(__annotations__=noted)
    hints = typing.get_type_hints(stand_in, vars(sys.modules[function.__module__]), include_extras=True)
    every = inspect.signature(function).parameters.values()
    # **options are Transformers' own (generate), and cannot be told here
    parameters = [parameter for parameter in every if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    return VerbArguments(function.__name__, tuple(_field(function, p, hints.get(p.name)) for p in parameters))


def _field(function: Callable[..., Any], parameter: inspect.Parameter, hint: Any) -> Field:
    option = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Option)), None)
    if option is None:
        raise TypeError(f"{function.__name__}({parameter.name}=): its type carries no Option; take one from options.py")
    base = typing.get_args(hint)[0]
    nullable = base is Any or type(None) in typing.get_args(base)
    return Field(
        parameter.name, option, parameter.default, parameter.kind is not inspect.Parameter.KEYWORD_ONLY, nullable
    )


@dataclass(frozen=True)
class VerbArguments:
    """What may be given to a verb.

    Args:
        name: The verb.
        fields: Its parameters, in order.
    """

    name: str
    fields: tuple[Field, ...]

    def find(self, word: str) -> Field | None:
        """The field of a name as it is typed, with dashes or underscores."""
        return next((field for field in self.fields if field.word == word.replace("-", "_")), None)

    @property
    def positional(self) -> tuple[Field, ...]:
        """What may be given without a name, in order."""
        return tuple(field for field in self.fields if field.positional)

    def parse(self, words: Sequence[str], reader: Reader, *, prefix: str, many: bool = False) -> dict[str, Any]:
        """Words → what the verb is called with: `{parameter: value}` of all that was given.

        Args:
            words: `model`, `task=ner`, `--task ner`; behind `--` everything is positional.
            reader: How a word is read.
            prefix: What stands before the words (`%onnx_export`): the fix of an error is a whole line.
            many: Whether the field that takes many takes all the words that are left.

        Raises:
            UnknownOptionError: a misspelt option; the fix is the corrected line.
            UsageError: an option twice or without a value, a word too many or too few, a value that cannot be read.
        """
        return _Parse(self, tuple(words), reader, prefix, many).values()

    def corrected(
        self, words: Sequence[str], reader: Reader, field: Field, text: str, *, prefix: str, many: bool = False
    ) -> str | None:
        """The line with `text` for one field: where it was given, else behind all others; `None` for no sound line."""
        try:
            return _Parse(self, tuple(words), reader, prefix, many).corrected(field, text)
        except UsageError:
            return None

    def texts(self, words: Sequence[str], reader: Reader, *, many: bool = False) -> dict[str, str]:
        """How each field was written, by its name; empty for no sound line."""
        try:
            given = _Parse(self, tuple(words), reader, "", many).scan()
        except UsageError:
            return {}
        return {name: places[0][3] for name, places in given.items()}


class _Parse:
    """One line being parsed; it knows the whole line, so that every error's fix is the line put right."""

    def __init__(self, verb: VerbArguments, words: tuple[str, ...], reader: Reader, prefix: str, many: bool) -> None:
        self.verb, self.words, self.reader, self.prefix = verb, words, reader, prefix
        self.many = next((field for field in verb.fields if many and field.option.many), None)
        self.given: dict[str, list[tuple[int, int, str, str]]] = {}
        """By field: (first word, last word, spelling of the option, text) of each time it was given."""

    def values(self) -> dict[str, Any]:
        self.scan()
        self._require()
        return {name: self._value(name, places) for name, places in self.given.items()}

    def corrected(self, field: Field, text: str) -> str:
        places = self.scan().get(field.name)
        if places:
            first, last, spelling, _ = places[0]
            return self._line(first, last, _spelled(spelling, text))
        end = self.words.index("--") if "--" in self.words else len(self.words)
        return self._line(end, end - 1, self.reader.option(field, text))

    def scan(self) -> dict[str, list[tuple[int, int, str, str]]]:
        """Which words belong to which field; nothing is read yet."""
        index = loose = 0
        while index < len(self.words):
            if self.words[index] == "--":
                rest = self.words[index + 1 :]
                for offset, word in enumerate(rest):
                    loose = self._positional(loose, index + 1 + offset, word)
                break
            option = self._option(index)
            if option is None:
                loose = self._positional(loose, index, self.words[index])
                index += 1
            else:
                index = option
        return self.given

    def _line(self, start: int | None = None, end: int = 0, instead: Iterable[str] = ()) -> str:
        """The line, with the words from `start` to `end` replaced."""
        if start is None:
            words = [*self.words, *instead]
        else:
            words = [*self.words[:start], *instead, *self.words[end + 1 :]]
        return f"{self.prefix} {self.reader.join(words)}".strip()

    def _option(self, index: int) -> int | None:
        """Take the option that begins at `index`; the index behind it, or None when it is no option."""
        word = self.words[index]
        named = _KEY_VALUE.fullmatch(word.removeprefix("--"))
        if word.startswith("--"):
            name = named[1] if named else word[2:]
        elif named and not self._is_text(named[1]):
            name = named[1]
        else:
            self._refuse_near_option(index, word)
            return None
        field = self.verb.find(name)
        if field is None:
            raise self._unknown(index, name, named[2] if named else None)
        spelling = f"{word[: -len(named[2]) or None]}" if named else f"{word} "
        text, last = (named[2], index) if named else self._following(field, index)
        if not text:
            samples = [f"{field.word}={choice}" for choice in field.choices()[:1]]
            raise UsageError(f"{field.word} has no value", fix=self._line(index, last, samples))
        self._give(field, index, last, spelling, text)
        return last + 1

    def _refuse_near_option(self, index: int, word: str) -> None:
        """Refuse a word that is no option as it stands, but was meant as one."""
        around = self.words[max(index - 1, 0) : index + 2]
        if word == "=" and len(around) == 3:
            joined = "".join(around)
            fix = self._line(index - 1, index + 1, [joined])
            raise UsageError(f"an option is written without spaces around its '=': {joined}", fix=fix)
        if re.fullmatch(r"-[A-Za-z]", word):
            raise UnknownOptionError(f"{self.verb.name} has no option {word}", fix=self._line(index, index))

    def _is_text(self, name: str) -> bool:
        """Whether `name=...` is a text to run rather than an option: only where a command line takes texts."""
        return self.many is not None and not self.verb.find(name) and not self._near(name)

    def _near(self, name: str) -> str | None:
        return nearest(name.replace("-", "_"), [field.word for field in self.verb.fields])

    def _unknown(self, index: int, name: str, text: str | None) -> UnknownOptionError:
        word, last = self.words[index], index
        opposite = self.verb.find(name.removeprefix("no-").removeprefix("no_"))
        if opposite and opposite.option.reads == "flag":
            fix = self._line(index, last, [f"{opposite.word}=no"])
            return UnknownOptionError(f"{self.verb.name} has no option {name!r}: write {opposite.word}=no", fix=fix)
        if name == "as" and text and self.prefix.startswith("%"):
            what = f"{self.verb.name} has no option 'as', which is for cells: a line is assigned"
            return UnknownOptionError(what, fix=f"{text} = {self._line(index, last)}")
        near = self._near(name)
        if near is None:
            options = ", ".join(field.word for field in self.verb.fields if not field.positional) or "none"
            what = f"{self.verb.name} has no option {name!r}; it has {options}"
            return UnknownOptionError(what, fix=self._line(index, last))
        right = word.replace(name, near.replace("_", "-") if word.startswith("--") else near, 1)
        what = f"{self.verb.name} has no option {name!r}: did you mean {near!r}?"
        return UnknownOptionError(what, fix=self._line(index, last, [right]))

    def _following(self, field: Field, index: int) -> tuple[str, int]:
        """The value of `--option` in the next word. A flag needs none: `--overwrite` is `--overwrite yes`."""
        following = self.words[index + 1] if index + 1 < len(self.words) else ""
        if field.option.reads == "flag" and following.lower() not in (*TRUE_WORDS, *FALSE_WORDS):
            return "yes", index
        return ("", index) if following.startswith("--") else (following, index + 1)

    def _positional(self, loose: int, index: int, word: str) -> int:
        """Take a word that stands without a name; how many were taken so far."""
        fields = self.verb.positional
        if loose < len(fields):
            field = fields[loose]
            self._give(field, index, index, "", word, again=field is self.many)
            return loose + (field is not self.many)
        names = " and ".join(field.word for field in fields) or "nothing"
        hint = "; a text with spaces is quoted" if fields else ""
        raise UsageError(
            f"{word!r} is one word too many: {self.verb.name} takes {names} without a name{hint}",
            fix=self._line(index, index),
        )

    def _give(self, field: Field, first: int, last: int, spelling: str, text: str, again: bool = False) -> None:
        places = self.given.setdefault(field.name, [])
        if places and not again:
            raise UsageError(f"{field.word} is given twice: {places[0][3]} and {text}", fix=self._line(first, last))
        places.append((first, last, spelling, text))

    def _require(self) -> None:
        for field in self.verb.fields:
            if field.required and field.name not in self.given:
                raise UsageError(
                    f"{self.verb.name} needs {field.word}: {field.option.help[0].lower()}{field.option.help[1:]}",
                    fix=self._line(None, 0, [self.reader.sample(field)]),
                )

    def _value(self, name: str, places: list[tuple[int, int, str, str]]) -> Any:
        """What a field was given; several times only where it takes many."""
        field = next(field for field in self.verb.fields if field.name == name)
        values = []
        for first, last, spelling, text in places:
            try:
                values.append(self.reader.read(field, text))
            except Misread as misread:
                right = _spelled(spelling, misread.instead) if misread.instead is not None else []
                fix = misread.fix or self._line(first, last, right)
                raise UsageError(misread.what, fix=fix) from misread.__cause__
        return values[0] if len(values) == 1 else values


def _spelled(spelling: str, text: str) -> list[str]:
    """An option's words, as it was spelled: `task=ner`, `--task ner`, `ner`."""
    return [spelling.strip(), text] if spelling.endswith(" ") else [f"{spelling}{text}"]
