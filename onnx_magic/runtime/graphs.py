"""What is in a graph: names, shapes, opset, size, operators. An .onnx file is untrusted input."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.errors import GraphFileError
from onnx_magic.records.artifact import MANIFEST_NAME, GraphFile
from onnx_magic.records.plan import Dim, Role, TensorSpec
from onnx_magic.runtime.mapping import SMALLEST_FILE, without_weights

if TYPE_CHECKING:
    import onnx_ir

UNKNOWN_RANK: tuple[Dim, ...] = ("...",)
"""The shape of a tensor whose rank the graph does not say."""

_LFS_POINTER = b"version https://git-lfs"
_DEFAULT_DOMAINS = ("", "ai.onnx")


def describe_model(model: onnx_ir.Model, path: Path) -> GraphFile:
    """The GraphFile of a model in memory that is, or will be, at `path`.

    `size` counts the external data too; it is 0 while the file is not there. Operators of other domains than ONNX's own
    are counted under their full name (`com.microsoft.Gelu`).
    """
    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    opset = next((model.opset_imports[d] for d in _DEFAULT_DOMAINS if d in model.opset_imports), 0)
    return GraphFile(
        path=path,
        inputs=tuple(_spec(value, "input") for value in inputs),
        outputs=tuple(_spec(value, "output") for value in graph.outputs),
        opset=int(opset or 0),
        size=_size(path, {os.fspath(tensor.location) for tensor in _external_tensors(model)} - {path.name}),
        operators=_operators(model),
    )


def read_graph(path: Path) -> GraphFile:
    """Read an .onnx file without its external data, and check that this data is where it may be.

    Raises:
        GraphFileError: no such file, no ONNX file, or external data that is missing, too short or outside the folder.

    Example:
        >>> read_graph(Path("sentiment-mini-onnx/onnx/model.onnx")).inputs[0].name  # doctest: +SKIP
        'input_ids'
    """
    model = _load(path)
    for tensor in _external_tensors(model):
        _check_external(path, tensor)
    return describe_model(model, path)


def dtype_name(dtype: onnx_ir.DataType | None) -> str:
    """NumPy's name of an ONNX dtype; `str` for text, `unknown` where the graph does not say.

    Example:
        >>> dtype_name(onnx_ir.DataType.BFLOAT16)  # doctest: +SKIP
        'bfloat16'
    """
    if dtype is None or dtype.name == "UNDEFINED":
        return "unknown"
    return "str" if dtype.name == "STRING" else str(dtype.numpy())


def _load(path: Path) -> onnx_ir.Model:
    if not path.is_file():
        raise GraphFileError(f"{path}: no such .onnx file", fix=f"onnx_magic.export(model, output={str(path)!r})")
    with path.open("rb") as file:
        head = file.read(len(_LFS_POINTER))
    if head == _LFS_POINTER:
        raise GraphFileError(f"{path} is a Git LFS pointer, the model itself was not fetched", fix="git lfs pull")
    try:
        model = _parsed(path)
        # A ModelProto made of chance bytes parses now and then; without these three it is no model.
        sound = bool(model.ir_version and model.opset_imports and model.graph.outputs)
    except Exception as error:
        raise _not_onnx(path) from error
    if not sound:
        raise _not_onnx(path)
    return model


def _parsed(path: Path) -> onnx_ir.Model:
    """The model; a large one's weights are left in the file, of which nothing else is read."""
    import onnx
    import onnx_ir

    proto = without_weights(path) if path.stat().st_size >= SMALLEST_FILE else None
    return onnx_ir.load(path) if proto is None else onnx_ir.from_proto(onnx.ModelProto.FromString(proto))


def _not_onnx(path: Path) -> GraphFileError:
    return GraphFileError(
        f"{path} ({path.stat().st_size} bytes) is no ONNX model, or is cut off or corrupt",
        fix=f"onnx_magic.export(model, output={str(_written(path))!r}, overwrite=True)  # or fetch it again",
    )


def _written(path: Path) -> Path:
    """What was exported to: the folder of ours that the file lies in, else the file."""
    folder = path.parent.parent
    return folder if (folder / MANIFEST_NAME).is_file() else path


def _spec(value: onnx_ir.Value, role: Role) -> TensorSpec:
    name = value.name or ""
    dtype = dtype_name(value.dtype)
    if value.shape is None:
        return TensorSpec(name, dtype, UNKNOWN_RANK, role)
    dims = (_dim(dim, f"{name}_dim_{axis}") for axis, dim in enumerate(value.shape))
    return TensorSpec(name, dtype, tuple(dims), role)


def _dim(dim: Any, anonymous: str) -> Dim:
    if isinstance(dim, int):
        # Old exporters write -1 for an axis that may have any size.
        return dim if dim >= 0 else anonymous
    return str(dim.value) if dim.value else anonymous


def _operators(model: onnx_ir.Model) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for owner in _owners(model):
        for node in owner.all_nodes():
            counts[node.op_type if node.domain in _DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"] += 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _owners(model: onnx_ir.Model) -> tuple[onnx_ir.Graph | onnx_ir.Function, ...]:
    """What holds nodes: the graph, and the functions that it calls."""
    return (model.graph, *model.functions.values())


def _size(path: Path, locations: set[str]) -> int:
    if not path.is_file():
        return 0
    beside = (path.parent / location for location in locations)
    return path.stat().st_size + sum(file.stat().st_size for file in beside if file.is_file())


def _external_tensors(model: onnx_ir.Model) -> Iterator[onnx_ir.ExternalTensor]:
    """Every tensor whose values lie in another file: initializers and attributes, subgraphs and functions included."""
    import onnx_ir

    for owner in _owners(model):
        for graph in (owner, *owner.subgraphs()):
            for value in getattr(graph, "initializers", {}).values():
                if isinstance(value.const_value, onnx_ir.ExternalTensor):
                    yield value.const_value
        for node in owner.all_nodes():
            for attribute in node.attributes.values():
                tensors = attribute.value if isinstance(attribute.value, tuple | list) else (attribute.value,)
                yield from (tensor for tensor in tensors if isinstance(tensor, onnx_ir.ExternalTensor))


def _check_external(path: Path, tensor: onnx_ir.ExternalTensor) -> None:
    location = os.fspath(tensor.location)
    file = path.parent / location
    # A model in the Hub's cache is a link into blobs/, and so is its data: the file's real folder is its folder too.
    homes = (path.parent.resolve(), path.resolve().parent)
    if os.path.isabs(location) or not any(file.resolve().is_relative_to(home) for home in homes):
        raise GraphFileError(
            f"{path}: weight {tensor.name!r} points outside the folder, at {location!r}; it was not read",
            fix="get the model from a source that you trust",
        )
    if not file.is_file():
        raise GraphFileError(
            f"{path}: the weights' file {location!r} is missing beside it",
            fix=f"copy {location} into {path.parent}",
        )
    end = (tensor.offset or 0) + (tensor.length or 0)
    if file.stat().st_size < end:
        raise GraphFileError(
            f"{file} is cut off: {file.stat().st_size} bytes, weight {tensor.name!r} ends at byte {end}",
            fix=f"copy {location} into {path.parent} again",
        )
