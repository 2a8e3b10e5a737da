"""The user's own data as feeds: texts, pairs, arrays, rows of a data set, batches of a DataLoader; never endless."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.errors import FeedError, UsageError
from onnx_magic.runtime.feeds import is_arraylike
from onnx_magic.runtime.running import build_feed

if TYPE_CHECKING:
    from onnx_magic.runtime.folder import OpenedFolder

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Array]

TOGETHER = 16
"""Samples that are fed at once."""

_TEXT_COLUMNS = (("question", "context"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("text", "text_pair"))
_FIX = 'data=["a text", "another"]  # or arrays, a DataLoader, rows of a data set'


def read_data(opened: OpenedFolder, data: Any, most: int) -> list[Feed]:
    """At most `most` samples of the user's data as feeds of the graph, `TOGETHER` in each.

    Args:
        opened: The folder, for its tokenizer and the graph's inputs.
        data: See the module; a path to a text file gives a sample a line.
        most: Samples to take: an iterator that never ends is left after so many.

    Raises:
        UsageError: there is nothing in it, or it cannot be gone through.
        FeedError: a sample does not fit the graph; names it by its number.
    """
    feeds: list[Feed] = []
    taken = 0
    for number, group in _groups(opened, _items(opened, data), most):
        try:
            feed = build_feed(opened, group).arrays
        except FeedError as error:
            raise FeedError(f"sample {number} of data does not fit: {error.what}", fix=_FIX) from error
        rows = _rows(feed)
        if taken + rows > most and taken < most and rows > 1:
            feed = _first_rows(opened, feed, most - taken)
        feeds.append(feed)
        taken += rows
        if taken >= most:
            break
    if not feeds:
        raise UsageError("data is empty: expected at least one sample", fix=_FIX)
    return feeds


def samples_in(feeds: Sequence[Feed]) -> int:
    """How many samples feeds hold."""
    return sum(_rows(feed) for feed in feeds)


def _items(opened: OpenedFolder, data: Any) -> Iterator[Any]:
    """What the data holds, one after the other."""
    if isinstance(data, str | Path) and Path(data).is_file() and not _takes_images(opened):
        yield from (line for line in Path(data).read_text(encoding="utf-8").splitlines() if line.strip())
    elif isinstance(data, str | Path):
        yield str(data)
    elif isinstance(data, Mapping):
        yield from _columns(opened, data)
    elif is_arraylike(data) and hasattr(data, "shape"):
        yield from _chunks(data)
    elif isinstance(data, Iterable):
        yield from data
    else:
        raise UsageError(f"data is {type(data).__name__}: nothing to go through", fix=_FIX)


def _takes_images(opened: OpenedFolder) -> bool:
    return any(spec.name == "pixel_values" for spec in opened.reading.inputs)


def _columns(opened: OpenedFolder, data: Mapping[str, Any]) -> Iterator[Any]:
    """Arrays by name, so many rows at a time; or columns of texts, a row at a time."""
    names = {spec.name for spec in opened.reading.inputs}
    arrays = {name: value for name, value in data.items() if name in names}
    if arrays and all(hasattr(value, "__len__") for value in arrays.values()):
        most = min(len(value) for value in arrays.values())
        for start in range(0, most, TOGETHER):
            yield {name: value[start : start + TOGETHER] for name, value in arrays.items()}
        return
    lists = {name: value for name, value in data.items() if isinstance(value, list | tuple)}
    if not lists:
        yield data
        return
    for row in zip(*lists.values(), strict=False):
        yield dict(zip(lists, row, strict=True))


def _chunks(array: Any) -> Iterator[Any]:
    if np.asarray(array[:1] if len(array) else []).dtype.kind in "OUT":
        yield from np.asarray(array).tolist()
        return
    for start in range(0, len(array), TOGETHER):
        yield array[start : start + TOGETHER]


def _groups(opened: OpenedFolder, items: Iterator[Any], most: int) -> Iterator[tuple[int, Any]]:
    """(number of the first sample, what `build_feed` takes): texts and images together, arrays as they come."""
    waiting: list[Any] = []
    number = 0
    for item in itertools.islice(items, most):
        sample = _sample(opened, item)
        loose = isinstance(sample, list)
        if loose:
            waiting += sample
            while len(waiting) >= TOGETHER:
                yield number, waiting[:TOGETHER]
                waiting, number = waiting[TOGETHER:], number + TOGETHER
        else:
            if waiting:
                yield number, waiting
                number, waiting = number + len(waiting), []
            yield number, sample
            number += 1
    if waiting:
        yield number, waiting


def _sample(opened: OpenedFolder, item: Any) -> Any:
    """A list of texts, pairs or images (to be put together with others), or arrays by name or alone."""
    if isinstance(item, Mapping):
        return _row(opened, item)
    if isinstance(item, tuple) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return [item]
    if isinstance(item, list | tuple) and item:
        if all(isinstance(part, str) for part in item):
            return list(item)
        if isinstance(item[0], list | tuple) and all(isinstance(part, str) for part in item[0]):
            return list(item[0])  # a DataLoader's (texts, labels)
        if isinstance(item[0], Mapping):
            return _row(opened, item[0])  # (inputs by name, labels)
        if hasattr(item[0], "shape"):
            specs = opened.reading.inputs
            return {s.name: _batched(a, len(s.shape)) for s, a in zip(specs, item, strict=False)}
        return item
    if hasattr(item, "shape") and len(opened.reading.inputs) == 1:
        return {opened.reading.inputs[0].name: _batched(item, len(opened.reading.inputs[0].shape))}
    return item if hasattr(item, "shape") else [item]


def _row(opened: OpenedFolder, row: Mapping[str, Any]) -> Any:
    """A row of a data set: its arrays that the graph takes, else its texts."""
    ranks = {spec.name: len(spec.shape) for spec in opened.reading.inputs}
    arrays = {name: _batched(value, ranks[name]) for name, value in row.items() if name in ranks}
    if arrays:
        return arrays
    for pair in _TEXT_COLUMNS:
        if set(pair) <= set(row):
            first, second = (row[name] for name in pair)
            if isinstance(first, str):
                return [{"question": first, "context": second} if pair[0] == "question" else (first, second)]
            return list(zip(first, second, strict=True))
    for name in ("text", "sentence", *row):
        value = row.get(name)
        if isinstance(value, str):
            return [value]
        if isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
            return list(value)
    raise FeedError(f"a row of data has {', '.join(row)}: none of them is an input of the graph, or a text", fix=_FIX)


def _batched(value: Any, rank: int) -> Any:
    """An array with the batch axis that the graph's input has, where only that one is missing."""
    array = value if hasattr(value, "shape") else np.asarray(value)
    return array[None] if len(array.shape) == rank - 1 else array


def _rows(feed: Feed) -> int:
    first = next(iter(feed.values()))
    return int(first.shape[0]) if first.ndim else 1


def _first_rows(opened: OpenedFolder, feed: Feed, count: int) -> Feed:
    """The first samples of a feed; of the inputs whose first axis is static, all."""
    moving = {spec.name for spec in opened.reading.inputs if spec.shape and isinstance(spec.shape[0], str)}
    return {name: array[:count] if name in moving else array for name, array in feed.items()}
