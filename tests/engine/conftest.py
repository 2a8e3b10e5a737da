"""What the engine's tests share: a prepared tiny model, and graphs of it that are broken on purpose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import onnx_magic
from onnx_magic.engine.exporting import ExportRequest
from onnx_magic.engine.planning import Prepared, prepare
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.engine.sources import resolve_source
from onnx_magic.engine.state import comparable_attention, preserved
from tests.engine.encoder_decoders import MODELS, made


@contextmanager
def prepared_model(model: Any, **options: Any) -> Iterator[Prepared]:
    """A model as the engine holds it between planning and storing."""
    request = ExportRequest(model=model, **options)
    source = resolve_source(request.model, request.task)
    with quiet(Log()), preserved(source.model), comparable_attention():
        yield prepare(source, request)


@pytest.fixture
def prepared() -> Callable[..., Any]:
    """`with prepared(model, inputs=...) as plan:`."""
    return prepared_model


@pytest.fixture
def write_graph() -> Callable[..., Any]:
    """`write_graph(prepared, path, axes=..., change=...)`."""
    return _write_graph


@pytest.fixture(scope="module")
def classifier(tiny_bert: Callable[..., Any]) -> Iterator[Prepared]:
    """A tiny sentiment classifier, prepared."""
    with prepared_model(tiny_bert("SequenceClassification", num_labels=2)) as plan:
        yield plan


def _write_graph(
    prepared: Prepared, path: Path, *, axes: Any = None, change: Callable[[Any], None] | None = None
) -> Any:
    """Convert with dynamo (once for a model and its axes), change a copy, write it; returns the GraphFile."""
    import onnx_ir

    from onnx_magic.engine.storing import save_graph
    from onnx_magic.runtime.graphs import describe_model

    axes = prepared.examples.axes if axes is None else axes
    key = (id(prepared.flat.model), prepared.flat.binding.names, repr(axes))
    if key not in _converted:
        _converted[key] = (prepared.flat.model, onnx_ir.to_proto(_convert(prepared, axes)).SerializeToString())
    model = onnx_ir.from_proto(_proto(_converted[key][1]))
    if change is not None:
        change(model)
    save_graph(model, path)
    return describe_model(model, path)


_converted: dict[Any, tuple[Any, bytes]] = {}
"""Serialized graphs by model; the model is held so that its id stays its own."""


def _convert(prepared: Prepared, axes: Any) -> Any:
    from onnx_magic.engine.adapters import torch_export
    from onnx_magic.engine.tensors import to_tensors

    with quiet(Log()):
        captured = torch_export.capture(prepared.flat, to_tensors(prepared.plan.examples), axes)
        outputs = [spec.name for spec in prepared.plan.outputs]
        return torch_export.convert(captured, list(prepared.flat.binding.names), outputs, axes, 20, True)


def _proto(data: bytes) -> Any:
    import onnx

    return onnx.ModelProto.FromString(data)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """`exports(name)`: one of `tests.engine.encoder_decoders` and its export, made once."""

    @functools.cache
    def export(name: str) -> tuple[Any, Any]:
        model = made(name)
        folder = tmp_path_factory.mktemp(name) / "out"
        return model, onnx_magic.export(model, output=folder, **MODELS[name][1])

    return export
