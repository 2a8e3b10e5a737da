"""`load`: an exported folder or an .onnx file, with no PyTorch model around."""

from __future__ import annotations

from pathlib import Path

from onnx_magic import options
from onnx_magic.exported import ExportedModel


@options.documented
def load(path: options.Source, *, variant: options.Variant = None) -> ExportedModel:
    """Open an exported folder, or any .onnx file, to run it. Imports neither torch nor transformers.

    Raises:
        GraphFileError: nothing there that ONNX Runtime can read.

    Example:
        >>> load("sentiment-mini-onnx").run("I loved it").decoded  # doctest: +SKIP
        [{'label': 'POSITIVE', 'score': 0.98}]
    """
    from onnx_magic.runtime.folder import open_folder

    return ExportedModel(open_folder(Path(path), variant))
