"""An .onnx file → a GraphView: without its weights, without opening any other file, and without trusting it."""

from __future__ import annotations

import dataclasses
import math
import mmap
from collections.abc import Mapping
from pathlib import Path

from onnx_magic.errors import GraphFileError, UsageError
from onnx_magic.records.artifact import GraphFile
from onnx_magic.records.views import GraphView
from onnx_magic.runtime.graphs import describe_model
from onnx_magic.runtime.protobuf import Malformed
from onnx_magic.runtime.stripping import strip


def view_file(path: Path, highlight: Mapping[str, float] | None = None) -> GraphView:
    """What is seen of an .onnx file.

    Raises:
        GraphFileError: no such file, or no ONNX model.
        UsageError: `highlight` names a node that is not there, or holds something else than numbers.

    Example:
        >>> view_file(Path("sentiment-mini-onnx/onnx/model.onnx")).nodes  # doctest: +SKIP
        124
    """
    numbers = check_highlight(highlight)
    model, outside = _stripped(path, numbers)
    graph, names, nodes = _described(path, model)
    strangers = [name for name in numbers if name not in names]
    if strangers:
        raise UsageError(
            f"highlight names {strangers[0][:80]!r}, which is no node of {path.name} ({len(names)} nodes have names)",
            fix="highlight={" + repr(next(iter(sorted(names)), "node"))[:80] + ": 1.0}",
        )
    graph = dataclasses.replace(graph, size=path.stat().st_size + outside)
    return GraphView(graph, model, nodes, numbers)


def check_highlight(highlight: Mapping[str, float] | None) -> dict[str, float]:
    """The table of `highlight=`, its numbers as floats.

    Raises:
        UsageError: it is no `{node name: number}`.

    Example:
        >>> check_highlight({"node_add": 1})
        {'node_add': 1.0}
    """
    if highlight is None:
        return {}
    try:
        numbers = {name: float(value) for name, value in highlight.items()}
    except (AttributeError, TypeError, ValueError):
        numbers = None
    if numbers is None or not all(isinstance(name, str) and math.isfinite(n) for name, n in numbers.items()):
        raise UsageError(
            f"highlight={str(highlight)[:80]} is no table of node names and finite numbers",
            fix="highlight={'node_add': 0.5}",
        )
    return numbers


def _stripped(path: Path, numbers: Mapping[str, float]) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise _not_onnx(path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                try:
                    return strip(data, numbers)
                except Malformed as error:
                    reason = str(error)
        raise _not_onnx(path, reason)
    except FileNotFoundError as error:
        raise GraphFileError(
            f"{path}: no such .onnx file, or it was deleted", fix=f"onnx_magic.export(model, output={str(path)!r})"
        ) from error
    except OSError as error:
        raise GraphFileError(f"{path} cannot be read: {error.strerror}", fix=f"ls -l {path}") from error


def _described(path: Path, model: bytes) -> tuple[GraphFile, frozenset[str], int]:
    """What the stripped graph holds: the record of it, the names of its nodes, how many nodes the main graph has."""
    import onnx
    import onnx_ir

    try:
        proto = onnx.ModelProto.FromString(model)
        sound = bool(proto.HasField("graph") and (proto.ir_version or proto.opset_import))
        parsed = onnx_ir.from_proto(proto)
        graph = describe_model(parsed, path)
    except Exception as error:  # protobuf's and onnx_ir's own errors have no common root
        raise _not_onnx(path) from error
    if not sound:
        raise _not_onnx(path)
    return graph, frozenset(node.name for node in proto.graph.node if node.name), len(proto.graph.node)


def _not_onnx(path: Path, reason: str = "") -> GraphFileError:
    size = path.stat().st_size
    told = f" ({reason})" if reason else ""
    return GraphFileError(
        f"{path} ({size} bytes) is no ONNX model, or is cut off or corrupt{told}",
        fix="give the path of an .onnx file, or fetch it again",
    )
