"""One input for every backend: PyTorch where it is live, ONNX Runtime, each variant; with times and differences.

What was run is kept, so that another output, sample, top-k or tolerance is looked at without running again.
"""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.engine.comparing import ATOL, RTOL, compare_outputs
from onnx_magic.engine.focusing import focused
from onnx_magic.engine.play_forms import form_of, random_arrays
from onnx_magic.engine.reference import reference_model, run_reference
from onnx_magic.engine.timing import Stopwatch
from onnx_magic.errors import FeedError, GraphFileError, OnnxMagicError, UsageError
from onnx_magic.events import stage
from onnx_magic.records.latency import Latency, Timing
from onnx_magic.records.playing import Played, PlayedAnswer, PlayForm, PlayView
from onnx_magic.records.results import Array, Comparison, RunResult
from onnx_magic.runtime.running import FeedPlan, build_feed, decode_outputs

if TYPE_CHECKING:
    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.exported import ExportedModel

PYTORCH, ONNX_RUNTIME = "PyTorch", "ONNX Runtime"

QUICK = 0.15
"""Seconds for one run of all backends up to which they are run again for their times: a person waits."""

_RELEASED = "PyTorch's side is missing: the model was released, or this folder was loaded without it"


@dataclass(frozen=True, eq=False)
class _Ran:
    """What one backend made of an input, not decoded yet; `error` where it made nothing."""

    name: str
    exported: ExportedModel
    plan: FeedPlan
    outputs: Mapping[str, Array] | None = None
    seconds: float = 0.0
    backend: str = "onnxruntime"
    provider: str = ""
    error: OnnxMagicError | None = None


class Player:
    """The backends of one exported model. What it is asked to run is run by all of them, one after the other.

    Args:
        exported: The exported model; its live source, while it is held, is PyTorch's side.
        provider: Execution provider of ONNX Runtime.
        variants: Variants to play beside it; all that the exported model has where there are none given.

    Example:
        >>> played = Player(exported).run("I loved it")  # doctest: +SKIP
        >>> [answer.name for answer in played.answers]  # doctest: +SKIP
        ['PyTorch', 'ONNX Runtime']
    """

    def __init__(
        self,
        exported: ExportedModel,
        *,
        provider: str | None = None,
        variants: Mapping[str, ExportedModel] | None = None,
    ) -> None:
        self.exported, self.provider = exported, provider
        self._given = dict(variants or {})
        self.name = exported.name
        self.form: PlayForm = form_of(exported)
        self._ran: tuple[_Ran, ...] = ()
        self._latency: Latency | None = None
        self._compared: dict[Any, Comparison] = {}
        self._watch: tuple[Any, Stopwatch] | None = None

    def arrays(self, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
        """An array for every input: see `random_arrays`."""
        return random_arrays(self.exported, given, sizes, seed)

    def sample_inputs(self) -> Any:
        """An input to begin with where the form cannot hold one: an image of noise."""
        return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def image(self, data: bytes) -> Any:
        """The image in a file's bytes.

        Raises:
            FeedError: no image that Pillow reads.
            UsageError: Pillow is not installed.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise UsageError("images need Pillow, which is not installed", fix="pip install pillow") from error
        try:
            with Image.open(io.BytesIO(data)) as opened:
                return opened.copy()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise FeedError("the file is no image that Pillow reads", fix="convert it to PNG or JPEG") from error

    def run(self, inputs: Any, view: PlayView | None = None) -> Played:
        """The answers of all backends; one that fails says so in its place, and the others answer.

        Args:
            inputs: What `exported.run` takes.
            view: What is looked at.

        Raises:
            FeedError: the inputs do not fit the graph.
            GraphFileError: the folder is gone.
            UsageError: a top-k below 1.
            OnnxMagicError: no backend answers; the first one's reason.
        """
        self.refuse_gone()
        plan = build_feed(self.exported.opened, inputs)
        ran = tuple(self._tried(name, exported, plan, run) for name, exported, run in self._backends(inputs, plan))
        if all(each.outputs is None for each in ran):
            raise next(each.error for each in ran if each.error is not None)
        latency = self._timed(ran, plan)
        before = self._ran, self._latency, self._compared
        self._ran, self._latency, self._compared = ran, latency, {}
        try:
            return self.look(view)
        except BaseException:
            self._ran, self._latency, self._compared = before
            raise

    def look(self, view: PlayView | None = None) -> Played:
        """The last run's answers, looked at in another way; nothing is run again.

        Raises:
            UsageError: a top-k below 1.
        """
        ran, seen = self._ran, view or PlayView()
        first = next((each for each in ran if each.outputs is not None), None)
        answers = tuple(self._answer(each, first, seen) for each in ran)
        plan = ran[0].plan
        notes = plan.notes if self.exported.live is not None else (*plan.notes, _RELEASED)
        return Played(self.name, answers, plan.arrays, notes, self._latency)

    def refuse_gone(self) -> None:
        """Make sure that the folder is there.

        Raises:
            GraphFileError: it is gone.
        """
        path = self.exported.model_path
        if not path.is_file():
            raise GraphFileError(
                f"{path} is gone: the folder was deleted or moved since this panel was made",
                fix="exported = %onnx_export model",
            )

    def _backends(self, inputs: Any, plan: FeedPlan) -> list[tuple[str, ExportedModel, Callable[[], Any]]]:
        """Name, whose folder decodes, and how it runs: a function that gives the fields of `_Ran`."""
        own = self.exported
        found: list[tuple[str, ExportedModel, Callable[[], Any]]] = []
        if own.live is not None:
            found.append((PYTORCH, own, lambda: self._run_pytorch(plan)))
        found.append((ONNX_RUNTIME, own, lambda: self._run_onnx(own, plan)))
        for name, variant in self._variants().items():
            found.append((name, variant, functools.partial(self._run_variant, variant, inputs)))
        return found

    def _variants(self) -> Mapping[str, ExportedModel]:
        """The variants beside this one, by name."""
        listed: Mapping[str, ExportedModel] = self._given or getattr(self.exported, "variants", None) or {}
        own = self.exported.model_path
        return {name: variant for name, variant in listed.items() if variant.model_path != own}

    def _run_pytorch(self, plan: FeedPlan) -> dict[str, Any]:
        flat = reference_model(self.exported.opened, self.exported.live)
        started = time.perf_counter()
        outputs = run_reference(flat, plan.arrays)
        seconds = time.perf_counter() - started
        return {"outputs": outputs, "seconds": seconds, "backend": "pytorch", "provider": str(flat.device)}

    def _run_onnx(self, exported: ExportedModel, plan: FeedPlan) -> dict[str, Any]:
        session = exported.opened.session(self.provider)
        started = time.perf_counter()
        outputs = session.run(plan.arrays)
        seconds = time.perf_counter() - started
        return {"outputs": outputs, "seconds": seconds, "provider": session.provider, "plan": plan}

    def _run_variant(self, variant: ExportedModel, inputs: Any) -> dict[str, Any]:
        return self._run_onnx(variant, build_feed(variant.opened, inputs))

    def _tried(self, name: str, exported: ExportedModel, plan: FeedPlan, run: Callable[[], Any]) -> _Ran:
        try:
            with stage(name):
                fields = run()
        except OnnxMagicError as error:
            return _Ran(name, exported, plan, error=error)
        except Exception as error:  # the live model is the user's own code, and may raise anything
            failure = OnnxMagicError(f"{name} raised {type(error).__name__}: {error}", fix="call the model in a cell")
            failure.__cause__ = error
            return _Ran(name, exported, plan, error=failure)
        return _Ran(**{"name": name, "exported": exported, "plan": plan, **fields})

    def _timed(self, ran: tuple[_Ran, ...], plan: FeedPlan) -> Latency:
        """Medians of a few runs where these are quick; else the time that each answer took."""
        answered = [each for each in ran if each.outputs is not None]
        shapes = {name: tuple(array.shape) for name, array in plan.arrays.items()}
        first = tuple(
            Timing(each.name, each.provider, None, each.seconds, each.seconds, each.seconds, 1) for each in answered
        )
        if sum(each.seconds for each in answered) > QUICK:
            return Latency(first, shapes, warm=False)
        try:
            with stage("times"):
                return self._stopwatch(answered).measure(plan.arrays)
        except OnnxMagicError:  # a variant with inputs of its own: it has answered, and is timed by that
            return Latency(first, shapes, warm=False)

    def _stopwatch(self, answered: list[_Ran]) -> Stopwatch:
        """A stopwatch for the backends that answered; the last one's, while they are the same files."""
        forms = {each.name: each.exported for each in answered if each.name != PYTORCH}
        flat: FlatModel | None = self.exported.live if any(each.name == PYTORCH for each in answered) else None
        files = tuple((name, form.model_path, form.model_path.stat().st_mtime_ns) for name, form in forms.items())
        key = (files, id(flat))
        if self._watch is None or self._watch[0] != key:
            others = {name: form for name, form in forms.items() if name != ONNX_RUNTIME}
            self._watch = key, Stopwatch(self.exported, flat, others, provider=self.provider)
        return self._watch[1]

    def _answer(self, ran: _Ran, first: _Ran | None, view: PlayView) -> PlayedAnswer:
        if ran.outputs is None or first is None or first.outputs is None:
            what, fix = (ran.error.what, ran.error.fix) if ran.error is not None else ("", "")
            return PlayedAnswer(ran.name, error=what, fix=fix)
        decoded = decode_outputs(ran.exported.opened, ran.outputs, ran.plan, view.top_k)
        result = RunResult(
            ran.outputs, decoded, ran.backend, ran.provider, ran.seconds, ran.plan.notes, ran.plan.arrays
        )
        if ran is first:
            return PlayedAnswer(ran.name, result)
        at, rt = self._tolerances(view)
        key = (ran.name, view.atol, view.rtol)
        if key not in self._compared:
            self._compared[key] = compare_outputs(
                ran.name, first.outputs, ran.outputs, ran.plan.arrays, task=self.exported.task, atol=at, rtol=rt
            )
        output = view.output if view.output in first.outputs else next(iter(first.outputs))
        focus = focused(output, first.outputs, ran.outputs, ran.plan.arrays, view.sample, at, rt)
        return PlayedAnswer(ran.name, result, self._compared[key], focus)

    def _tolerances(self, view: PlayView) -> tuple[dict[str, float], dict[str, float]]:
        """By dtype: those that were asked for, else those of the export."""
        known = self.exported.validation
        at, rt = {**ATOL, **known.atol}, {**RTOL, **known.rtol}
        return (
            at if view.atol is None else dict.fromkeys(at, view.atol),
            rt if view.rtol is None else dict.fromkeys(rt, view.rtol),
        )
