"""ONNX Runtime, quietly: sessions, their errors in one line, and the dtypes that NumPy does not have."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from onnx_magic.errors import FeedError, GraphFileError, UsageError
from onnx_magic.records.results import Array
from onnx_magic.runtime.huge_pages import Region, large_regions, move_to_huge_pages
from onnx_magic.runtime.mapping import MappedFile, map_file

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"

_SUFFIX = "ExecutionProvider"
_FATAL = 4  # Errors come back as exceptions: at any lower level ONNX Runtime writes them to stderr as well.

_DEVICES = {"CUDAExecutionProvider": "cuda", "ROCMExecutionProvider": "cuda", "DmlExecutionProvider": "dml"}
"""Execution provider → where its tensors live, as IO binding calls it; the others compute on the CPU's memory."""

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

MANY_STEPS = 100
"""From here on it is worth the second that moving a large graph's weights to huge pages takes."""

_NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "str"}
"""ONNX Runtime's names of dtypes that NumPy calls otherwise."""

_ONNX_ONLY = {"bfloat16": 16, "float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}
"""dtypes (as ONNX Runtime calls them) that its NumPy door refuses, and their numbers in `TensorProto.DataType`."""

_ML_DTYPES = {
    "bfloat16": "bfloat16",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
}


def open_session(
    path_or_bytes: Path | str | bytes,
    provider: str | None = None,
    threads: int | None = None,
    *,
    inter_op: int | None = None,
    optimized: bool = True,
    mapped: MappedFile | None = None,
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session that writes nothing to stderr.

    Args:
        path_or_bytes: An .onnx file, or a model's bytes.
        provider: Execution provider, in full or short (`cuda`); the CPU when not given.
        threads: How many threads one operator may use; OMP_NUM_THREADS, or the cores, when not given.
        inter_op: How many operators may run at the same time; one after the other when not given.
        optimized: Whether ONNX Runtime may rewrite the graph; on, as users run it.
        mapped: The same file with its weights left in it: it is loaded so, by providers that compute on the CPU.

    Raises:
        UsageError: this ONNX Runtime has no such provider.
        GraphFileError: ONNX Runtime does not take the model.
    """
    import onnxruntime

    name = find_provider(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    if (count := threads or told_threads()) is not None:
        options.intra_op_num_threads = count
    if inter_op is not None and inter_op > 1:
        options.inter_op_num_threads = inter_op
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = path_or_bytes if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
    if mapped is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(mapped.path.parent))
        model = mapped.proto
    where = "the model" if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
    try:
        # Without enable_fallback=0 a provider that fails prints, and another one answers in its name.
        return onnxruntime.InferenceSession(model, options, providers=[name], enable_fallback=0)
    except Exception as error:
        raise GraphFileError(
            f"ONNX Runtime {onnxruntime.__version__} does not load {where}: {one_line(error)}",
            fix="export it again, or pip install -U onnxruntime if the file is newer than it",
        ) from error


def open_graph(
    path: Path, provider: str | None = None, threads: int | None = None, *, inter_op: int | None = None
) -> Session:
    """The Session of a file, whose weights are mapped rather than copied where that can be (see `open_session`).

    Raises:
        UsageError: this ONNX Runtime has no such provider.
        GraphFileError: ONNX Runtime does not take the model.
    """
    mapped = map_file(path) if find_provider(provider) == CPU else None
    before = large_regions() if mapped is not None else frozenset()
    session = Session(open_session(path, provider, threads, inter_op=inter_op, mapped=mapped), mapped)
    session.places = large_regions() - before if mapped is not None else frozenset()
    return session


def told_threads() -> int | None:
    """The threads that OMP_NUM_THREADS asks for, which torch heeds and ONNX Runtime by itself does not."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else None


def find_provider(provider: str | None) -> str:
    """The execution provider that is meant by `cuda`, `CUDAExecutionProvider` or `None` (the CPU).

    Raises:
        UsageError: this ONNX Runtime does not have it; names those it has.

    Example:
        >>> find_provider("cpu")
        'CPUExecutionProvider'
    """
    import onnxruntime

    if provider is None:
        return CPU
    available = onnxruntime.get_available_providers()
    wanted = provider.lower().removesuffix(_SUFFIX.lower())
    for name in available:
        if name.lower().removesuffix(_SUFFIX.lower()) == wanted:
            return str(name)
    raise UsageError(
        f"execution provider {provider!r} is not in this ONNX Runtime: it has {', '.join(available)}",
        fix=f"provider={available[-1]}",
    )


class Session:
    """One graph, ready to run: `run(feed)` gives `{output name: array}`.

    `bfloat16` and `float8` tensors go in and come out as `ml_dtypes` arrays.

    Args:
        session: The session.
        mapped: The file that its weights are mapped from; a run is refused once it was written over.

    Example:
        >>> Session(open_session("model.onnx")).run({"x": x})["y"]  # doctest: +SKIP
    """

    def __init__(self, session: onnxruntime.InferenceSession, mapped: MappedFile | None = None) -> None:
        import onnxruntime

        self._session, self._mapped = session, mapped
        nodes = (*session.get_inputs(), *session.get_outputs())
        self._types = {node.name: node.type for node in nodes}
        self._shapes = {node.name: tuple(node.shape) for node in nodes}
        self.inputs: tuple[str, ...] = tuple(node.name for node in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(node.name for node in session.get_outputs())
        self.provider: str = session.get_providers()[0]
        self._by_value = any(self._element(name) in _ONNX_ONLY for name in (*self.inputs, *self.outputs))
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = _FATAL
        self.places: frozenset[Region] = frozenset()
        """Where the memory lies that was taken when it was opened: that of a large graph's weights."""
        self._steps = 0

    def count_step(self) -> None:
        """Note a step of a decoder, which reads all weights: after MANY_STEPS they are moved to huge pages."""
        self._steps += 1
        if self._steps == MANY_STEPS and self.places:  # beside the steps: nothing waits for it
            threading.Thread(target=move_to_huge_pages, args=(self.places,), daemon=True).start()

    def dtype(self, name: str) -> str:
        """NumPy's name of the dtype of an input or output."""
        element = self._element(name)
        return _ML_DTYPES.get(element, _NUMPY_NAMES.get(element, element))

    def shape(self, name: str) -> tuple[int | str | None, ...]:
        """The axes of an input or output: a size, a name, or `None` for a dynamic axis without a name."""
        return self._shapes[name]

    def run_bound(self, feed: Mapping[str, onnxruntime.OrtValue], here: Collection[str]) -> dict[str, Any]:
        """Like `run`, with OrtValues in and OrtValues out, bound to their device: nothing is copied through NumPy.

        Args:
            feed: An OrtValue per input.
            here: Outputs that are wanted in this process's memory; the others stay on the provider's device.

        Raises:
            FeedError: ONNX Runtime refuses a value.
            GraphFileError: a node of the graph fails at these shapes, or its file was written over.
        """
        self._check_file()
        device = _DEVICES.get(self.provider)
        try:
            if device is None:  # all tensors live here: the same without a call for each of them
                return dict(zip(self.outputs, self._bound_here(feed), strict=True))
            binding = self._session.io_binding()
            for name, value in feed.items():
                binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(name, "cpu" if name in here else device)
            self._session.run_with_iobinding(binding, self._options)
        except Exception as error:
            shown = {name: _Described(value) for name, value in feed.items() if not name.startswith("past_key_values")}
            _raise_run_error(error, shown)
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))

    def _bound_here(self, feed: Mapping[str, onnxruntime.OrtValue]) -> list[onnxruntime.OrtValue]:
        found: list[onnxruntime.OrtValue] = self._session.run_with_ort_values(None, dict(feed), self._options)
        return found

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, in the graph's order.

        Raises:
            FeedError: ONNX Runtime refuses an array (a token id beyond the vocabulary, say).
            GraphFileError: a node of the graph fails at these shapes, or its file was written over.
        """
        self._check_file()
        try:
            values = self._run_values(feed) if self._by_value else self._session.run(None, dict(feed), self._options)
        except Exception as error:
            _raise_run_error(error, feed)
        return dict(zip(self.outputs, values, strict=True))

    def _check_file(self) -> None:
        if self._mapped is not None:
            self._mapped.check()

    def _element(self, name: str) -> str:
        """`float` of `tensor(float)`."""
        return str(self._types[name]).partition("(")[2].rstrip(")")

    def _run_values(self, feed: Mapping[str, Array]) -> list[Any]:
        """The long way round, for dtypes that ONNX Runtime's NumPy door does not know."""
        values = {name: self.value(name, array) for name, array in feed.items()}
        found = self._session.run_with_ort_values(None, values, self._options)
        return [self.array(name, value) for name, value in zip(self.outputs, found, strict=True)]

    def value(self, name: str, array: Array) -> onnxruntime.OrtValue:
        """An array of the right dtype as the OrtValue of an input; it shares the array's memory."""
        from onnxruntime import OrtValue

        number = _ONNX_ONLY.get(self._element(name))
        dense = np.ascontiguousarray(array).reshape(array.shape)
        if number is None:
            return OrtValue.ortvalue_from_numpy(dense)
        return OrtValue.ortvalue_from_numpy_with_onnx_type(dense.view(f"u{dense.itemsize}"), number)

    def array(self, name: str, value: Any) -> Any:
        """A copy of the array in an input's or output's OrtValue; from its memory where NumPy has no such dtype."""
        if self._element(name) not in _ONNX_ONLY:
            return value.numpy()
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, self.dtype(name)))
        shape = tuple(value.shape())
        size = int(np.prod(shape)) * dtype.itemsize
        data = ctypes.string_at(value.data_ptr(), size) if size else b""
        return np.frombuffer(data, dtype).reshape(shape).copy()


def one_line(error: BaseException) -> str:
    """What ONNX Runtime says in an exception, without its prefix and its C++ source location.

    Its text is built as `[ONNXRuntimeError] : number : KIND : sentence`; a failed assertion's sentence as
    `file:line function(...) expression was false. explanation`. Both are cut by that build; any other text stays whole.
    """
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    head, status, tail = text.rpartition("Status Message: ")
    if tail.startswith("/") and " was false. " in tail:
        tail = tail.partition(" was false. ")[2]
    elif tail.startswith("/"):
        tail = tail.partition(" ")[2]
    head = head.removeprefix("Non-zero status code returned while running ").rstrip(" .")
    return f"{head}: {tail}" if status and head else tail


class _Described:
    """An OrtValue as messages show it: its dtype and shape."""

    def __init__(self, value: onnxruntime.OrtValue) -> None:
        element = str(value.data_type()).partition("(")[2].rstrip(")")
        self.dtype, self.shape = _NUMPY_NAMES.get(element, element), value.shape()


def _raise_run_error(error: Exception, feed: Mapping[str, Any]) -> NoReturn:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in feed.items())
    what = f"ONNX Runtime stopped at {shapes}: {one_line(error)}"
    if isinstance(error, state.InvalidArgument | ValueError | TypeError):
        raise FeedError(what, fix="feed values within the model's range (token ids, positions, shapes)") from error
    raise GraphFileError(
        what, stage="run", fix="the graph does not take these shapes: export it again with inputs of these shapes"
    ) from error
