"""One input for every backend: PyTorch where it is live, ONNX Runtime, each variant; with times and differences.

What was run is kept, so that another top-k or tolerance is looked at without running again.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.comparing import ATOL, RTOL, compare_outputs
from onnx_magic.engine.play_forms import form_of, random_arrays
from onnx_magic.engine.reference import reference_model
from onnx_magic.engine.state import comparable_attention, preserved
from onnx_magic.engine.tensors import to_arrays, to_tensors
from onnx_magic.engine.timing import timed
from onnx_magic.errors import FeedError, GraphFileError, OnnxMagicError, UsageError
from onnx_magic.events import stage
from onnx_magic.records.playing import Played, PlayedAnswer, PlayForm, Timing
from onnx_magic.records.results import Array, Comparison, RunResult
from onnx_magic.runtime.running import FeedPlan, build_feed, decode_outputs

if TYPE_CHECKING:
    from onnx_magic.exported import ExportedModel

PYTORCH, ONNX_RUNTIME = "PyTorch", "ONNX Runtime"

_RELEASED = "PyTorch's side is missing: the model was released, or this folder was loaded without it"


@dataclass(frozen=True, eq=False)
class _Ran:
    """What one backend made of an input, not decoded yet; `error` where it made nothing."""

    name: str
    exported: ExportedModel
    plan: FeedPlan
    outputs: Mapping[str, Array] | None = None
    timing: Timing | None = None
    backend: str = "onnxruntime"
    provider: str = ""
    error: OnnxMagicError | None = None


class Player:
    """The backends of one exported model. What it is asked to run is run by all of them, one after the other.

    Args:
        exported: The exported model; its live source, while it is held, is PyTorch's side.
        provider: Execution provider of ONNX Runtime.

    Example:
        >>> played = Player(exported).run("I loved it")  # doctest: +SKIP
        >>> [answer.name for answer in played.answers]  # doctest: +SKIP
        ['PyTorch', 'ONNX Runtime']
    """

    def __init__(self, exported: ExportedModel, *, provider: str | None = None) -> None:
        self.exported, self.provider = exported, provider
        self.name = exported.name
        self.form: PlayForm = form_of(exported)
        self._ran: tuple[_Ran, ...] = ()

    def arrays(self, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
        """An array for every input: see `random_arrays`."""
        return random_arrays(self.exported, given, sizes, seed)

    def sample_inputs(self) -> Any:
        """An input to begin with where the form cannot hold one: an image of noise."""
        import numpy as np

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

    def run(
        self, inputs: Any, *, top_k: int | None = None, atol: float | None = None, rtol: float | None = None
    ) -> Played:
        """The answers of all backends; one that fails says so in its place, and the others answer.

        Args:
            inputs: What `exported.run` takes.
            top_k: How many answers per sample.
            atol: Absolute tolerance of the comparison; by default that of the export.
            rtol: Relative tolerance.

        Raises:
            FeedError: the inputs do not fit the graph.
            GraphFileError: the folder is gone.
            OnnxMagicError: no backend answers; the first one's reason.
        """
        self.refuse_gone()
        plan = build_feed(self.exported.opened, inputs)
        ran = tuple(self._tried(name, exported, plan, run) for name, exported, run in self._backends(inputs, plan))
        if all(each.outputs is None for each in ran):
            raise next(each.error for each in ran if each.error is not None)
        before, self._ran = self._ran, ran
        try:
            return self.look(top_k=top_k, atol=atol, rtol=rtol)
        except BaseException:
            self._ran = before
            raise

    def look(self, *, top_k: int | None = None, atol: float | None = None, rtol: float | None = None) -> Played:
        """The last run's answers at another top-k or tolerance; nothing is run again.

        Raises:
            UsageError: `top_k` below 1.
        """
        ran = self._ran
        first = next((each for each in ran if each.outputs is not None), None)
        answers = tuple(self._answer(each, first, top_k, atol, rtol) for each in ran)
        plan = ran[0].plan
        notes = plan.notes if self.exported.live is not None else (*plan.notes, _RELEASED)
        return Played(self.name, answers, plan.arrays, notes)

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
        listed: Mapping[str, ExportedModel] = getattr(self.exported, "variants", None) or {}
        own = self.exported.model_path
        return {name: variant for name, variant in listed.items() if variant.model_path != own}

    def _run_pytorch(self, plan: FeedPlan) -> dict[str, Any]:
        flat = reference_model(self.exported.opened, self.exported.live)
        tensors = to_tensors(plan.arrays)
        import torch

        with preserved(flat.model), comparable_attention():
            outputs, timing = timed(lambda: flat.run(tensors), threads=torch.get_num_threads())
        return {
            "outputs": to_arrays(outputs),
            "timing": timing,
            "backend": "pytorch",
            "provider": str(flat.device),
        }

    def _run_onnx(self, exported: ExportedModel, plan: FeedPlan) -> dict[str, Any]:
        session = exported.opened.session(self.provider)
        outputs, timing = timed(lambda: session.run(plan.arrays), threads=session.threads)
        return {"outputs": outputs, "timing": timing, "provider": session.provider, "plan": plan}

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

    def _answer(
        self, ran: _Ran, first: _Ran | None, top_k: int | None, atol: float | None, rtol: float | None
    ) -> PlayedAnswer:
        if ran.outputs is None or first is None or first.outputs is None:
            what, fix = (ran.error.what, ran.error.fix) if ran.error is not None else ("", "")
            return PlayedAnswer(ran.name, error=what, fix=fix)
        decoded = decode_outputs(ran.exported.opened, ran.outputs, ran.plan, top_k)
        result = RunResult(
            ran.outputs,
            decoded,
            ran.backend,
            ran.provider,
            ran.timing.seconds if ran.timing else 0.0,
            ran.plan.notes,
            ran.plan.arrays,
        )
        compared = None if ran is first else self._compared(ran, first.outputs, ran.outputs, atol, rtol)
        return PlayedAnswer(ran.name, result, ran.timing, compared)

    def _compared(
        self,
        ran: _Ran,
        expected: Mapping[str, Array],
        actual: Mapping[str, Array],
        atol: float | None,
        rtol: float | None,
    ) -> Comparison:
        """With the tolerances that were asked for, else those of the export."""
        known = self.exported.validation
        at, rt = {**ATOL, **known.atol}, {**RTOL, **known.rtol}
        at = at if atol is None else dict.fromkeys(at, atol)
        rt = rt if rtol is None else dict.fromkeys(rt, rtol)
        return compare_outputs(ran.name, expected, actual, ran.plan.arrays, task=self.exported.task, atol=at, rtol=rt)
