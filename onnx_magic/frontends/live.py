"""Magics that answer with something live: axes table and panel. Where it cannot live, the static form and one hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from onnx_magic.display.blocks import Blocks, Item
from onnx_magic.display.html import html
from onnx_magic.display.text import text
from onnx_magic.frontends.arguments import VERBS
from onnx_magic.frontends.fixing import Typed
from onnx_magic.frontends.showing import Handle, is_notebook
from onnx_magic.options import Axes

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def axes_table(shell: InteractiveShell, values: dict[str, Any], typed: Typed) -> Any:
    """`%onnx_axes`: the plan as a table to edit; in a terminal, or without the widgets' packages, the plan.

    Args:
        shell: Where it is shown.
        values: The options of `plan` and `export`.
        typed: The magic's line.
    """
    from onnx_magic.widgets.axes_draft import AxesDraft
    from onnx_magic.widgets.axes_table import AxesTable, missing

    def called(verb: str, dynamic: Axes | None) -> Any:
        row = VERBS[verb]
        mine = {field.name for field in row.arguments.fields}
        given = {name: value for name, value in values.items() if name in mine}
        return row.function(**{**given, "dynamic": dynamic})

    wish = values.get("dynamic")
    base = called("plan", None)
    plan = base if wish is None else called("plan", wish)
    if not _lives(shell, "the table cannot be edited here", missing):
        return plan
    return AxesTable(
        AxesDraft(base, plan, lambda dynamic: called("plan", dynamic)),
        export=lambda dynamic: called("export", dynamic),
        line=lambda dynamic: export_line(typed, dynamic),
    )


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
    spelled = "auto" if dynamic is None else str(dynamic) if dynamic else "no"
    return export.corrected("dynamic", spelled) or export.prefix


def playground(shell: InteractiveShell, values: dict[str, Any]) -> Any:
    """`%onnx_play`: a panel that answers; in a terminal, or without the widgets' packages, the answers to one input.

    Args:
        shell: Where it is shown, and whose namespace arrays are written in.
        values: The options of `run`, and `inputs`, `atol`, `rtol`, `variants` where they were given.

    Raises:
        FeedError: the model does not take `inputs`.
        GraphFileError: the folder is gone.
        UsageError: there is no variant of that name, or a top-k below 1.
    """
    from onnx_magic.engine.playing import Player
    from onnx_magic.exported import as_exported
    from onnx_magic.frontends.variants import named_variants
    from onnx_magic.widgets.play_draft import PlayDraft
    from onnx_magic.widgets.playground import Playground, missing

    exported = as_exported(values["exported"])
    variants = named_variants(exported, values.get("variants", ()))
    player = Player(exported, provider=values.get("provider"), variants=variants)
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
