"""The live panel: type an input, and see PyTorch, ONNX Runtime and every variant answer side by side.

What is asked and answered is in play_draft.py; here it is tied to a view in the browser (assets/playground.js).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_magic.display.bundles import bundle
from onnx_magic.display.growing import GENERATE
from onnx_magic.display.html import html
from onnx_magic.display.playing import panel_blocks
from onnx_magic.display.values import brief
from onnx_magic.display.wording import shown, tolerance
from onnx_magic.errors import UsageError
from onnx_magic.events import Event, StageStarted, Token, listening
from onnx_magic.records.playing import Played, PlayView
from onnx_magic.records.results import RunResult, SideBySide
from onnx_magic.widgets.axes_table import VIEW, missing, script
from onnx_magic.widgets.play_draft import PlayDraft

__all__ = ["VIEW", "Playground", "missing"]

_ASSETS = Path(__file__).parent / "assets"

_QUICK = 1.0
"""Seconds that a run may take for the next one to begin by itself while a person types."""

_PIECES = 0.05
"""Seconds between two looks at a text that grows."""

_NAME_LIMIT = 48


class Playground:
    """A panel that answers while you type.

    Args:
        draft: What is asked, and who answers.

    Example:
        >>> panel = %onnx_play exported  # doctest: +SKIP
        >>> panel.inputs = "I loved it"  # doctest: +SKIP
        >>> panel.result.actual.decoded  # doctest: +SKIP
        [{'label': 'POSITIVE', 'score': 0.98}]
    """

    def __init__(self, draft: PlayDraft) -> None:
        self.draft = draft
        self._static: list[Any] = []
        self._kept: dict[str, str] = {}
        self._took, self._stale = 0.0, False
        self._pieces: dict[int, str] = {}
        self._sent = 0.0
        form = draft.backends.form
        fields = [{**dataclasses.asdict(field), "label": shown(field.label, 80)} for field in form.fields]
        self.widget = _view_class()(
            form={"kind": form.kind, "fields": fields, "streams": form.streams}, name=shown(draft.backends.name)
        )
        """The view: an ipywidget, to be put into a layout of your own."""
        self._refresh()
        self.widget.on_msg(self._on_message)

    @property
    def played(self) -> Played | None:
        """The last input's answers, of all backends; None before the first run."""
        return self.draft.played

    @property
    def result(self) -> SideBySide | RunResult | None:
        """PyTorch's answer beside ONNX Runtime's; ONNX Runtime's alone where PyTorch's side is missing."""
        return self.played.result if self.played is not None else None

    @property
    def results(self) -> Mapping[str, RunResult]:
        """Every backend's answer by its name: `PyTorch`, `ONNX Runtime`, the variants."""
        answers = self.played.answers if self.played is not None else ()
        return {answer.name: answer.result for answer in answers if answer.result is not None}

    @property
    def inputs(self) -> Any:
        """What was run last; set it to run something else: whatever `exported.run` takes."""
        return self.draft.inputs

    @inputs.setter
    def inputs(self, inputs: Any) -> None:
        self._work(lambda: self.draft.run_inputs(inputs))

    @property
    def output(self) -> str:
        """The output whose values and differences are shown."""
        return self.draft.view.output

    @output.setter
    def output(self, name: str) -> None:
        self._work(lambda: self.draft.choose("output", name))

    @property
    def sample(self) -> int:
        """The sample whose answers are shown, counted from 0."""
        return self.draft.view.sample

    @sample.setter
    def sample(self, number: int) -> None:
        self._work(lambda: self.draft.choose("sample", number))

    @property
    def top_k(self) -> int | None:
        """How many answers per sample; None for the task's own number."""
        return self.draft.view.top_k

    @top_k.setter
    def top_k(self, count: int | None) -> None:
        self._work(lambda: self.draft.choose("top_k", count))

    @property
    def atol(self) -> float | None:
        """Absolute tolerance of the comparison; None for the export's."""
        return self.draft.view.atol

    @atol.setter
    def atol(self, value: float | None) -> None:
        self._work(lambda: self.draft.choose("atol", value))

    @property
    def rtol(self) -> float | None:
        """Relative tolerance of the comparison; None for the export's."""
        return self.draft.view.rtol

    @rtol.setter
    def rtol(self, value: float | None) -> None:
        self._work(lambda: self.draft.choose("rtol", value))

    def run(self, **filled: str) -> Played:
        """Run the form, some of its fields filled in anew; what the view's Run button does.

        Raises:
            OnnxMagicError: what was filled in cannot be run.
        """
        self._work(lambda: self.draft.run_filled(filled))
        assert self.played is not None, "a run that did not raise has answers"
        return self.played

    def __repr__(self) -> str:
        """The same on every run, whatever was asked."""
        return f"Playground({self.draft.backends.name})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The view, and the static form for whoever cannot show it."""
        return {**self._view(), **self._bundle()}

    def _ipython_display_(self) -> None:
        """The static form, and the view below it: a notebook that is opened without its kernel has the first."""
        from IPython.display import display

        self._kept = self._bundle()
        self._static.append(display(self._kept, raw=True, display_id=True))
        display({**self._view(), "text/plain": repr(self)}, raw=True)

    def _view(self) -> dict[str, Any]:
        made = self.widget._repr_mimebundle_()
        data = made[0] if isinstance(made, tuple) else made
        return {VIEW: data[VIEW]}

    def _bundle(self) -> dict[str, str]:
        """The last answers; marked, so that the live view stands in their place while it lives."""
        if self.played is None:
            problem = self.draft.problem
            told = problem.what if problem is not None else "nothing was run yet"
            kept = bundle(UsageError(told, fix=problem.fix if problem is not None else "panel.run()"))
        else:
            kept = bundle(self.played)
        return {**kept, "text/html": f'<div data-onnx-magic="play">{kept["text/html"]}</div>'}

    def _work(self, work: Callable[[], None]) -> None:
        """Do what Python asked for: the view follows, and errors are raised."""
        self._do(work)
        self._stale = False
        self._refresh()

    def _do(self, work: Callable[[], None]) -> None:
        self.draft.problem = None
        self.widget.busy = "running"
        try:
            with listening(self._hear):
                work()
        finally:
            self.widget.busy = ""
            self._pieces, self.widget.stream = {}, ""

    def _refresh(self) -> None:
        """Send the view what is so now, and what a saved notebook keeps to its place."""
        draft, view = self.draft, self.widget
        with view.hold_sync():
            view.values = dict(draft.filled)
            view.by_code = f"panel.inputs is {brief(draft.inputs, 80)}" if draft.by_code else ""
            view.problem = dataclasses.asdict(draft.problem) if draft.problem is not None else {}
            view.stale = self._stale and draft.played is not None
            view.quick = self._took < _QUICK and not draft.backends.form.streams
            view.look = _typed(draft.view)
            if draft.played is not None:
                named = [{"value": name, "label": shown(name, _NAME_LIMIT)} for name in draft.played.outputs]
                view.choices = {"outputs": named, "samples": draft.played.samples}
                parts = panel_blocks(draft.played, draft.view)
                view.parts = {name: html(blocks) if blocks else "" for name, blocks in parts.items()}
        self._keep()

    def _keep(self) -> None:
        """Put the last answers where a notebook keeps them."""
        kept = self._bundle() if self._static else self._kept
        if kept != self._kept:
            self._kept = kept
            for handle in filter(None, self._static):
                handle.update(kept, raw=True)

    def _hear(self, event: Event) -> None:
        """Show which backend is running, and the text that it writes so far."""
        if isinstance(event, StageStarted) and event.name != GENERATE:
            self._pieces = {}
            self.widget.busy = f"running {event.name}"
        elif isinstance(event, Token):
            self._pieces[event.row] = self._pieces.get(event.row, "") + event.text
            if time.monotonic() - self._sent > _PIECES:
                self._sent = time.monotonic()
                self.widget.stream = "\n".join(text for _, text in sorted(self._pieces.items()))

    def _on_message(self, _: Any, content: Any, buffers: Sequence[Any]) -> None:
        """Do what the view asked for. What goes wrong is shown there: a front end has nobody else to tell."""
        started = time.perf_counter()
        runs = content.get("type") == "run"
        fine = self.draft.attempt(lambda: self._do(lambda: self._asked(content, buffers)))
        if runs:
            self._stale = not fine
            self._took = time.perf_counter() - started
        self._refresh()
        self.widget.send({"type": "done", "number": content.get("number")})

    def _asked(self, content: Any, buffers: Sequence[Any]) -> None:
        if content.get("type") == "look":
            self.draft.choose(str(content["name"]), content["value"])
            return
        filled = {str(name): str(text) for name, text in content["values"].items()}
        self.draft.run_filled(filled, bytes(buffers[0]) if buffers else None)


def _typed(view: PlayView) -> dict[str, str]:
    """What is looked at, as it is typed; empty where nothing was asked for."""
    numbers = {"atol": view.atol, "rtol": view.rtol}
    tolerances = {name: "" if value is None else tolerance(value) for name, value in numbers.items()}
    top_k = "" if view.top_k is None else str(view.top_k)
    return {"output": view.output, "sample": str(view.sample), "top_k": top_k, **tolerances}


@functools.cache
def _view_class() -> Any:
    """The widget's class, made when a panel is first asked for: its base takes long to import."""
    import anywidget
    import traitlets

    class PlaygroundView(anywidget.AnyWidget):
        """What the browser sees; it sends `{"type": "run" | "look", "number": n, ...}` and is told when it is done."""

        _esm = script("playground.js")
        _css = _ASSETS / "playground.css"
        name = traitlets.Unicode("").tag(sync=True)
        form: Any = traitlets.Dict().tag(sync=True)
        values: Any = traitlets.Dict().tag(sync=True)
        by_code = traitlets.Unicode("").tag(sync=True)
        look: Any = traitlets.Dict().tag(sync=True)
        choices: Any = traitlets.Dict().tag(sync=True)
        parts: Any = traitlets.Dict().tag(sync=True)
        problem: Any = traitlets.Dict().tag(sync=True)
        stale = traitlets.Bool(False).tag(sync=True)
        quick = traitlets.Bool(True).tag(sync=True)
        busy = traitlets.Unicode("").tag(sync=True)
        stream = traitlets.Unicode("").tag(sync=True)

    return PlaygroundView
