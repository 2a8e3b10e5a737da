"""A model of Transformers without weights, answered by ONNX Runtime: all of `generate()` without PyTorch's forward."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnx_magic.engine.capturing import arguments_by_name
from onnx_magic.engine.generation.answering import NO_PAST, Answering
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.errors import GraphFileError, UsageError
from onnx_magic.records.artifact import GraphFile
from onnx_magic.runtime.sessions import Session, open_graph
from onnx_magic.runtime.stepping import DecoderSteps

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig

Graph: TypeAlias = GraphFile | Path | str | Session

DECODERS = ("model", "decoder")
ENCODER, LATER = "encoder", "decoder_with_past"


def host_model(
    config: PretrainedConfig,
    model_class: Any,
    graphs: Mapping[str, Graph],
    *,
    generation_config: GenerationConfig | None = None,
    provider: str | None = None,
) -> Any:
    """The model's own class, made without weights; its forward, and its encoder's, are answered by ONNX Runtime.

    `generate()` is the class's own, so that every option of GenerationMixin and an architecture's own way to generate
    (Whisper) work. The KV cache stays in ONNX Runtime.

    Args:
        config: The model's config.
        model_class: Its class, or the name of one in Transformers.
        graphs: `{"model": graph}`, or `{"encoder": ..., "decoder": ...}`, and `"decoder_with_past"` of a split pair;
            a graph is a GraphFile, a path or an open Session.
        generation_config: Its defaults for `generate()`; those of the config by default.
        provider: Execution provider.

    Returns:
        A model in eval mode, with the device "cpu".

    Raises:
        GraphFileError: no decoder among the graphs, or one that ONNX Runtime does not take.
        UsageError: no such class or provider.

    Example:
        >>> hosted = host_model(model.config, type(model), {"model": "onnx/model.onnx"})  # doctest: +SKIP
        >>> hosted.generate(**tokenizer("Once", return_tensors="pt"), num_beams=4)  # doctest: +SKIP
    """
    import torch

    kind = class_named(model_class) if isinstance(model_class, str) else model_class
    answering = answering_of(graphs, kind.__name__, provider)
    with torch.device("meta"), quiet(Log()):
        model = _hosted_class(kind)(config).eval()
    if generation_config is not None:
        model.generation_config = generation_config
    model.forward = standing_in(model.forward, answering.forward)
    if answering.encoder is not None:
        encoder = model.get_encoder()
        encoder.forward = standing_in(encoder.forward, answering.encode)
    model.generate = _on_one_thread_of_torch(model.generate)
    if not answering.steps.has_past:
        model.generate = _without_past(model.generate)
    return model


def answering_of(graphs: Mapping[str, Graph], architecture: str, provider: str | None = None) -> Answering:
    """The graphs of one model, ready to answer its calls.

    Raises:
        GraphFileError: no decoder among the graphs, or one that ONNX Runtime does not take.
    """
    role = next((role for role in DECODERS if role in graphs), None)
    if role is None:
        raise GraphFileError(
            f"{architecture} has no decoder among its graphs: {', '.join(graphs) or 'none'}",
            fix="exported = %onnx_export model",
        )
    sessions = {name: _session(graph, provider) for name, graph in graphs.items()}
    return Answering(DecoderSteps(sessions[role], sessions.get(LATER)), sessions.get(ENCODER), architecture)


def standing_in(original: Callable[..., Any], answer: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Any]:
    """A forward with the signature of `original`, which generate() reads, answered by `answer`."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return answer(arguments_by_name(signature, args, kwargs) if args else kwargs)

    return forward


def class_named(architecture: str) -> Any:
    """The class of Transformers that is called so.

    Raises:
        UsageError: there is none.
    """
    import transformers

    found = getattr(transformers, architecture, None)
    if found is None or not isinstance(found, type):
        raise UsageError(
            f"transformers {transformers.__version__} has no class {architecture!r}", fix="pip install -U transformers"
        )
    return found


def _session(graph: Graph, provider: str | None) -> Session:
    if isinstance(graph, Session):
        return graph
    return open_graph(graph.path if isinstance(graph, GraphFile) else Path(graph), provider)


@functools.cache
def _hosted_class(kind: Any) -> Any:
    """The class, but that its device is the CPU: its parameters are on none."""
    import torch

    device = property(lambda self: torch.device("cpu"))
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, "device": device})


def _on_one_thread_of_torch(generate: Callable[..., Any]) -> Callable[..., Any]:
    """A generate() that leaves the cores to ONNX Runtime.

    What PyTorch still does at a step is to pick a token. On two cores its second thread, which spins between the steps,
    made GPT-2 write 42 tokens a second in the place of 60.
    """
    import torch

    @functools.wraps(generate)
    def alone(*args: Any, **kwargs: Any) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return generate(*args, **kwargs)
        finally:
            torch.set_num_threads(before)

    return alone


def _without_past(generate: Callable[..., Any]) -> Callable[..., Any]:
    """A generate() that computes all tokens again at every step."""

    @functools.wraps(generate)
    def recomputing(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("use_cache"):
            raise UsageError(NO_PAST, fix="use_cache=False, or export again with task=text-generation-with-past")
        return generate(*args, **{**kwargs, "use_cache": False})

    return recomputing
