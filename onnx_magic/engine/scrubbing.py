"""No path of this machine stays in a graph, and its bytes are the same on every machine and through every front end.

The exporter writes Python stack traces, with absolute paths, into every node's metadata. Here each becomes a few lines
`transformers/models/bert/modeling_bert.py:88 in forward`, outermost first, of the model's own code alone.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir

STACK_TRACE = "pkg.torch.onnx.stack_trace"

_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NOT_THE_MODELS = frozenset({"torch", "onnx_magic", "IPython", "ipykernel"}) | sys.stdlib_module_names
_EXPORTING = ("onnx_magic/", "torch/export/", "torch/_export/", "torch/onnx/", "torch/jit/", "torch/_dynamo/")
"""Frames of these files stand between whoever called the export and the model: what is above them is dropped."""


def scrub_paths(model: onnx_ir.Model, cells: Mapping[str, str] | None = None) -> None:
    """Rewrite, in place, every path of this machine in the metadata and doc strings of a graph.

    Args:
        model: The graph; subgraphs and functions are included.
        cells: File name that a notebook's cell was compiled under → what a person calls it (`cell[3]`).

    Example:
        >>> scrub_paths(model, {"/tmp/ipykernel_12/34.py": "cell[3]"})  # doctest: +SKIP
    """
    rewrite = _Rewriter(cells or {})
    if model.producer_version:
        # "2.13.0+cpu" here is "2.13.0+cu126" on the next machine.
        model.producer_version = model.producer_version.partition("+")[0]
    for holder in _holders(model):
        if getattr(holder, "doc_string", None):
            _set_doc_string(holder, rewrite.text(holder.doc_string))
        properties = getattr(holder, "metadata_props", None)
        if not properties:
            continue
        rewritten = {key: rewrite.value(key, properties[key]) for key in sorted(properties)}
        properties.clear()
        properties.update({key: value for key, value in rewritten.items() if value})


def notebook_cells() -> dict[str, str]:
    """The names that IPython compiled its cells under, and what a person calls them; empty outside of a notebook.

    IPython is asked only if it runs already: `{"/tmp/ipykernel_12/34.py": "cell[3]"}`.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    numbers = getattr(getattr(shell, "compile", None), "_filename_map", None) or {}
    return {name: f"cell[{number}]" for name, number in numbers.items()}


def readable_line(file: str, line: int) -> str:
    """A source line as findings name it: `transformers/models/bert/modeling_bert.py:88`, `cell[3]:4`."""
    return f"{_Rewriter(notebook_cells()).file(file)}:{line}"


def _holders(model: onnx_ir.Model) -> Iterator[Any]:
    """All that can hold metadata or a doc string, each at least once."""
    yield model
    functions = tuple(model.functions.values())
    yield from functions
    for graph in model.graphs():
        yield graph
        yield from graph.inputs
        for value in graph.initializers.values():
            yield value
            yield value.const_value
    for function in functions:
        yield from function.inputs
        yield from _nodes(function.all_nodes())
    yield from _nodes(model.graph.all_nodes())


def _nodes(nodes: Iterable[onnx_ir.Node]) -> Iterator[Any]:
    for node in nodes:
        yield node
        yield from node.outputs
        yield from node.attributes.values()


def _set_doc_string(holder: Any, text: str) -> None:
    holder.doc_string = text or None


class _Rewriter:
    """Paths of this machine → paths that mean the same on any other."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells
        self._modules = _module_paths()
        self._prefixes = machine_prefixes()
        self._known: dict[str, str] = {}

    def value(self, key: str, text: str) -> str:
        """One metadata value; empty when nothing of it is left."""
        if text not in self._known:
            self._known[text] = self._trace(text) if _FRAME.search(text) else self.text(text)
        return self._known[text]

    def text(self, text: str) -> str:
        """Any text, without this machine's folders and without memory addresses."""
        if _FRAME.search(text):
            return self._trace(text)
        return _ADDRESS.sub("", without_prefixes(text, self._prefixes))

    def _trace(self, text: str) -> str:
        frames: list[str] = []
        for match in _FRAME.finditer(text):
            path, function = self.file(match["file"]), match["function"].strip()
            if path.startswith(_EXPORTING):
                frames.clear()
            elif function.startswith("<") or _top(path) in _NOT_THE_MODELS:
                continue  # a module's or a cell's own lines are no part of a forward
            else:
                frames.append(f"{path}:{match['line']} in {function}")
        return "\n".join(frames)

    def file(self, file: str) -> str:
        """One file as a person knows it."""
        if file in self._cells:
            return self._cells[file]
        if file.startswith("<ipython-input-") or PurePath(file).parent.name.startswith("ipykernel_"):
            return "cell"
        if file in self._modules:
            return self._modules[file]
        parts = PurePath(file).parts
        for home in ("site-packages", "dist-packages"):
            if home in parts:
                return "/".join(parts[parts.index(home) + 1 :])
        return PurePath(file).name if os.path.isabs(file) else file.replace(os.sep, "/")


def _top(path: str) -> str:
    """The package, or the module, that a path begins with."""
    return path.partition("/")[0].removesuffix(".py")


def _module_paths() -> dict[str, str]:
    """File of every loaded module → its dotted name as a path: the same wherever the file lies."""
    paths: dict[str, str] = {}
    for name, module in sorted(sys.modules.items(), key=lambda item: (-len(item[0]), item[0])):
        file = vars(module).get("__file__") if isinstance(module, type(sys)) else None
        if not isinstance(file, str) or name == "__main__":
            continue
        stem = Path(file).stem
        tail = "/__init__.py" if stem == "__init__" else ".py"
        if stem in ("__init__", name.rpartition(".")[2]):
            paths[file] = name.replace(".", "/") + tail
    return paths


def machine_prefixes() -> tuple[str, ...]:
    """Folders that differ from machine to machine, longest first."""
    given = (*sys.path, sys.prefix, sys.base_prefix, os.path.expanduser("~"), os.getcwd(), tempfile.gettempdir())
    folders = {os.path.abspath(folder) for folder in given if folder}
    folders |= {os.path.realpath(folder) for folder in folders}
    return tuple(sorted((f for f in folders if len(PurePath(f).parts) > 1), key=lambda f: (-len(f), f)))


def without_prefixes(text: str, prefixes: tuple[str, ...]) -> str:
    """`text` without the folders that differ from machine to machine.

    Example:
        >>> without_prefixes("/home/me/models/a.py", ("/home/me",))
        'models/a.py'
    """
    for prefix in prefixes:
        if prefix in text:
            text = text.replace(prefix + os.sep, "")
            text = "" if text == prefix else text
    return text
