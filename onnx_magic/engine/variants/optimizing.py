"""`optimize`: ONNX Runtime's own levels, or fusions of whole transformer layers; the way that fuses most is taken."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.adapters import hf_exporters, ort_tools
from onnx_magic.engine.probing import one_line
from onnx_magic.engine.variants.branches import joined, pieces_of
from onnx_magic.engine.variants.making import Making, Parent, VariantOutcome, finish, making, prove, refuse_quantized
from onnx_magic.engine.variants.modes import OPTIMIZED
from onnx_magic.engine.variants.quantizing import copy_graph
from onnx_magic.engine.variants.taking_apart import SLOW, join_reshapes, take_apart
from onnx_magic.errors import UsageError
from onnx_magic.events import stage
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Validation
from onnx_magic.records.variants import VariantRecord
from onnx_magic.runtime.sessions import CPU, find_provider

if TYPE_CHECKING:
    import onnx_ir

    from onnx_magic.runtime.folder import OpenedFolder

LEVELS = ("fusions", "basic", "extended", "all")

_FAMILIES = {
    "gpt2": "gpt2", "gpt_neo": "gpt2", "gptj": "gpt2", "gpt_bigcode": "gpt2", "llama": "gpt2", "mistral": "gpt2",
    "qwen2": "gpt2", "qwen3": "qwen3", "gpt_neox": "gpt_neox", "phi": "phi", "bart": "bart", "mbart": "bart",
    "marian": "bart", "whisper": "bart", "t5": "t5", "mt5": "t5", "vit": "vit", "deit": "vit", "beit": "vit",
    "dinov2": "vit", "swin": "swin", "clip": "clip", "clip_text_model": "clip", "wav2vec2-conformer": "conformer",
}  # fmt: skip
"""A config's model_type → the family whose fusions ONNX Runtime tries; all others are taken for a BERT."""

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "n_dims")

_SESSION_SWITCHES = {
    "EmbedLayerNormalization": ("EmbedLayerNormFusion",),
    "Attention": ("AttentionFusion",),
    "Gelu": ("GeluFusionL1", "GeluFusionL2"),
    "BiasGelu": ("BiasGeluFusion",),
    "FastGelu": ("FastGeluFusion", "GeluApproximation"),
    "LayerNormalization": ("LayerNormFusionL1", "LayerNormFusionL2"),
    "SkipLayerNormalization": ("SkipLayerNormFusion",),
}
"""A fusion by the operator it makes → ONNX Runtime's optimisers that a session leaves out."""

_TARGETS = {CPU: "cpu", "CUDAExecutionProvider": "cuda", "WebGpuExecutionProvider": "webgpu",
            "DmlExecutionProvider": "dml"}  # fmt: skip
"""Execution provider → what `transformers.exporters` calls it."""

_BOUND = {"com.microsoft.nchwc": CPU}
"""Domain of operators → the one execution provider that has them."""

_SAME = ("", "ai.onnx")


@dataclass(frozen=True)
class OptimizeRequest:
    """What `optimize` was asked: its options, see `verbs.optimize`."""

    level: str = "fusions"
    disable: tuple[str, ...] = ()
    provider: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Way:
    """One way to optimise a graph: its name, and (source, target) → the graph."""

    name: str
    change: Callable[[Path, Path], onnx_ir.Model]


@dataclass(eq=False)
class _Candidate:
    """One way to optimise a graph, and what came of it."""

    way: str
    graph: GraphFile | None = None
    verdict: tuple[Validation, str] | None = None
    apart: int = 0
    why_not: str = ""

    @property
    def nodes(self) -> int:
        """Nodes of its graph; 0 without one."""
        return self.graph.nodes if self.graph is not None else 0


def run_optimize(parent: Parent, request: OptimizeRequest) -> VariantOutcome:
    """Make the optimized variant and prove it; see `verbs.optimize` for what is raised."""
    provider = find_provider(request.provider)
    _check(parent, request)
    with making(parent, OPTIMIZED, overwrite=request.overwrite) as (made, seen):
        graphs: dict[str, GraphFile] = {}
        verdicts: dict[str, tuple[Validation, str]] = {}
        steps: list[str] = []
        for role in parent.opened.graphs:
            taken, told = _best(made, role, request, provider)
            assert taken.graph is not None
            graphs[role] = taken.graph
            if taken.verdict is not None:
                verdicts[role] = taken.verdict
            steps += [sentence if len(parent.opened.graphs) == 1 else f"{role}: {sentence}" for sentence in told]
        bound = _provider_of(graphs, provider, request)
        seen.findings += _findings(parent.opened, graphs, bound)
        heads, hidden = attention_size(parent.opened.config)
        options: dict[str, Any] = {"level": request.level, "provider": provider}
        options |= {"heads": heads, "hidden": hidden} if request.level == "fusions" else {}
        options |= {"disable": list(request.disable)} if request.disable else {}
        record = VariantRecord(
            OPTIMIZED, f"optimized, {request.level}", steps=tuple(steps), options=options, provider=bound
        )
        return finish(made, record, graphs, None, seen, verdicts)


def _check(parent: Parent, request: OptimizeRequest) -> None:
    refuse_quantized(parent.opened, "optimize")
    check_level(request.level)
    known = ort_tools.fusion_names() if request.level == "fusions" else tuple(_SESSION_SWITCHES)
    for name in request.disable:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise UsageError(
                f"level {request.level} has no fusion {name!r} to leave out: expected one of {', '.join(known)}",
                fix=f"disable={near[0] if near else known[0]}",
            )


def check_level(level: str) -> None:
    """The level is one that there is.

    Raises:
        UsageError: it is not; did you mean.
    """
    if level not in LEVELS:
        near = difflib.get_close_matches(level, LEVELS, n=1)
        raise UsageError(
            f"level {level!r} is not known: expected one of {', '.join(LEVELS)}",
            fix=f"level={near[0] if near else LEVELS[0]}",
        )


def _best(made: Making, role: str, request: OptimizeRequest, provider: str) -> tuple[_Candidate, list[str]]:
    """The candidate that leaves the fewest nodes and still verifies; and a sentence on each."""
    parent = made.parent.opened.graphs[role]
    pieces = pieces_of(parent.path, role, parent.operators, made.place.work, apart=request.level == "fusions")
    sources = [copy_graph(piece.path, made.place.work / piece.name)[0] for piece in pieces]
    tried = [
        _tried(made, role, number, way, sources, request, provider)
        for number, way in enumerate(_ways(made.parent.opened, request, provider))
    ]
    if request.level == "fusions" and all(one.graph is None or one.why_not for one in tried):
        basic = dataclasses.replace(request, level="basic")  # it takes subgraphs as they are
        whole = [copy_graph(parent.path, made.place.work / f"{role}-whole")[0]]
        tried.append(
            _tried(made, role, len(tried), _ways(made.parent.opened, basic, provider)[0], whole, basic, provider)
        )
    return _choose(made, role, tried, parent)


def _tried(
    made: Making,
    role: str,
    number: int,
    way: Way,
    sources: Sequence[Path],
    request: OptimizeRequest,
    provider: str,
) -> _Candidate:
    """One way, gone and proven."""
    parent = made.parent.opened.graphs[role]
    candidate = _Candidate(way.name)
    with stage("optimize") as row:
        row.detail = way.name
        try:
            models = [way.change(source, source.with_name(f"optimized-{number}.onnx")) for source in sources]
            for model in models:
                if provider == CPU and request.level == "fusions":
                    candidate.apart += take_apart(model)
                    join_reshapes(model)
            model = joined(models, [spec.name for spec in parent.inputs])
            made_now = _disabled_in(model, parent, request.disable)
            if made_now:
                candidate.why_not = f"it makes {made_now}, which was switched off"
                return candidate
            candidate.graph = made.place.write(role, model, ahead=number)
        except Exception as error:  # the tools raise anything at all
            candidate.why_not = f"it failed: {one_line(error)}"
            return candidate
    with stage("verify"):
        candidate.verdict = prove(made, {role: candidate.graph}, None, provider)
        if candidate.verdict[0].status == "failed":
            first = next(iter(candidate.verdict[0].failures), None)
            candidate.why_not = f"its graph does not verify: {first.sentence if first else 'a check failed'}"
    return candidate


def _choose(made: Making, role: str, tried: Sequence[_Candidate], parent: GraphFile) -> tuple[_Candidate, list[str]]:
    graphs = [one for one in tried if one.graph is not None]
    if not graphs:
        told = "; ".join(f"{one.way}: {one.why_not}" for one in tried)
        raise UsageError(f"the graph could not be optimized ({told})", fix="level=basic")
    taken = min(graphs, key=lambda one: (bool(one.why_not), one.nodes))
    assert taken.graph is not None
    steps = []
    for one in tried:
        result = _result(one, parent)
        if one is taken and len(tried) > 1:
            others = [other for other in graphs if other is not one]
            reason = "the only one that gave a graph"
            if others:
                fewer = all(one.nodes < other.nodes for other in others)
                reason = "it leaves the fewest nodes" if fewer else "it leaves no more nodes than any other"
                if any(other.why_not for other in others):
                    reason = "it verifies"
            steps.append(f"{one.way} was taken, {reason}: {result}")
        elif one is taken:
            steps.append(f"{one.way}: {result}")
        else:
            steps.append(f"{one.way} was not taken: {result}")
    taken.graph = made.place.keep(role, taken.graph)
    return taken, steps


def _result(one: _Candidate, parent: GraphFile) -> str:
    if one.graph is None:
        return one.why_not
    counts = f"{parent.nodes} to {one.graph.nodes} nodes"
    if dict(one.graph.operators) == dict(parent.operators):
        counts = "nothing changed"
    grown = {
        name.rpartition(".")[2]: count - parent.operators.get(name, 0)
        for name, count in one.graph.operators.items()
        if "." in name and count > parent.operators.get(name, 0)
    }
    made = ", ".join(f"{count} {name}" for name, count in grown.items())
    told = f"{counts} ({made})" if made else counts
    if one.apart:
        told += f", {one.apart} {SLOW} taken apart again: the CPU runs the parts faster"
    return f"{told}; {one.why_not}" if one.why_not else told


def _ways(opened: OpenedFolder, request: OptimizeRequest, provider: str) -> list[Way]:
    """What is tried, by level."""
    import onnx_ir

    def session(source: Path, target: Path) -> onnx_ir.Model:
        off = [name for fusion in request.disable for name in _SESSION_SWITCHES.get(fusion, ())]
        ort_tools.optimize_session(source, target, request.level, provider, disabled=off)
        return onnx_ir.load(target)

    def transformer(source: Path, target: Path) -> onnx_ir.Model:
        heads, hidden = attention_size(opened.config)
        family = _FAMILIES.get(str(opened.config.get("model_type")), "bert")
        proto, _ = ort_tools.fuse_transformer(source, family, heads=heads, hidden=hidden, disabled=request.disable)
        return onnx_ir.from_proto(proto)

    def exporters(source: Path, target: Path) -> onnx_ir.Model:
        model = onnx_ir.load(source)
        hf_exporters.fuse_for_runtime(model, _TARGETS.get(provider, "cpu"))
        return model

    if request.level != "fusions":
        return [Way(f"ONNX Runtime, level {request.level}", session)]
    return [Way("onnxruntime.transformers", transformer), Way("transformers.exporters", exporters)]


def attention_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """(attention heads, hidden size) as config.json says; 0 where it does not.

    Example:
        >>> attention_size({"n_head": 12, "n_embd": 768})
        (12, 768)
    """
    text = config.get("text_config") or {}
    found = []
    for names in (_HEADS, _HIDDEN):
        values = (holder.get(name) for holder in (config, text) for name in names)
        found.append(next((int(value) for value in values if isinstance(value, int)), 0))
    return found[0], found[1]


def _disabled_in(model: onnx_ir.Model, parent: GraphFile, disabled: Sequence[str]) -> str:
    """The first fused operator that was switched off and is there now, and was not before."""
    there = {node.op_type for node in model.graph.all_nodes() if node.domain not in _SAME}
    before = {name.rpartition(".")[2] for name in parent.operators if "." in name}
    return next((name for name in disabled if name in there - before), "")


def _provider_of(graphs: Mapping[str, GraphFile], provider: str, request: OptimizeRequest) -> str | None:
    """The execution provider that the graphs are bound to; `None` for none."""
    for graph in graphs.values():
        for name in graph.operators:
            if (bound := _BOUND.get(name.rpartition(".")[0])) is not None:
                return bound
    return provider if provider != CPU and request.level != "basic" else None


def _findings(opened: OpenedFolder, graphs: Mapping[str, GraphFile], bound: str | None) -> list[Finding]:
    if all(dict(graph.operators) == dict(opened.graphs[role].operators) for role, graph in graphs.items()):
        return [Finding("nothing-changed", "nothing changed: no pattern that is known stands in this graph", "note")]
    if bound is not None:
        sentence = f"the graph holds operators of {bound}, for machines like this one: it runs on no other provider"
        return [Finding("provider-bound", sentence, "warning", "level=extended  # runs on all that ONNX Runtime has")]
    own = sorted({n for g in graphs.values() for n in g.operators if n.startswith("com.microsoft.")})
    if own:
        names = ", ".join(name.rpartition(".")[2] for name in own)
        return [Finding("provider-bound", f"only ONNX Runtime runs it: {names} are operators of its own", "note")]
    return []
