"""One input for every backend: PyTorch where it is live, ONNX Runtime, each variant; with times and differences.

What was run is kept, so that another output, sample, top-k or tolerance is looked at without running again.
"""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import ATOL, RTOL, compare_outputs
from onnx_magic.engine.focusing import focused
from onnx_magic.engine.generation.asking import generates
from onnx_magic.engine.nearness import compare_near, rule_of
from onnx_magic.engine.play_forms import form_of, random_arrays
from onnx_magic.engine.play_texts import live_model, text_by_onnx, text_by_pytorch, text_plan
from onnx_magic.engine.reference import reference_model, run_reference
from onnx_magic.engine.timing import Stopwatch
from onnx_magic.errors import FeedError, GraphFileError, OnnxMagicError, UsageError
from onnx_magic.events import stage
from onnx_magic.records.latency import BackendTime, Latency
from onnx_magic.records.playing import Played, PlayedAnswer, PlayForm, PlayView
from onnx_magic.records.results import Array, Comparison, RunResult
from onnx_magic.runtime.running import FeedPlan, build_feed, decode_outputs
from onnx_magic.runtime.sounds import read_sound

if TYPE_CHECKING:
    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.exported import ExportedModel

PYTORCH, ONNX_RUNTIME = "PyTorch", "ONNX Runtime"

QUICK = 0.15
"""Seconds for one run of all backends up to which they are run again for their times: a person waits."""

_RELEASED = "PyTorch's side is missing: the model was released, or this folder was loaded without it"


@dataclass(frozen=True, eq=False)
class _Ran:
    """What one backend made of an input, not decoded yet; `error` where it made nothing, `text` where it generated."""

    name: str
    exported: ExportedModel
    plan: FeedPlan
    outputs: Mapping[str, Array] | None = None
    seconds: float = 0.0
    backend: str = "onnxruntime"
    provider: str = ""
    error: OnnxMagicError | None = None
    text: RunResult | None = None


_Backends: TypeAlias = list[tuple[str, "ExportedModel", Callable[[], Any]]]


class Player:
    """The backends of one exported model. What it is asked to run is run by all of them, one after the other.

    Args:
        exported: The exported model; its live source, while it is held, is PyTorch's side.
        provider: Execution provider of ONNX Runtime.
        variants: Variants to play beside it; all that the exported model has where there are none given.
        asked: Generation options of `run`, for all runs that do not say otherwise.
        full_text: Whether a generated text begins with its prompt.

    Raises:
        UsageError: generation options for a model that does not generate.

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
        asked: Mapping[str, Any] | None = None,
        full_text: bool = True,
    ) -> None:
        self.exported, self.provider = exported, provider
        self._asked, self._full_text = dict(asked or {}), full_text
        generates(exported.opened, {}, self._asked)  # refuses options that mean nothing here
        self._given = dict(variants or {})
        self.name = exported.name
        self.form: PlayForm = form_of(exported, self._asked)
        self._ran: tuple[_Ran, ...] = ()
        self._latency: Latency | None = None
        self._compared: dict[Any, Comparison] = {}
        self._watch: tuple[Any, Stopwatch] | None = None

    def arrays(self, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
        """An array for every input: see `random_arrays`."""
        return random_arrays(self.exported, given, sizes, seed)

    def sample_inputs(self) -> Any:
        """An input to begin with where the form cannot hold one: an image of noise, or a second of it."""
        random, heard = np.random.default_rng(0), self.exported.opened.audio_processor
        if self.form.kind == "sound" and heard is not None:
            return {"array": random.normal(0, 0.1, heard.rate).astype(np.float32), "sampling_rate": heard.rate}
        return random.integers(0, 256, (64, 64, 3), np.uint8)

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

    def sound(self, data: bytes) -> Any:
        """The sound in a file's bytes.

        Raises:
            FeedError: no sound that can be read here.
        """
        read = read_sound(data)
        return {"array": read.samples, "sampling_rate": read.rate}

    def run(self, inputs: Any, view: PlayView | None = None, options: Mapping[str, Any] | None = None) -> Played:
        """The answers of all backends; one that fails says so in its place, and the others answer.

        Args:
            inputs: What `exported.run` takes.
            view: What is looked at; its top-k is how many tokens a generated text is drawn from.
            options: Generation options, in place of those that were given first.

        Raises:
            FeedError: the inputs do not fit the graph.
            GraphFileError: the folder is gone.
            UsageError: a top-k below 1, or an option that cannot be meant.
            OnnxMagicError: no backend answers; the first one's reason.
        """
        self.refuse_gone()
        plan, backends = self._backends(inputs, view, {**self._asked, **(options or {})})
        ran = tuple(self._tried(name, exported, plan, run) for name, exported, run in backends)
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

    def _backends(self, inputs: Any, view: PlayView | None, asked: Mapping[str, Any]) -> tuple[FeedPlan, _Backends]:
        """What is fed; each backend's name, whose folder decodes, and what gives the fields of its `_Ran`."""
        own = self.exported
        if generates(own.opened, inputs, asked):
            plan, asked = text_plan(own.opened, inputs, {**asked, "top_k": view.top_k if view else None})
            run_pytorch = functools.partial(self._write_pytorch, inputs, asked)
            run_onnx, run_variant = (functools.partial(self._write_onnx, inputs, asked),) * 2
        else:
            plan = build_feed(own.opened, inputs)
            run_pytorch = functools.partial(self._run_pytorch, plan)
            run_onnx = functools.partial(self._run_onnx, plan)
            run_variant = functools.partial(self._run_variant, inputs)
        found: _Backends = [(PYTORCH, own, run_pytorch)] if own.live is not None else []
        found.append((ONNX_RUNTIME, own, functools.partial(run_onnx, own)))
        found += [(name, each, functools.partial(run_variant, each)) for name, each in self._variants().items()]
        return plan, found

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

    def _run_onnx(self, plan: FeedPlan, exported: ExportedModel) -> dict[str, Any]:
        session = exported.opened.session(self.provider)
        started = time.perf_counter()
        outputs = session.run(plan.arrays)
        seconds = time.perf_counter() - started
        return {"outputs": outputs, "seconds": seconds, "provider": session.provider, "plan": plan}

    def _run_variant(self, inputs: Any, variant: ExportedModel) -> dict[str, Any]:
        return self._run_onnx(build_feed(variant.opened, inputs), variant)

    def _write_pytorch(self, inputs: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
        return _written(text_by_pytorch(self.exported, inputs, asked, self._full_text))

    def _write_onnx(self, inputs: Any, asked: Mapping[str, Any], exported: ExportedModel) -> dict[str, Any]:
        live = live_model(self.exported)
        return _written(text_by_onnx(exported, inputs, asked, self._full_text, self.provider, live))

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
        """Medians of a few runs where these are quick; else, and for texts, the time that each answer took."""
        answered = [each for each in ran if each.outputs is not None]
        shapes = {name: tuple(array.shape) for name, array in plan.arrays.items()}
        first = tuple(map(_timing, answered))
        if any(each.text is not None for each in answered) or sum(each.seconds for each in answered) > QUICK:
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
        result = ran.text or _decoded(ran, ran.outputs, view.top_k)
        if ran is first:
            return PlayedAnswer(ran.name, result)
        at, rt = self._tolerances(view)
        key = (ran.name, view.atol, view.rtol)
        if key not in self._compared:
            rule = rule_of(ran.exported.made) if view.atol is None and view.rtol is None else None
            sides, task = (ran.name, first.outputs, ran.outputs, ran.plan.arrays), self.exported.task
            self._compared[key] = (
                compare_near(*sides, rule, task=task)
                if rule is not None and ran.text is None
                else compare_outputs(*sides, task=task, atol=at, rtol=rt)
            )
        output = view.output if view.output in first.outputs else next(iter(first.outputs))
        known = next((diff for diff in self._compared[key].diffs if diff.name == output), None)
        if known is not None:  # a smaller variant is looked at by the tolerance that it was judged by
            at, rt = {**at, known.expected_dtype: known.atol}, {**rt, known.expected_dtype: known.rtol}
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


def _decoded(ran: _Ran, outputs: Mapping[str, Array], top_k: int | None) -> RunResult:
    decoded = decode_outputs(ran.exported.opened, outputs, ran.plan, top_k)
    return RunResult(outputs, decoded, ran.backend, ran.provider, ran.seconds, ran.plan.notes, ran.plan.arrays)


def _timing(ran: _Ran) -> BackendTime:
    """One run's time, and how many tokens it gave."""
    tokens = ran.text.tokens if ran.text is not None else 0
    return BackendTime(ran.name, ran.provider, None, ran.seconds, ran.seconds, ran.seconds, 1, tokens)


def _written(text: RunResult) -> dict[str, Any]:
    """The fields of `_Ran` for a text that was generated."""
    told = {"seconds": text.seconds, "backend": text.backend, "provider": text.provider}
    return {"outputs": text.outputs, "text": text, **told}
