"""Records built by hand: what each rendering is tried on. `sample` is a name and its record, one after the other."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from onnx_magic.errors import ExportError, UnknownTaskError
from onnx_magic.records.artifact import ExportReport, GraphFile, Stage
from onnx_magic.records.closeups import NOT_COUNTED, Closeup, Spot
from onnx_magic.records.findings import Finding
from onnx_magic.records.latency import BackendTime, Latency
from onnx_magic.records.plan import Decision, ExportPlan, TaskInfo, TensorSpec
from onnx_magic.records.results import (
    Agreement,
    Comparison,
    OutputDiff,
    RunResult,
    SideBySide,
    Validation,
    VariantAnswer,
)
from onnx_magic.records.variants import Answers, GraphChange, KeptLayer, VariantRecord

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
STAGES = tuple(
    Stage(name, True, seconds, detail)
    for name, seconds, detail in (
        ("source", 0.4123, "a checkpoint folder"),
        ("plan", 0.0871, "3 inputs, 2 dynamic axes"),
        ("capture", 3.2, ""),
        ("convert", 128.4, "106 nodes"),
        ("check", 0.02, "onnx.checker"),
        ("verify", 1.26, "6 shapes"),
        ("store", 0.1, "5.81 MB"),
    )
)
TOLERANCES = {"atol": {"float32": 1e-4}, "rtol": {"float32": 1e-3}}


def diff(name: str = "logits", shape: tuple[int, ...] = (2, 2), off: float = 3.1e-7, **changes: object) -> OutputDiff:
    """A difference that passes when `off` is within 1e-4."""
    fields: dict[str, object] = {
        "name": name,
        "expected_shape": shape,
        "actual_shape": shape,
        "expected_dtype": "float32",
        "actual_dtype": "float32",
        "max_abs": off,
        "max_rel": off * 2,
        "cosine": 0.9999999,
        "atol": 1e-4,
        "rtol": 1e-3,
        "finite": True,
        "passed": off <= 1e-4,
    }
    return OutputDiff(**{**fields, **changes})  # type: ignore[arg-type]


def tried(label: str, batch: int, length: int, off: float = 3.1e-7, agreed: int | None = None) -> Comparison:
    shapes = {name: (batch, length) for name in TEXT_INPUTS}
    right = batch if agreed is None else agreed
    return Comparison(label, shapes, (diff(shape=(batch, 2), off=off),), Agreement("label", right, batch))


TRIED = (
    tried("traced", 2, 14),
    tried("batch 1", 1, 14, 8.2e-7),
    tried("batch 3", 3, 14),
    tried("length 3", 2, 3),
    tried("length 22", 2, 22),
    tried("padded", 3, 30),
)


def specs() -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    axes = ("batch_size", "sequence_length")
    inputs = tuple(TensorSpec(name, "int64", axes) for name in TEXT_INPUTS)
    return inputs, (TensorSpec("logits", "float32", ("batch_size", 2), "output"),)


def decisions() -> tuple[Decision, ...]:
    axes = tuple(Decision(f"{name}[{axis}]", dim, "task") for name in TEXT_INPUTS for axis, dim in ((0, "b"), (1, "s")))
    return (
        Decision("task", "text-classification", "config", "BertForSequenceClassification"),
        Decision("opset", 20, "default"),
        *axes[:-1],
        Decision("token_type_ids[1]", "sequence_length", "user", "dynamic="),
        Decision("logits[0]", "batch_size", "probe", "moved with input_ids[0]"),
    )


def graph(**changes: object) -> GraphFile:
    inputs, outputs = specs()
    fields: dict[str, object] = {
        "path": Path("sentiment-mini-onnx/onnx/model.onnx"),
        "inputs": inputs,
        "outputs": outputs,
        "opset": 20,
        "size": 5_812_345,
        "operators": {"Add": 31, "MatMul": 24, "Reshape": 16, "Transpose": 16, "LayerNormalization": 9, "Gelu": 4}
        | {"Softmax": 4, "Gemm": 2, "Gather": 3, "Tanh": 1, "Where": 1},
    }
    return GraphFile(**{**fields, **changes})  # type: ignore[arg-type]


def report(validation: Validation, **changes: object) -> ExportReport:
    fields: dict[str, object] = {
        "name": "sentiment-mini",
        "folder": Path("sentiment-mini-onnx"),
        "task": "text-classification",
        "architecture": "BertForSequenceClassification",
        "exporter": "dynamo",
        "graphs": {"model": graph()},
        "stages": STAGES,
        "validation": validation,
        "decisions": decisions(),
    }
    return ExportReport(**{**fields, **changes})  # type: ignore[arg-type]


CHECKS = {"onnx.checker": True, "shape inference": True, "session": True}


def verified() -> ExportReport:
    return report(Validation(TRIED, checks=CHECKS, **TOLERANCES))  # type: ignore[arg-type]


def warned() -> ExportReport:
    notes = (
        Finding(
            "quirk-applied", "bert: rows without any valid token are masked as Transformers masks them", level="note"
        ),
        Finding(
            "fallback",
            "dynamo could not convert aten::grid_sampler_3d, so that torchscript was used",
            level="warning",
            fix="exporter=torchscript",
            layer="bert.encoder.layer.0",
            line="cell[3]:4",
        ),
    )
    return report(Validation(TRIED, checks=CHECKS), findings=notes, variant="int8", exporter="torchscript")


MADE = VariantRecord(
    "int8",
    "int8, dynamic",
    steps=("weights of 3 Gather, 2 Gemm, 12 MatMul quantised with a scale per channel",),
    changes={
        "model": GraphChange({"MatMul": 16, "Add": 20}, {"MatMul": 4, "MatMulInteger": 12, "Add": 20}, 5770000, 1600000)
    },
    kept=(
        KeptLayer("node_linear_12", "Gemm", "bert.pooler.dense", "worst", 0.0285),
        KeptLayer("node_conv", "Conv", "", "no kernel"),
    ),
    tolerance={"cosine": 0.95, "drift": 4.0, "answers": 0.9},
    answers=Answers("label", 997, 1000, 0.998, 0.55),
    accuracy=0.995,
)


def variant() -> ExportReport:
    near = (tried("traced", 2, 14, 0.02, 2), tried("batch 1", 1, 14, 0.03, 1))
    passed = tuple(replace(c, diffs=tuple(replace(d, passed=True) for d in c.diffs)) for c in near)
    kept = Finding("layers-kept", "left in float for accuracy=0.995: bert.pooler.dense", "note")
    return report(Validation(passed, (kept,), CHECKS), variant="int8", made=MADE, stages=())


def failed_variant() -> ExportReport:
    off = (tried("traced", 2, 14, 3.5, 0),)
    found = Finding("values-differ", "logits points elsewhere: cosine 0.3120 over all shapes, expected 0.95 or more")
    float_graph = Finding("float-reference", "held against the float graph, not against PyTorch", "note")
    made = replace(MADE, against="the float graph", answers=Answers("label", 500, 1000, 0.3, -0.4), kept=())
    return report(Validation(off, (found, float_graph), CHECKS), variant="int8", made=made, stages=())


def baked() -> ExportReport:
    findings = (
        Finding(
            "axis-baked",
            "axis 0 of x (batch_size) was baked: the graph takes 2 only, and fails at 1 and 3",
            fix='%onnx_export model dynamic={"x": {1: "sequence_length"}}',
            tensor="x",
            axis=0,
            layer="pooler",
            line="cell[3]:4",
        ),
        Finding("values-differ", "logits differs by more than 1e-4 at length 22", tensor="logits"),
        Finding("shape-illegal", "the model does not take length 600: 512 is its longest", level="note"),
    )
    comparisons = (
        tried("traced", 2, 14),
        Comparison("batch 1", {name: (1, 14) for name in TEXT_INPUTS}, error="Gather: index 1 is out of bounds for 1"),
        tried("length 22", 2, 22, off=0.34, agreed=1),
        Comparison(
            "batch 3",
            {name: (3, 14) for name in TEXT_INPUTS},
            (
                diff(shape=(3, 2)),
                diff(
                    "hidden_states",
                    (3, 14, 8),
                    float("nan"),
                    actual_shape=(2, 14, 8),
                    cosine=float("nan"),
                    passed=False,
                ),
            ),
        ),
    )
    stages = (*STAGES[:5], Stage("verify", False, 1.2, "2 of 4 shapes"), Stage("store"))
    return report(Validation(comparisons, findings, CHECKS), stages=stages)


def vanished() -> ExportReport:
    finding = Finding(
        "input-vanished",
        "attention_mask is an input of the model and not of the graph: padding would change the answers",
        fix="onnx_magic.export(model, inputs=(texts,))",
        tensor="attention_mask",
    )
    return report(Validation(TRIED[:3], (finding,), CHECKS))


def inconclusive() -> ExportReport:
    finding = Finding(
        "inputs-ignored",
        "the outputs ignore the inputs: they are the same for other inputs, so that agreement proves nothing",
        fix="export trained weights",
    )
    return report(Validation(TRIED, (finding,), CHECKS))


def unchecked() -> ExportReport:
    finding = Finding("not-validated", "validation was switched off", level="warning", fix="%onnx_export model")
    return report(Validation(findings=(finding,), checked=False), stages=())


def plain_module() -> ExportReport:
    shapes = {"image": (1, 3, 224, 224), "boxes": (1, 5, 4), "mask": (1, 5), "scores": (1,)}
    inputs = (
        TensorSpec("image", "float32", ("batch_size", 3, "height", "width")),
        TensorSpec("boxes", "float32", ("batch_size", 5, 4)),
        TensorSpec("mask", "bool", ("batch_size", 5)),
        TensorSpec("scores", "float32", ("batch_size",)),
    )
    outputs = (TensorSpec("features", "float32", ("batch_size", 64, "((height//8)) - 1", "width//8"), "output"),)
    validation = Validation((Comparison("traced", shapes, (diff("features", (1, 64, 27, 28)),)),))
    return report(
        validation,
        name="Detector",
        task=None,
        architecture="Detector",
        graphs={
            "encoder": graph(inputs=inputs, outputs=outputs),
            "decoder": graph(
                inputs=inputs[:1],
                outputs=tuple(
                    TensorSpec(f"present.{i}.{kind}", "float32", ("batch_size", 4, "sequence_length", 16), "output")
                    for i in range(12)
                    for kind in ("key", "value")
                ),
                path=Path("Detector-onnx/onnx/decoder_model_merged.onnx"),
                size=1_850_000_000,
            ),
        },
        decisions=(),
    )


def plan() -> ExportPlan:
    inputs, outputs = specs()
    examples = {name: np.zeros((2, 14), "int64") for name in TEXT_INPUTS}
    return ExportPlan(
        "sentiment-mini",
        "text-classification",
        "BertForSequenceClassification",
        inputs,
        outputs,
        examples,
        20,
        quirks=("sdpa-mask",),
        decisions=decisions(),
    )


def labels(second: str = "NEGATIVE", score: float = 0.99871) -> list[dict[str, object]]:
    return [{"label": "POSITIVE", "score": 0.998123}, {"label": second, "score": score}]


LOGITS = np.array([[-3.12345, 3.23456], [2.5, -2.75]], "float32")


def answered() -> RunResult:
    notes = ("token_type_ids was not given: filled in with zeros",)
    return RunResult({"logits": LOGITS}, labels(), seconds=0.012, notes=notes)


def entities() -> RunResult:
    found = [
        {"entity_group": "PER", "score": 0.991, "word": "Ada Lovelace", "start": 0, "end": 12},
        {"entity_group": "LOC", "score": 0.9876, "word": "北京", "start": 25, "end": 31},
    ]
    decoded = [found, [], [{"entity_group": "LOC", "score": 0.5, "word": "Paris", "start": 0, "end": 5}]]
    return RunResult({"logits": np.zeros((3, 9, 5), "float32")}, decoded)


def span() -> RunResult:
    decoded = {"answer": "Ada Lovelace", "score": 0.71234, "start": 4, "end": 16}
    outputs = {name: np.zeros((1, 20), "float32") for name in ("start_logits", "end_logits")}
    return RunResult(outputs, decoded, backend="pytorch", provider="cpu")


def raw() -> RunResult:
    states = np.linspace(-1, 1, 2 * 3 * 4, dtype="float32").reshape(2, 3, 4)
    odd = np.array([np.nan, np.inf, -np.inf, 123456.789])
    return RunResult({"last_hidden_state": states, "odd": odd, "count": np.array(3), "none": np.zeros((0, 4), "bool")})


def agreeing() -> SideBySide:
    other = RunResult({"logits": LOGITS}, labels(score=0.99879))
    return SideBySide(answered(), other, (tried("call 1", 2, 14),))


def differing() -> SideBySide:
    comparisons = (
        tried("call 1", 2, 14),
        tried("call 2", 2, 9, off=0.7, agreed=1),
        Comparison("call 3", {"input_ids": (2, 600)}, error="Expand: 600 is beyond 512 positions"),
    )
    return SideBySide(
        labels(), labels("POSITIVE", 0.61), comparisons, ("the cell called the model 3 times, once without a mask",)
    )


def model_output() -> SideBySide:
    left: OrderedDict[str, object] = OrderedDict(logits=LOGITS, loss=None, name="run")
    return SideBySide(left, OrderedDict(left, logits=LOGITS + 1e-6), (tried("call 1", 2, 14),))


def no_call() -> SideBySide:
    return SideBySide("a text", "a text", (), ("no module of the exported class was called in the cell",))


def closely(off: float = 0.4, name: str = "logits") -> Comparison:
    """3 × 4 values of which the last one is off; one row is padding."""
    levels = bytes([0, 0, 0, 0, NOT_COUNTED, NOT_COUNTED, NOT_COUNTED, NOT_COUNTED, 0, 1, 2, 5])
    first = tuple(Spot((0, at), at / 8, at / 8 + 1e-7, True) for at in range(4))
    worst = Spot((2, 3), 1.25, 1.25 + off, False)
    closeup = Closeup(3, 4, levels, first, worst, beyond=1, counted=8)
    return Comparison("call 1", {"x": (3, 8)}, (diff(name, (3, 4), off, closeup=closeup),))


def agreeing_closely() -> Comparison:
    spots = (Spot((0,), 0.5, 0.5, True), Spot((1,), -2.0, -2.0, True))
    return Comparison("mine", {"x": (1, 8)}, (diff("logits", (2,), closeup=Closeup(1, 2, bytes(2), spots, counted=2)),))


def variants() -> SideBySide:
    """PyTorch, ONNX Runtime, and three variants: one agrees, one answers otherwise, one does not run."""
    pair, text = agreeing(), "the film was good and the music was better than the film"
    others = {
        "int8": VariantAnswer([text], (tried("call 1", 2, 14),)),
        "q4": VariantAnswer([text.replace("music", "story")], (closely(),), ("the variant is stale",)),
        "fp16": VariantAnswer({}, (Comparison("call 1", {}, error="Cast: no kernel"),)),
    }
    return SideBySide([text], [text], pair.comparison, (), others)


def long_outputs() -> SideBySide:
    expected = np.linspace(-1, 1, 2 * 500, dtype="float32").reshape(2, 500)
    actual = expected.copy()
    actual[1, 7] = 3.5
    return SideBySide(RunResult({"logits": expected}), RunResult({"logits": actual}), (closely(),), top_k=2)


def latency() -> Latency:
    rows = (
        ("PyTorch", "cpu", 2, 0.0213),
        ("ONNX Runtime", "CPUExecutionProvider", 2, 0.0101),
        ("int8", "cuda", None, 7e-4),
    )
    timings = (BackendTime(name, place, threads, t, t * 0.9, t * 2, 5) for name, place, threads, t in rows)
    return Latency(tuple(timings), {"input_ids": (2, 14)})


def timed() -> SideBySide:
    return dataclasses.replace(agreeing(), latency=latency())


def failed_comparison() -> Comparison:
    diffs = (
        diff(),
        diff("half", (2, 8), 3e-3, expected_dtype="float16", actual_dtype="float32", passed=False),
        diff("pooled", (2, 8), float("inf"), cosine=float("nan"), finite=False, passed=False),
    )
    return Comparison("mine", {"input_ids": (2, 14), "pixels": (2, 3, 32, 32)}, diffs, Agreement("label", 1, 2))


def tasks() -> tuple[TaskInfo, ...]:
    return (
        TaskInfo("feature-extraction", ("default", "embedding"), "AutoModel", "text", "the arrays themselves"),
        TaskInfo(
            "text-classification",
            ("sentiment-analysis",),
            "AutoModelForSequenceClassification",
            "text, or a pair of texts",
            "label and score",
        ),
    )


def export_error() -> ExportError:
    return ExportError(
        "no exporter could convert Detector: torchvision::nms has no ONNX translation",
        fix="onnx_magic.diagnose(model)",
        attempts=(("dynamo", RuntimeError("line one\nline two")), ("torchscript", ValueError(""))),
    )


RECORDS: dict[str, Callable[[], object]] = {
    "verified": verified,
    "warned": warned,
    "variant": variant,
    "failed_variant": failed_variant,
    "baked": baked,
    "vanished": vanished,
    "inconclusive": inconclusive,
    "unchecked": unchecked,
    "plain_module": plain_module,
    "validation": lambda: verified().validation,
    "comparison": lambda: TRIED[0],
    "failed_comparison": failed_comparison,
    "output_diff": diff,
    "plan": plan,
    "answered": answered,
    "entities": entities,
    "span": span,
    "raw": raw,
    "agreeing": agreeing,
    "differing": differing,
    "closely": closely,
    "agreeing_closely": agreeing_closely,
    "variants": variants,
    "long_outputs": long_outputs,
    "latency": latency,
    "timed": timed,
    "model_output": model_output,
    "no_call": no_call,
    "graph": graph,
    "tensor": lambda: specs()[1][0],
    "finding": lambda: baked().validation.findings[0],
    "stages": lambda: baked().stages,
    "tasks": tasks,
    "error": lambda: UnknownTaskError("task 'nerr' is not known; did you mean 'ner'?", fix="task=ner"),
    "export_error": export_error,
}


@pytest.fixture(params=sorted(RECORDS))
def sample(request: pytest.FixtureRequest) -> tuple[str, object]:
    """Each record in turn: its name and itself."""
    return request.param, RECORDS[request.param]()


@pytest.fixture
def build() -> Callable[..., object]:
    """`build("verified")`: a record of `RECORDS`."""
    return lambda name: RECORDS[name]()


@pytest.fixture
def nasty_report() -> Callable[[str], ExportReport]:
    """A report in which every string that a model or a user chooses is the given one."""

    def make(name: str) -> ExportReport:
        spec = TensorSpec(name, name, (name, 3))
        made = Comparison(name, {name: (1, 2)}, (diff(name),), Agreement(name, 1, 1))
        broken = Comparison(name, {name: (1, 3)}, error=name)
        findings = tuple(
            Finding("axis-baked", name, level=level, fix=name, layer=name, line=name)  # type: ignore[arg-type]
            for level in ("note", "failure", "warning")
        )
        return ExportReport(
            name,
            Path(name[:100].replace("\0", "")),
            name,
            name,
            name,
            {
                name: graph(
                    path=Path(name[:100].replace("\0", "")), inputs=(spec,), outputs=(spec,), operators={name: 1}
                )
            },
            (Stage(name, True, 1.0, name),),
            Validation((made, broken), findings, {name: True}),
            (Decision(f"{name}[0]", name, "user", name),),
            variant=name,
        )

    return make


class Page(HTMLParser):
    """What an HTML text is made of; raises where tags do not balance."""

    VOID = frozenset({"br", "img", "hr"})

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def words(self) -> str:
        """All that is left when every tag is taken away, a line per line, spaces as one."""
        lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(self.pieces).splitlines())
        return "\n".join(line for line in lines if line)


@pytest.fixture
def page() -> type[Page]:
    """`page(html)`: the parsed page; see `Page`."""
    return Page
