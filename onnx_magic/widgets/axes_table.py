"""The dynamic-axes table, live: a cell per axis that can be edited, "Export again", and the new verdict below it.

What is decided and how is in axes_draft.py; here it is tied to a view in the browser (assets/axes_table.js).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnx_magic.display.bundles import bundle
from onnx_magic.display.failures import error_text
from onnx_magic.events import Event, StageStarted, listening
from onnx_magic.option_values import Axes
from onnx_magic.records.plan import ExportPlan
from onnx_magic.widgets.axes_draft import AxesDraft

_ASSETS = Path(__file__).parent / "assets"
_NEEDED = ("ipywidgets", "anywidget")
VIEW = "application/vnd.jupyter.widget-view+json"
"""The mime type that shows a live view: never in a record's bundle."""


def missing() -> tuple[str, ...]:
    """The packages that a live table needs and this environment does not have."""
    return tuple(name for name in _NEEDED if not _found(name))


def script(name: str) -> str:
    """A view's script, with what all of them need before it."""
    return "\n".join((_ASSETS / part).read_text(encoding="utf-8") for part in ("reopened.js", name))


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # sys.modules holds None, or a module without a spec
        return False


class AxesTable:
    """A plan's axes, edited in the notebook.

    Args:
        draft: The plan, and how it is made again.
        export: Exports with another `dynamic=`; called by "Export again".
        line: The magic's line that exports with that `dynamic=`.

    Example:
        >>> table = %onnx_axes model task=ner  # doctest: +SKIP
        >>> table.plan.dynamic  # doctest: +SKIP
        {'input_ids': {0: 'batch_size', 1: 'tokens'}, 'attention_mask': {0: 'batch_size', 1: 'tokens'}}
    """

    def __init__(
        self, draft: AxesDraft, *, export: Callable[[Axes | None], Any], line: Callable[[Axes | None], str]
    ) -> None:
        self.draft, self._export, self._line = draft, export, line
        self.exported: Any = None
        """What "Export again" gave last; None before."""
        self._static: list[Any] = []
        self.widget = _view_class()()
        """The view: an ipywidget, to be put into a layout of your own."""
        self._refresh()
        self.widget.observe(self._on_edit, "edit")
        self.widget.observe(self._on_ask, "asked")

    @property
    def plan(self) -> ExportPlan:
        """The plan as edited."""
        return self.draft.plan

    @property
    def dynamic(self) -> Axes | None:
        """The option `dynamic=` that gives this plan; None for every axis that can move."""
        return self.draft.dynamic

    @property
    def line(self) -> str:
        """The magic's line that exports the same."""
        return self._line(self.dynamic)

    def edit(self, tensor: str, axis: int, text: str) -> None:
        """Put `text` in a cell, as the view does; what cannot be is explained at the cell.

        Raises:
            KeyError: there is no such cell.
        """
        self.widget.busy = "planning"
        before = self.plan
        try:
            self.draft.edit(tensor, axis, text)
            if self.plan is not before:  # what a notebook keeps is the plan as edited
                for handle in filter(None, self._static):
                    handle.update(bundle(self.plan), raw=True)
        finally:
            self._refresh()
            self.widget.busy = ""

    def export_again(self) -> Any:
        """Export with the edited plan: the verdict appears below the table; returned, and kept as `exported`.

        Raises:
            OnnxMagicError: the export's own errors.
        """
        self.widget.busy = "exporting"
        try:
            with listening(self._hear):
                self.exported = self._export(self.dynamic)
            self.widget.set_trait("verdict", bundle(self.exported)["text/html"])
        finally:
            self._refresh()
            self.widget.busy = ""
        return self.exported

    def __repr__(self) -> str:
        """The same on every run, whatever was edited."""
        return f"AxesTable({self.plan.name})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The view, and the static form for whoever cannot show it."""
        return {**self._view(), **bundle(self.plan)}

    def _ipython_display_(self) -> None:
        """The static form, and the view below it: a notebook that is opened without its kernel has the first."""
        from IPython.display import display

        self._static.append(display(bundle(self.plan), raw=True, display_id=True))
        display({**self._view(), "text/plain": f"{self!r}: run the cell to edit it here"}, raw=True)

    def _view(self) -> dict[str, Any]:
        made = self.widget._repr_mimebundle_()
        data = made[0] if isinstance(made, tuple) else made
        return {VIEW: data[VIEW]}

    def _refresh(self) -> None:
        """Send the view what is so now."""
        with self.widget.hold_sync():
            self.widget.rows = self.draft.rows()
            self.widget.line = self.line if self.draft.edited or self.exported is not None else ""

    def _hear(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.widget.busy = f"exporting: {event.name}"

    def _on_edit(self, change: Any) -> None:
        asked = change["new"]
        self._do("the edit", lambda: self.edit(str(asked["tensor"]), int(asked["axis"]), str(asked["text"])))
        self._do("the edit", lambda: self.widget.set_trait("done", asked["number"]), anew=False)

    def _on_ask(self, _: Any) -> None:
        if self.draft.wrong:
            self.widget.error = "Nothing was exported: correct the marked cells first."
            return
        self.widget.verdict = ""
        self._do("the export", self.export_again)

    def _do(self, what: str, work: Callable[[], Any], *, anew: bool = True) -> None:
        """Do what the view asked for. What it raises is shown in the view: a front end has nobody else to tell."""
        self.widget.error = "" if anew else self.widget.error
        try:
            work()
        except KeyboardInterrupt:
            self.widget.error = f"Interrupted: {what} was not done."
        except Exception as error:  # anything: planning and exporting run the user's model
            self.widget.error = error_text(error)


@functools.cache
def _view_class() -> Any:
    """The widget's class, made when a table is first asked for: its base takes long to import."""
    import anywidget
    import traitlets

    class AxesTableView(anywidget.AnyWidget):
        """What the browser sees; it sends `edit` and counts `asked` up."""

        _esm = script("axes_table.js")
        _css = _ASSETS / "axes_table.css"
        rows: Any = traitlets.List().tag(sync=True)
        line = traitlets.Unicode("").tag(sync=True)
        busy = traitlets.Unicode("").tag(sync=True)
        error = traitlets.Unicode("").tag(sync=True)
        verdict = traitlets.Unicode("").tag(sync=True)
        done = traitlets.Int(0).tag(sync=True)
        edit = traitlets.Dict().tag(sync=True)
        asked = traitlets.Int(0).tag(sync=True)

    return AxesTableView
