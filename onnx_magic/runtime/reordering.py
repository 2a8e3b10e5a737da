"""Rows of a cache picked, repeated and cut by tiny ONNX graphs, so that it never leaves ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.records.results import Array
from onnx_magic.runtime.sessions import Session, open_session

if TYPE_CHECKING:
    from onnxruntime import OrtValue

Node: TypeAlias = tuple[str, list[str], dict[str, Any]]
"""Operator, its inputs (the first names the tensor that is edited), its attributes."""

_OPSET, _IR_VERSION = 18, 9
_ROWS, _END = "rows", "end"


class CacheEdits:
    """Edits the tensors of a cache; the graphs that do it are made once.

    Args:
        provider: Execution provider: that of the graph the cache belongs to.

    Example:
        >>> from onnxruntime import OrtValue
        >>> cache = {"key": OrtValue.ortvalue_from_numpy(np.array([[1.0], [2.0]]))}
        >>> CacheEdits().select(cache, np.array([1, 1]))["key"].numpy().tolist()
        [[2.0], [2.0]]
    """

    def __init__(self, provider: str | None = None) -> None:
        self.provider = provider
        self._sessions: dict[Any, Session] = {}

    def select(self, values: Mapping[str, OrtValue], rows: Array) -> dict[str, OrtValue]:
        """These rows of every tensor (axis 0), in this order."""
        nodes: list[Node] = [("Gather", [name, _ROWS], {"axis": 0}) for name in values]
        return self._run(values, nodes, {_ROWS: np.asarray(rows, np.int64)})

    def crop(self, values: Mapping[str, OrtValue], axes: Mapping[str, int], length: int) -> dict[str, OrtValue]:
        """The first `length` entries of the tensors that `axes` names, along their axes."""
        chosen = {name: values[name] for name in axes}
        nodes: list[Node] = [("Slice", [name, "zero", _END, f"axis_{axis}"], {}) for name, axis in axes.items()]
        return self._run(chosen, nodes, {_END: np.array([length], np.int64)}, sorted(set(axes.values())))

    def _run(
        self,
        values: Mapping[str, OrtValue],
        nodes: Sequence[Node],
        extra: Mapping[str, Array],
        axes: Sequence[int] = (),
    ) -> dict[str, OrtValue]:
        from onnxruntime import OrtValue

        ranks = {name: (value.element_type(), len(value.shape())) for name, value in values.items()}
        key = (nodes[0][0] if nodes else "", tuple(ranks.items()), tuple(axes))
        if key not in self._sessions:
            self._sessions[key] = Session(open_session(_model(ranks, nodes, extra, axes), self.provider))
        session = self._sessions[key]
        feed = {**values, **{name: OrtValue.ortvalue_from_numpy(array) for name, array in extra.items()}}
        found = session.run_bound(feed, ())
        return {name: found[f"{name}_out"] for name in values}


def _model(
    ranks: Mapping[str, tuple[int, int]],
    nodes: Sequence[Node],
    extra: Mapping[str, Array],
    axes: Sequence[int],
) -> bytes:
    """One node per tensor: `<name>` in, `<name>_out` out."""
    from onnx import TensorProto, helper

    def info(name: str, element: int, rank: int) -> Any:
        return helper.make_tensor_value_info(name, element, [None] * rank)

    inputs = [info(name, element, rank) for name, (element, rank) in ranks.items()]
    inputs += [info(name, TensorProto.INT64, array.ndim) for name, array in extra.items()]
    outputs = [info(f"{name}_out", element, rank) for name, (element, rank) in ranks.items()]
    constants = {"zero": 0, **{f"axis_{axis}": axis for axis in axes}} if axes else {}
    graph = helper.make_graph(
        [helper.make_node(kind, ins, [f"{ins[0]}_out"], **attributes) for kind, ins, attributes in nodes],
        "cache_edit",
        inputs,
        outputs,
        [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    made: bytes = model.SerializeToString()
    return made
