"""Python code that looks at a tensor's values: what a trace that follows one run freezes.

`if x.sum() > 0`, `range(int(lengths.max()))` and `tensor.tolist()` leave the tensor world. A TorchScript trace keeps
what the traced inputs gave there. Where the inputs of the proof gave something else too, the comparison tells whether
that is right; where they all gave the same, nothing does, and the verdict stays open.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.scrubbing import readable_line
from onnx_magic.engine.tensors import to_tensors
from onnx_magic.records.findings import Finding

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.flat import FlatModel

Array: TypeAlias = np.ndarray[Any, Any]
Line: TypeAlias = tuple[str, int]
"""File and line number."""
Look: TypeAlias = tuple[Line, int]
"""A line, and how often it looked before in the same run."""

LOOKS = frozenset(
    "item tolist numpy equal allclose is_nonzero "
    "__array__ __bool__ __int__ __float__ __index__ __complex__ __contains__".split()
)
"""Functions and methods of torch that hand values of a tensor to Python."""

BLIND = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full".split()
)
"""Functions that take a tensor for its shape and dtype alone."""


def untested_branches(flat: FlatModel, feeds: Iterable[Mapping[str, Array]]) -> list[Finding]:
    """A finding for every line of Python at which values of the inputs decide, and the same way in all `feeds`.

    Args:
        flat: The live model.
        feeds: What the proof fed it, the traced inputs first: what was looked at there is what the trace holds.
    """
    runs = [_looks(flat, feed) for feed in feeds]
    if not runs:
        return []
    traced, *others = runs
    frozen = {look[0] for look, value in traced.items() if all(run.get(look, value) == value for run in others)}
    return [
        Finding(
            "branch-untested",
            f"inconclusive: Python code at {place} looks at values of the inputs, the graph keeps what the traced ones "
            "gave, and none that were tried gave anything else",
            fix="torch.where or torch.cond there, or inputs=... of the other kind",
            line=place,
        )
        for place in sorted(readable_line(*line) for line in frozen)
    ]


def _looks(flat: FlatModel, feed: Mapping[str, Array]) -> dict[Look, str]:
    """What Python was told of the inputs' values, in one run of the model."""
    tensors = to_tensors(feed)
    seen: dict[Look, str] = {}
    # A shape that the model itself refuses is no part of the proof.
    with _watching(tensors.values(), seen), contextlib.suppress(Exception):
        flat.run(tensors)
    return seen


def _watching(inputs: Iterable[torch.Tensor], seen: dict[Look, str]) -> Any:
    """A context in which `seen` gets what Python is told of `inputs`, and of what was computed from them."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils.weak import WeakTensorKeyDictionary

    # As a set: whose values come from the inputs. Tensors compare element by element, so a plain set will not do.
    derived: Any = WeakTensorKeyDictionary(dict.fromkeys(inputs, True))
    folder = str(Path(torch.__file__).parent)
    counts: Counter[Line] = Counter()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            given = [leaf for leaf in _leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
            if not any(leaf in derived for leaf in given):
                return result
            name = getattr(func, "__name__", "")
            if name in LOOKS:
                line = _caller(folder)
                # By the values that occur: of another shape there are more of them.
                seen[line, counts[line]] = repr(np.unique(np.asarray(result)).tolist())
                counts[line] += 1
            elif name not in BLIND:
                # What is written to in place holds the inputs' values too.
                written = given[:1] if name == "__setitem__" or name.endswith("_") else []
                for leaf in (*_leaves(result), *written):
                    if isinstance(leaf, torch.Tensor):
                        derived[leaf] = True
            return result

    return Watch()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _caller(folder: str) -> Line:
    """The innermost line of code that is not torch's own, nor this file's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(folder)
    ):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
