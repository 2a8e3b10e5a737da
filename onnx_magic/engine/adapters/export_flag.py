"""Adapter to `torch.onnx.is_in_onnx_export()`, by which a forward does otherwise in the exported graph.

`torch.onnx.export` sets it, this package captures before that. What PyTorch answers while the flag is asked is the
reference: the person's own code is told that it is exported, for that is what they want to ship; a library's code is
told the truth, so that a branch of its own for exports is held against what it computes otherwise.
"""

from __future__ import annotations

import contextlib
import sys
import sysconfig
import threading
from collections.abc import Iterator
from types import FrameType

_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib"))
_LOCK = threading.RLock()  # the function is the process's: two threads would put back each other's


@contextlib.contextmanager
def asked_as_exported(everyone: bool = False) -> Iterator[set[tuple[str, int]]]:
    """Within, `is_in_onnx_export()` is true for the person's own code; for all code where `everyone` says so.

    Yields:
        Where that code asked: file and line; filled while it runs.

    Example:
        >>> import torch
        >>> with asked_as_exported(everyone=True):
        ...     torch.onnx.is_in_onnx_export()
        True
    """
    import torch
    from torch.onnx._internal.exporter import _flags  # what code asks that imported the function by its name

    asked: set[tuple[str, int]] = set()

    def answer() -> bool:
        caller: FrameType = sys._getframe(1)
        file = caller.f_code.co_filename
        own = not file.startswith(_LIBRARIES)
        if own:
            asked.add((file, caller.f_lineno))
        return own or everyone or original()

    with _LOCK:
        original, before = torch.onnx.is_in_onnx_export, _flags._is_onnx_exporting
        torch.onnx.is_in_onnx_export, _flags._is_onnx_exporting = answer, everyone or before
        try:
            yield asked
        finally:
            torch.onnx.is_in_onnx_export, _flags._is_onnx_exporting = original, before
