"""Weights in bfloat16 are float32 for a block, and the very same tensors again afterwards.

Transformers 5 loads most decoders in bfloat16, and ONNX Runtime's CPU has no kernels for it (`Could not find an
implementation for MatMul`), so that what is exported, and what is proven, is the widened model. Every bfloat16 is a
float32: nothing is rounded. float16 has kernels, and stays what it is.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.capturing import CapturedCalls
from onnx_magic.engine.comparing import ATOL, RTOL
from onnx_magic.engine.tensors import dtype_name
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Comparison, Validation

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.exported import ExportedModel

Array: TypeAlias = np.ndarray[Any, Any]

NARROW = "bfloat16"
WIDE = "float32"

WIDENED = Finding(
    "weights-widened",
    "the weights are bfloat16; the file and its proof are float32, "
    "since ONNX Runtime's CPU has no kernels for bfloat16",
    level="note",
)
"""What an export of such a model says, and its manifest keeps."""

_locks: weakref.WeakKeyDictionary[torch.nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
"""A model that another thread has widened must not be found wide, and then be narrowed in the middle of a run."""

_making_lock = threading.Lock()


@contextlib.contextmanager
def widened(model: torch.nn.Module) -> Iterator[bool]:
    """Run the block with what is bfloat16 in `model` in float32; yields whether anything was.

    The parameters stay the same objects, shared ones stay shared; their own data, and gradients, are put back
    whatever happens. Configs say float32 as long. It takes a float32 copy of the weights.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2).bfloat16()
        >>> with widened(layer) as was_narrow:
        ...     (was_narrow, layer.weight.dtype)
        (True, torch.float32)
        >>> layer.weight.dtype
        torch.bfloat16
    """
    with _making_lock:
        lock = _locks.setdefault(model, threading.RLock())
    with lock:
        # All that is to be put back is known before anything is touched: an interrupt may come at any line.
        tensors = [(t, t.data, t.grad if t.is_leaf else None) for t in _narrow_tensors(model)]
        configs = [(config, config.dtype) for config in _configs(model)] if tensors else []
        try:
            _widen([tensor for tensor, _, _ in tensors], [config for config, _ in configs])
            yield bool(tensors)
        finally:
            for tensor, data, gradient in tensors:
                tensor.data = data
                if gradient is not None:
                    tensor.grad = gradient
            for config, dtype in configs:
                config.dtype = dtype


def _widen(tensors: Sequence[torch.Tensor], configs: Sequence[Any]) -> None:
    """Give tensors float32 data: those that lie at one place share it, as they did."""
    import torch

    wide: dict[tuple[object, ...], torch.Tensor] = {}
    for tensor in tensors:
        if tensor.is_leaf:
            tensor.grad = None  # tracing copies gradients, and refuses one of another dtype than its tensor's
        key = (tensor.device, tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.stride())
        if key not in wide:
            wide[key] = tensor.data.float()
        tensor.data = wide[key]
    for config in configs:
        config.dtype = torch.float32


def is_narrow(model: torch.nn.Module) -> bool:
    """Whether a parameter or buffer is bfloat16."""
    return any(
        str(tensor.dtype) == f"torch.{NARROW}" for tensor in itertools.chain(model.parameters(), model.buffers())
    )


def _narrow_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """Every bfloat16 parameter, buffer and plain attribute, once; nothing where no weight is bfloat16."""
    import torch

    if not is_narrow(model):
        return []
    plain = (value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor))
    found = {
        id(tensor): tensor
        for tensor in itertools.chain(model.parameters(), model.buffers(), plain)
        if tensor.dtype == torch.bfloat16
    }
    return list(found.values())


def _configs(model: torch.nn.Module) -> list[Any]:
    """The Transformers configs of a model's modules, and those inside them, that say bfloat16."""
    found: dict[int, Any] = {}
    todo = [getattr(module, "config", None) for module in model.modules()]
    while todo:
        config = todo.pop()
        if id(config) in found or not hasattr(config, "to_json_string"):
            continue
        found[id(config)] = config
        todo += vars(config).values()
    return [config for config in found.values() if str(getattr(config, "dtype", None)).endswith(NARROW)]


def widened_request(request: ExportRequest) -> ExportRequest:
    """The request for a model that is widened: example inputs in bfloat16 are float32 too."""
    given = request.inputs
    if isinstance(given, CapturedCalls):
        examples = tuple(_widened_tree(example) for example in given.examples)
        constants: Mapping[str, Any] = _widened_tree(given.constants)
        given = replace(given, examples=examples, constants=constants, call=_widened_tree(given.call))
    else:
        given = _widened_tree(given)
    return replace(request, inputs=given)


def _widened_tree(value: Any) -> Any:
    """The same tree with its bfloat16 tensors and arrays in float32."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, np.ndarray):
        return value.astype(np.float32) if dtype_name(value) == NARROW else value
    if isinstance(value, Mapping):
        return {key: _widened_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_widened_tree(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def as_narrow(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, Array]:
    """ONNX Runtime's float32 rounded to bfloat16 where PyTorch itself ran in it: compared at that precision.

    For calls that the user made; where we run PyTorch, the model is widened instead.
    """
    return {
        name: array.astype(expected[name].dtype)
        if name in expected and (dtype_name(expected[name]), dtype_name(array)) == (NARROW, WIDE)
        else array
        for name, array in actual.items()
    }


def narrow_tolerances(
    expected: Mapping[str, Array], validation: Validation
) -> tuple[dict[str, float], dict[str, float]]:
    """The export's tolerances by dtype, and by name for outputs in which PyTorch ran in bfloat16.

    What bfloat16 loses inside a model grows with its values: a tiny llama whose logits have a root mean square of 5.3
    is off by 0.43 from itself in float32. So the absolute tolerance is the table's times this size, where it is over 1.
    """
    atol, rtol = {**ATOL, **validation.atol}, {**RTOL, **validation.rtol}
    for name, array in expected.items():
        if dtype_name(array) == NARROW:
            size = float(np.sqrt(np.square(array.astype(np.float32)).mean())) if array.size else 0.0
            atol[name] = max(ATOL[NARROW], validation.atol.get(NARROW, 0.0)) * (size if size > 1 else 1.0)
            rtol[name] = max(RTOL[NARROW], validation.rtol.get(NARROW, 0.0))
    return atol, rtol


def narrow_notes(exported: ExportedModel, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """What a reader must know where `as_narrow` rounded."""
    wide = {spec.name for spec in exported.graph.outputs if spec.dtype == WIDE}
    narrow = {diff.name for one in comparisons for diff in one.diffs if diff.expected_dtype == NARROW}
    if not wide & narrow:
        return ()
    return ("PyTorch ran in bfloat16, the graph in float32: they are compared within bfloat16's tolerance",)
