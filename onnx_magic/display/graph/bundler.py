"""Netron's own front end, read from the installed package when a view is shown; nothing of it is copied into this one.

Each ES module becomes a function in a small registry, so that no URL, no server and no import map is needed. A Netron
that does not look as it is known here is refused, and the view shows its tables instead.
"""

from __future__ import annotations

import base64
import functools
import gzip
import importlib.metadata
import importlib.resources
import importlib.util
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = (
    *("base", "text", "protobuf", "flatbuffers", "json", "xml", "zip", "tar", "message"),
    *("grapher", "view", "browser", "onnx", "onnx-proto", "onnx-schema"),
)
WORKER = ("dagre", "worker")
NEEDED = ("logo-github", 'id="target"', 'id="sidebar"', 'id="menu-button"')
"""Parts of Netron's page that its scripts look for."""

_IMPORT = re.compile(r"^import \* as (\w+) from '\./([\w-]+)\.js';", re.MULTILINE)
_EXPORT_SOME = re.compile(r"^export const \{ ([\w, ]+) \} = (\w+);", re.MULTILINE)
_EXPORT = re.compile(r"^export const (\w+) = ", re.MULTILINE)
_LAZY = re.compile(r"(?<![.\w])import\('\./([\w-]+)\.js'\)")
_LEFT = re.compile(r"^(?:import|export)\b.*$|import\.meta", re.MULTILINE)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_BODY = re.compile(r"<body[^>]*>(.*?)</body>", re.DOTALL)


class NetronChangedError(RuntimeError):
    """Netron is not installed, or not in a form that is known here; says which file and what was found."""


@dataclass(frozen=True)
class Frontend:
    """Netron as texts: its scripts and its worker's (both packed), its style, its page, its version."""

    scripts: str
    worker: str
    style: str
    body: str
    version: str


@functools.cache
def asset(name: str) -> str:
    """A script of ours."""
    return (importlib.resources.files("onnx_magic.display.graph") / "assets" / name).read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)
def frontend() -> Frontend:
    """The installed Netron's front end; read once per process.

    Raises:
        NetronChangedError: it is not there, or not as it is known.
    """
    read = functools.partial(_read, _root())
    page = read("index.html")
    style, body = _STYLE.search(page), _BODY.search(page)
    if style is None or body is None or "<script" in body[1]:
        raise NetronChangedError("netron's index.html has another form")
    for part in NEEDED:
        if part not in body[1]:
            raise NetronChangedError(f"netron's index.html has no {part}")
    return Frontend(
        scripts=packed(_registered(MODULES, read)),
        worker=packed(_registered(WORKER, read) + _around("dagre", "layout", asset("layout.js"))),
        style=read("grapher.css") + style[1],
        body=body[1],
        version=importlib.metadata.version("netron"),
    )


def module_function(name: str, source: str) -> str:
    """One ES module as an entry of the registry: `"name": function(exports, require, import) {...}`.

    Raises:
        NetronChangedError: an import or export is left that has a form not known here.

    Example:
        >>> print(module_function("a", "import * as b from './b.js';\\nexport const c = b.d;"))
        "a": function(__e, __r, __i) { 'use strict';
        const b = __r('b');
        const c = __e.c = b.d;
        }
    """
    source = _IMPORT.sub(r"const \1 = __r('\2');", source)
    source = _EXPORT_SOME.sub(r"const { \1 } = \2; Object.assign(__e, { \1 });", source)
    source = _EXPORT.sub(r"const \1 = __e.\1 = ", source)
    source = _LAZY.sub(r"__i('\1')", source)
    if left := _LEFT.search(source):
        raise NetronChangedError(f"netron's {name}.js has a line that is not understood: {left[0][:80]!r}")
    return f"{json.dumps(name)}: function(__e, __r, __i) {{ 'use strict';\n{source}\n}}"


def operator_metadata(operators: Collection[str], opset: int) -> str:
    """Netron's descriptions of these operators alone, as JSON: all of them are 5.6 MB.

    Args:
        operators: As a GraphFile counts them: `Add`, `com.microsoft.Gelu`.
        opset: Of ONNX's own operators; a later description would not be taken for them.
    """
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _all_metadata():
        module, name = row.get("module", ""), row.get("name", "")
        if (name if module == "ai.onnx" else f"{module}.{name}") not in operators:
            continue
        if module == "ai.onnx" and row.get("version", 0) > opset:
            continue
        known = newest.get((module, name))
        if known is None or known.get("version", 0) < row.get("version", 0):
            newest[module, name] = row
    short = [{key: value for key, value in row.items() if key != "examples"} for row in newest.values()]
    return json.dumps(short, separators=(",", ":"))


def packed(data: str | bytes) -> str:
    """Gzip and base64, the same bytes on every run."""
    raw = data.encode() if isinstance(data, str) else data
    return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode("ascii")


def _registered(names: Iterable[str], read: functools.partial[str]) -> str:
    return "__netron.add({" + ",\n".join(module_function(name, read(f"{name}.js")) for name in names) + "});\n"


def _around(module: str, function: str, wrapper: str) -> str:
    """A function of a module, replaced by what a script of ours makes of it."""
    return f"{{ const m = __netron.require({module!r}); m.{function} = (\n{wrapper.strip()}\n)(m.{function}); }}\n"


@functools.lru_cache(maxsize=1)
def _all_metadata() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_read(_root(), "onnx-metadata.json"))
    return rows


def _root() -> Path:
    """Where Netron lies; it is not imported, for its files are all that is wanted."""
    found = importlib.util.find_spec("netron")
    if found is None or found.origin is None:
        raise NetronChangedError("netron is not installed: pip install netron")
    return Path(found.origin).parent


def _read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except OSError as error:
        raise NetronChangedError(f"netron's {name} is not there") from error
