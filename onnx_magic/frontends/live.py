"""What answers with something live: `%onnx_axes`, `plan.edit()`, `%onnx_play`; elsewhere their static form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from onnx_magic.display.blocks import Blocks, Item
from onnx_magic.display.html import html
from onnx_magic.display.text import text
from onnx_magic.frontends.arguments import VERBS, Field
from onnx_magic.frontends.documenting import spelled
from onnx_magic.frontends.fixing import Typed
from onnx_magic.frontends.reading import NamespaceReader
from onnx_magic.frontends.showing import Handle, is_notebook
from onnx_magic.option_values import Axes
from onnx_magic.records.plan import ExportPlan

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

Call: TypeAlias = Callable[[str, Axes | None], Any]
"""Calls `plan` or `export` with what was asked, and another `dynamic=`."""

_BARE = re.compile(r"[\w./:@+-]+")


def axes_table(shell: InteractiveShell, values: dict[str, Any], typed: Typed) -> Any:
    """`%onnx_axes`: the plan as a table to edit; in a terminal, or without the widgets' packages, the plan.

    Args:
        shell: Where it is shown.
        values: The options of `plan` and `export`.
        typed: The magic's line.
    """
    call, wish = _caller(values), values.get("dynamic")
    base = call("plan", None)
    plan = base if wish is None else call("plan", wish)
    return _table(shell, plan, lambda: base, call, typed)


def edit_plan(plan: ExportPlan) -> Any:
    """`plan.edit()`: the same table for a plan that is there already; nothing is planned again until it is edited."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or plan.asked is None:
        return plan
    call, wish = _caller(plan.asked), plan.asked.get("dynamic")
    reader = NamespaceReader(shell.user_ns)
    typed = Typed(VERBS["plan"].line_arguments, words_of(plan.asked, shell.user_ns), reader, "%onnx_axes")
    return _table(shell, plan, lambda: plan if wish in (None, True) else call("plan", None), call, typed)


def _table(shell: InteractiveShell, plan: ExportPlan, base: Callable[[], ExportPlan], call: Call, typed: Typed) -> Any:
    from onnx_magic.widgets.axes_draft import AxesDraft
    from onnx_magic.widgets.axes_table import AxesTable, missing

    if not _lives(shell, "the table cannot be edited here", missing):
        return plan
    return AxesTable(
        AxesDraft(base(), plan, lambda dynamic: call("plan", dynamic)),
        export=lambda dynamic: call("export", dynamic),
        line=lambda dynamic: export_line(typed, dynamic),
    )


def _caller(values: Mapping[str, Any]) -> Call:
    def call(verb: str, dynamic: Axes | None) -> Any:
        row = VERBS[verb]
        mine = {field.name for field in row.arguments.fields}
        given = {name: value for name, value in values.items() if name in mine}
        return row.function(**{**given, "dynamic": dynamic})

    return call


def words_of(options: Mapping[str, Any], scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of a magic's line that give these options, without `dynamic=`; objects by the variable that holds them.

    Example:
        >>> net = object()
        >>> words_of({"model": net, "opset": 18, "validate": True, "output": "my folder"}, {"net": net})
        ('net', "output='my folder'", 'opset=18')
    """
    words = []
    for field in VERBS["export"].arguments.fields:
        value = options.get(field.name, field.default)
        if field.name == "dynamic" or _is_default(value, field):
            continue
        word = _word(value, field, scope)
        words.append(word if field.required else f"{field.word}={word}")
    return tuple(words)


def _is_default(value: Any, field: Field) -> bool:
    simple = isinstance(value, str | int | float)  # an array compares element by element
    return not field.required and (value is field.default or (simple and bool(value == field.default)))


def _word(value: Any, field: Field, scope: Mapping[str, Any]) -> str:
    if field.option.reads == "object" and not isinstance(value, str):
        held = (name for name, each in scope.items() if each is value and not name.startswith("_"))
        return next(held, field.word)
    word = spelled(value)
    return word if _BARE.fullmatch(word) else repr(word)


def export_line(typed: Typed, dynamic: Axes | None) -> str:
    """The line of `%onnx_export` for what was typed behind `%onnx_axes`, with other axes.

    Example:
        >>> from onnx_magic.frontends.reading import NamespaceReader
        >>> line = Typed(VERBS["plan"].line_arguments, ("net", "opset=18"), NamespaceReader({}), "%onnx_axes")
        >>> export_line(line, {"x": {0: "batch"}})
        "%onnx_export net opset=18 dynamic={'x': {0: 'batch'}}"
    """
    row = VERBS["export"]
    export = Typed(row.arguments, typed.words, typed.reader, f"%{row.line_magic}")
    if dynamic is None and export.text("dynamic") is None:
        return f"{export.prefix} {export.reader.join(export.words)}"
    spelling = "auto" if dynamic is None else str(dynamic) if dynamic else "no"
    return export.corrected("dynamic", spelling) or export.prefix


def playground(shell: InteractiveShell, values: dict[str, Any]) -> Any:
    """`%onnx_play`: a panel that answers; in a terminal, or without the widgets' packages, the answers to one input.

    Args:
        shell: Where it is shown, and whose namespace arrays are written in.
        values: The options of `run`, and `inputs`, `atol`, `rtol`, `variants` where they were given.

    Raises:
        FeedError: the model does not take `inputs`.
        GraphFileError: the folder is gone.
        UsageError: there is no variant of that name, a top-k below 1, or generation options for a model that does not
            generate.
    """
    from onnx_magic.engine.playing import Player
    from onnx_magic.exported import as_exported, named_variants
    from onnx_magic.widgets.play_draft import PlayDraft
    from onnx_magic.widgets.playground import Playground, missing

    exported = as_exported(values["exported"])
    variants = named_variants(exported, values.get("variants", ()))
    asked = {name: value for name, value in values.items() if name not in _OF_PLAY and value is not None}
    full_text = values.get("full_text", True)
    player = Player(exported, provider=values.get("provider"), variants=variants, asked=asked, full_text=full_text)
    draft = PlayDraft(player, lambda expression: _evaluated(shell, expression))
    for name in ("top_k", "atol", "rtol"):
        draft.choose(name, values.get(name))
    player.refuse_gone()
    lives = _lives(shell, "no panel can be shown here, only the answers to one input", missing)
    if (inputs := values.get("inputs")) is not None:
        draft.run_inputs(inputs)
    elif lives:
        draft.attempt(lambda: draft.run_filled({}))  # what is wrong with the samples is said in the panel
    else:
        draft.run_filled({})
    return Playground(draft) if lives else draft.played


_OF_PLAY = frozenset({"exported", "inputs", "top_k", "provider", "full_text", "atol", "rtol", "variants"})
"""Options of `%onnx_play` that are not about how a text is generated; all others of `run` are."""


def _evaluated(shell: InteractiveShell, expression: str) -> Any:
    """The value of what was typed in the user's notebook; `np` is NumPy, unless it is a name of theirs."""
    import numpy

    return eval(expression, {"np": numpy, **shell.user_ns})


def _lives(shell: InteractiveShell, otherwise: str, missing: Callable[[], tuple[str, ...]]) -> bool:
    """Whether something live can be shown; where only a package is missing, a hint says so."""
    if not is_notebook(shell):
        return False
    if absent := missing():
        names = " and ".join(absent)
        _hint(shell, f"{names} not installed: {otherwise}", f"%pip install {' '.join(absent)}")
    return not absent


def _hint(shell: InteractiveShell, sentence: str, fix: str) -> None:
    blocks: Blocks = [Item("warn", "static", sentence, fix=fix)]
    Handle(shell, {"text/plain": text(blocks), "text/html": html(blocks)}, {})
