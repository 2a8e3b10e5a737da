"""Backends that answer at once, for panels: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx_magic.errors import FeedError, UsageError
from onnx_magic.events import Token, emit, stage
from onnx_magic.records.latency import BackendTime, Latency
from onnx_magic.records.playing import Played, PlayedAnswer, PlayField, PlayForm, PlayView
from onnx_magic.records.results import Comparison, OutputDiff, RunResult

FORMS = {
    "texts": PlayForm(
        "texts", (PlayField("text", "text", "lines", "one\ntwo"), PlayField("second", "second", "lines"))
    ),
    "generated": PlayForm(
        "texts",
        (
            PlayField("text", "text", "lines", "Once"),
            PlayField("max_new_tokens", "max_new_tokens", "option", "8"),
            PlayField("temperature", "temperature", "option"),
            PlayField("seed", "seed", "option"),
        ),
        streams=True,
    ),
    "question": PlayForm("question", (PlayField("question", "q", "line", "Who?"), PlayField("context", "c", "lines"))),
    "choices": PlayForm(
        "choices", (PlayField("prompt", "p", "line", "It"), PlayField("choices", "c", "lines", "a\nb"))
    ),
    "image": PlayForm("image", (PlayField("image", "image", "image"),)),
    "sound": PlayForm("sound", (PlayField("sound", "sound", "sound"),)),
    "arrays": PlayForm(
        "arrays",
        (
            PlayField("array:x", "x: float32[n, 3]", "expression"),
            PlayField("size:n", "n", "size", "2"),
            PlayField("seed", "seed", "size", "0"),
        ),
    ),
}


class FakeBackends:
    """Two backends; `ran` holds what they were asked, `fail` is raised when it is set."""

    name = "<b>mini</b>"

    def __init__(self, kind: str = "texts") -> None:
        self.form = FORMS[kind]
        self.ran: list[Any] = []
        self.options: dict[str, Any] = {}
        self.looked: list[PlayView] = []
        self.fail: BaseException | None = None
        self.labels = ("GOOD", "<img src=x onerror=alert(1)>")

    def arrays(self, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
        return {"given": dict(given), "sizes": dict(sizes), "seed": seed}

    def image(self, data: bytes) -> Any:
        if data == b"broken":
            raise FeedError("the file is no image", fix="convert it to PNG")
        return ("image", data)

    def sound(self, data: bytes) -> Any:
        return ("sound", data)

    def sample_inputs(self) -> Any:
        return "noise"

    def run(self, inputs: Any, view: PlayView | None = None, options: Mapping[str, Any] | None = None) -> Played:
        if self.fail is not None:
            raise self.fail
        self.ran.append(inputs)
        self.options = dict(options or {})
        for name in ("PyTorch", "ONNX Runtime"):
            with stage(name):
                emit(Token(f"{name} says "))
                emit(Token("so"))
        return self.look(view)

    def look(self, view: PlayView | None = None) -> Played:
        seen = view or PlayView()
        self.looked.append(seen)
        if seen.top_k is not None and seen.top_k > 9:
            raise UsageError("top_k is too large", fix="top_k=5")
        inputs = self.ran[-1]
        count = len(inputs) if isinstance(inputs, list) else 1
        logits = np.zeros((count, 2), np.float32)
        label = [
            [{"label": self.labels[n % 2], "score": 0.75}, {"label": "other", "score": 0.25}][: seen.top_k or 1]
            for n in range(count)
        ]
        results = [
            RunResult({"logits": logits, "state": logits}, label, backend, where)
            for backend, where in (("pytorch", "cpu"), ("onnxruntime", "CPUExecutionProvider"))
        ]
        diff = OutputDiff(
            "logits", (count, 2), (count, 2), "float32", "float32", 0, 0, 1, seen.atol or 1e-4, 0, True, True
        )
        compared = Comparison("ONNX Runtime", {}, (diff,))
        times = tuple(BackendTime(name, "cpu", 1, 0.001, 0.001, 0.002, 5) for name in ("PyTorch", "ONNX Runtime"))
        answers = (PlayedAnswer("PyTorch", results[0]), PlayedAnswer("ONNX Runtime", results[1], compared))
        return Played(self.name, answers, {"x": logits}, (), Latency(times))
