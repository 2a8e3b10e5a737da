"""`view`: the graph, drawn by Netron in the cell or in an HTML file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic import options

if TYPE_CHECKING:
    from onnx_magic.records.views import GraphView


@options.documented
def view(exported: options.Exported, *, highlight: options.Highlight = None, output: options.Page = None) -> GraphView:
    """Draw a graph with Netron's own front end: no server, no network, and without the weights.

    Click a node for its attributes, its PyTorch module and the source line that it came from. Any .onnx file can be
    looked at, also one from a source that is not trusted: nothing of it is run.

    Raises:
        GraphFileError: no such file, or no ONNX model.
        UsageError: a node of `highlight` that is not there, or an `output` that is no .html file.
        StorageError: `output` cannot be written.

    Example:
        >>> view("sentiment-mini-onnx", output="graph.html").output  # doctest: +SKIP
        PosixPath('graph.html')
    """
    from onnx_magic.display.graph.pages import page_path, write_page
    from onnx_magic.runtime.viewing import view_file

    path, name = _file_of(exported)
    target = page_path(output, name) if output is not None else None
    seen = view_file(path, highlight)
    if target is None:
        return seen
    write_page(seen, target)
    return dataclasses.replace(seen, output=target)


def _file_of(exported: Any) -> tuple[Path, str]:
    """The .onnx file that is meant, and what a page of it is called. A bare file is not opened to be run."""
    from onnx_magic.exported import as_exported

    if isinstance(exported, str | os.PathLike) and not Path(exported).is_dir():
        path = Path(exported)
        return path, path.stem
    target = as_exported(exported)
    return target.model_path, target.name
