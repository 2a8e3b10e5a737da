"""Arrays that fit: what a person feeds, against what the graph takes.

Forgiving where nothing is lost, strict elsewhere: a feed that cannot be right is refused before ONNX Runtime sees it,
with the TensorSpec that was expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from onnx_magic.errors import FeedError
from onnx_magic.records.plan import TensorSpec
from onnx_magic.records.results import Array
from onnx_magic.runtime.graphs import UNKNOWN_RANK

Specs = tuple[TensorSpec, ...]

_PAST = "past_key_values"


def fit_feed(given: Any, specs: Specs) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Turn what was given into one array per input of the graph, in the graph's order.

    Args:
        given: `{name: array}`; a tuple or list of arrays in the graph's order; or one array, for a graph with one
            input. Arrays may be lists of numbers, NumPy arrays or torch tensors.
        specs: The graph's inputs.

    Returns:
        The arrays, and a sentence for each thing that was done to them. An array of the right dtype is passed on as is.

    Raises:
        FeedError: unknown or missing name, wrong rank, a dtype that would lose information, an axis of another size.

    Example:
        >>> arrays, notes = fit_feed([[1, 2]], (TensorSpec("x", "float32", ("batch_size", 2)),))
        >>> arrays["x"].dtype, notes
        (dtype('float32'), ('x: int64 was turned into float32',))
    """
    named = _by_name(given, specs)
    _refuse_unknown(named, specs)
    notes: list[str] = []
    arrays: dict[str, Array] = {}
    for spec in specs:
        if spec.name in named:
            array, note = _fit_dtype(_as_array(named[spec.name], spec), spec)
            _check_rank(array, spec)
            arrays[spec.name] = array
            notes += [note] if note else []
    _check_sizes(arrays, specs)
    for spec in specs:
        if spec.name not in arrays:
            arrays[spec.name], note = _filled_in(spec, arrays, specs)
            notes.append(note)
    return {spec.name: arrays[spec.name] for spec in specs}, tuple(notes)


def is_arraylike(value: Any) -> bool:
    """Whether `value` is an array or a tensor: it has a dtype and a shape."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def listed(specs: Iterable[TensorSpec]) -> str:
    """The specs as messages show them: `input_ids: int64[batch_size, sequence_length], ...`."""
    return ", ".join(str(spec) for spec in specs)


def example_feed(specs: Iterable[TensorSpec]) -> str:
    """A dict of arrays that the graph takes, as Python: `{"x": np.ones((2, 3), "float32")}`."""
    rows = (
        f'"{spec.name}": np.ones({tuple(d if isinstance(d, int) else 2 for d in spec.shape)}, "{spec.dtype}")'
        for spec in specs
    )
    return "{" + ", ".join(rows) + "}"


def _by_name(given: Any, specs: Specs) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items() if value is not None}
    if isinstance(given, tuple) or (isinstance(given, list) and given and all(map(is_arraylike, given))):
        if len(given) > len(specs):
            raise FeedError(
                f"{len(given)} arrays for a graph with {len(specs)} inputs: it takes {listed(specs)}",
                fix=f"exported.run({example_feed(specs)})",
            )
        return {spec.name: value for spec, value in zip(specs, given, strict=False)}
    if len(specs) == 1:
        return {specs[0].name: given}
    raise FeedError(
        f"one {type(given).__name__} for a graph with {len(specs)} inputs: it takes {listed(specs)}",
        fix=f"exported.run({example_feed(specs)})",
    )


def _refuse_unknown(named: Mapping[str, Any], specs: Specs) -> None:
    names = [spec.name for spec in specs]
    for name in named:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            fix = f"rename {name!r} to {near[0]!r}" if near else f"leave {name!r} out"
            raise FeedError(f"the graph has no input {name!r}: {hint}it takes {listed(specs)}", fix=fix)


def _as_array(value: Any, spec: TensorSpec) -> Array:
    """`value` as an array; an ndarray is passed on as it is."""
    if isinstance(value, np.ndarray):
        array = value
    elif hasattr(value, "detach"):
        array = _from_tensor(value)
    else:
        if isinstance(value, list | tuple) and value and any(hasattr(item, "detach") for item in value):
            value = [_from_tensor(item) if hasattr(item, "detach") else item for item in value]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise FeedError(
                f"{spec.name} is ragged: its rows differ in length; expected {spec}",
                fix=f"pad the rows of {spec.name} to one length, with 0 in attention_mask for the padding",
            ) from error
    if array.dtype == object:
        _refuse_dtype("objects", spec)
    return array


def _from_tensor(tensor: Any) -> Array:
    """The array of a torch tensor, without importing torch: NumPy has no bfloat16, float32 holds every value of it."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array


def _fit_dtype(array: Array, spec: TensorSpec) -> tuple[Array, str]:
    """The array in the graph's dtype, and a sentence when it had to be changed."""
    if spec.dtype in ("str", "unknown"):
        if spec.dtype == "str" and array.dtype.kind not in "UT":
            _refuse_dtype(array.dtype.name, spec)
        return (array.astype(object) if spec.dtype == "str" else array), ""
    wanted = numpy_dtype(spec.dtype)
    if array.dtype == wanted:
        return array, ""
    if not _fits(array, wanted):
        _refuse_dtype(array.dtype.name, spec)
    return array.astype(wanted), f"{spec.name}: {array.dtype.name} was turned into {spec.dtype}"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of that name; `bfloat16` and `float8` come from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found


def _family(dtype: np.dtype[Any]) -> str:
    """`b` (bool), `i` (whole numbers), `f` (real numbers, bfloat16 and float8 included), else NumPy's kind."""
    if dtype.kind in "iu":
        return "i"
    return "f" if "float" in dtype.name else dtype.kind


def _fits(array: Array, wanted: np.dtype[Any]) -> bool:
    """Whether a cast keeps what the array says: all of it, but for the last digits of a real number."""
    check = _CASTS.get(_family(array.dtype) + _family(wanted))
    return check is not None and (array.size == 0 or check(array, wanted))


def _in_range(array: Array, wanted: np.dtype[Any]) -> bool:
    limits = np.iinfo(wanted)
    return int(array.min()) >= limits.min and int(array.max()) <= limits.max


def _exactly(array: Array, wanted: np.dtype[Any]) -> bool:
    return bool(np.array_equal(array.astype(wanted).astype(np.float64), array.astype(np.float64)))


def _stays_finite(array: Array, wanted: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(np.isfinite(array), np.isfinite(array.astype(wanted))))


def _zero_or_one(array: Array, _wanted: np.dtype[Any]) -> bool:
    return bool(np.isin(array, (0, 1)).all())


_CASTS: dict[str, Callable[[Array, np.dtype[Any]], bool]] = {
    "ii": _in_range,
    "bi": lambda *_: True,
    "bf": lambda *_: True,
    "ib": _zero_or_one,
    "if": _exactly,
    "ff": _stays_finite,
}
"""(kind given, kind wanted) → when the cast is safe. What is not here is refused: real to whole, text, complex."""


def _refuse_dtype(found: str, spec: TensorSpec) -> NoReturn:
    raise FeedError(
        f"{spec.name} holds {found}, which does not go into {spec.dtype} without loss; expected {spec}",
        fix=f'{spec.name} = np.asarray({spec.name}).astype("{spec.dtype}"), if that is what you mean',
    )


def _check_rank(array: Array, spec: TensorSpec) -> None:
    if spec.shape == UNKNOWN_RANK or array.ndim == len(spec.shape):
        return
    fix = f"give {spec.name} {len(spec.shape)} axes"
    if array.ndim == len(spec.shape) - 1:
        fix = f"add the {spec.shape[0]} axis: {spec.name} = {spec.name}[None]"
    raise FeedError(f"{spec.name} has shape {list(array.shape)}, {array.ndim} axes; expected {spec}", fix=fix)


def _check_sizes(arrays: Mapping[str, Array], specs: Specs) -> None:
    """Static axes have their size, and one name has one size all over."""
    sizes: dict[str, tuple[int, str]] = {}
    for spec, axis, dim in _axes(arrays, specs):
        size = arrays[spec.name].shape[axis]
        if isinstance(dim, int) and size != dim:
            raise FeedError(
                f"axis {axis} of {spec.name} is {size}, the graph takes {dim} only; expected {spec}",
                fix=f"feed {spec.name} with {dim} on axis {axis}, or export again with that axis dynamic",
            )
        if isinstance(dim, str):
            known, first = sizes.setdefault(dim, (size, spec.name))
            if known != size:
                raise FeedError(
                    f"{dim} is {known} in {first} and {size} in {spec.name}; expected {spec}",
                    fix=f"give {first} and {spec.name} the same {dim}",
                )


def _axes(arrays: Mapping[str, Array], specs: Specs) -> Iterable[tuple[TensorSpec, int, int | str]]:
    for spec in specs:
        if spec.name in arrays and spec.shape != UNKNOWN_RANK:
            yield from ((spec, axis, dim) for axis, dim in enumerate(spec.shape))


def _filled_in(spec: TensorSpec, arrays: Mapping[str, Array], specs: Specs) -> tuple[Array, str]:
    """An input that was left out, where everyone means the same by leaving it out."""
    filler = _FILLERS.get(spec.name) or (_NO_PAST if spec.name.startswith(_PAST) else None)
    shape = _shape_of(spec, arrays, specs) if filler else None
    values = filler[0](shape, arrays, specs) if filler and shape is not None else None
    if filler is None or values is None:
        raise FeedError(
            f"input {spec.name!r} is missing; expected {spec}",
            fix=f'add "{spec.name}": an array {spec.dtype}[{", ".join(map(str, spec.shape))}]',
        )
    return values.astype(numpy_dtype(spec.dtype)), f"{spec.name} was filled in with {filler[1]}"


def _shape_of(spec: TensorSpec, arrays: Mapping[str, Array], specs: Specs) -> tuple[int, ...] | None:
    """The shape of a missing input, from the sizes that the others give to its axes' names."""
    sizes = {dim: arrays[s.name].shape[axis] for s, axis, dim in _axes(arrays, specs) if isinstance(dim, str)}
    if not _has_past(arrays):
        sizes |= {dim: 0 for s in specs if s.name.startswith(_PAST) for dim in s.shape[1:] if isinstance(dim, str)}
    shape = tuple(dim if isinstance(dim, int) else _size_of(dim, sizes) for dim in spec.shape)
    if None not in shape:
        return tuple(size for size in shape if size is not None)
    ids = arrays.get("input_ids")
    # A file of another exporter may name no axes at all: the text inputs have the shape of the ids.
    names = [other.name for other in specs]
    return ids.shape if ids is not None and ids.ndim == len(spec.shape) and not _has_past(names) else None


def _size_of(dim: str, sizes: Mapping[str, int]) -> int | None:
    """The size that a name stands for, `past_sequence_length + sequence_length` included."""
    parts = [sizes.get(part.strip()) for part in dim.split("+")]
    if dim in sizes:
        return sizes[dim]
    return sum(part for part in parts if part is not None) if None not in parts else None


def _has_past(names: Iterable[str]) -> bool:
    return any(name.startswith(_PAST) for name in names)


def _zeros(shape: tuple[int, ...], _arrays: Mapping[str, Array], _specs: Specs) -> Array:
    return np.zeros(shape)


def _ones(shape: tuple[int, ...], _arrays: Mapping[str, Array], _specs: Specs) -> Array:
    return np.ones(shape)


def _positions(shape: tuple[int, ...], arrays: Mapping[str, Array], specs: Specs) -> Array | None:
    """0, 1, 2, ... over the tokens that are not padding; `None` with a past, whose length shifts them."""
    if any(array.size for name, array in arrays.items() if name.startswith(_PAST)) or len(shape) != 2:
        return None
    mask = arrays.get("attention_mask")
    if mask is None or mask.shape != shape:
        mask = np.ones(shape)
    return np.asarray(np.clip(np.cumsum(mask != 0, axis=-1) - 1, 0, None))


_NO_PAST = (_zeros, "an empty past")

_FILLERS: dict[str, tuple[Callable[[tuple[int, ...], Mapping[str, Array], Specs], Array | None], str]] = {
    "token_type_ids": (_zeros, "zeros"),
    "attention_mask": (_ones, "ones: no padding"),
    "position_ids": (_positions, "0, 1, 2, ..."),
}
"""Inputs that may be left out: what they become, and how the note calls it."""
