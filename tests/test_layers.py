"""The layers of the house, read from the imports of every file."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "onnx_magic"
MAX_LINES = 420

BOTTOM = ("errors", "records", "events", "options")
SEES: dict[str, tuple[str, ...]] = {
    "errors": (),
    "records": ("errors",),
    "events": ("errors", "records"),
    "options": ("errors",),
    "runtime": BOTTOM,
    "engine": ("runtime", *BOTTOM),
    "exported": ("engine", "runtime", *BOTTOM),
    "verbs": ("display", "exported", "engine", "runtime", *BOTTOM),  # display: `view` writes the page that it shows
    "display": ("errors", "records", "events"),
    "widgets": ("display", *BOTTOM),
    "frontends": ("widgets", "display", "verbs", "exported", "engine", "runtime", *BOTTOM),
}
"""What each layer may import of onnx_magic beside itself. `__init__` and `__main__` may import anything."""

HEAVY = frozenset(
    "torch transformers onnx onnx_ir onnxruntime onnxscript netron tensorflow keras matplotlib pandas PIL tokenizers"
    " sentence_transformers ipywidgets anywidget".split()
)
"""Loaded inside functions only: `import onnx_magic` stays quick."""

SHELL = frozenset({"IPython", "ipywidgets", "anywidget", "traitlets"})
"""What only front ends and widgets know of; a type annotation elsewhere is fine."""

NEVER: dict[str, frozenset[str]] = {
    "errors": HEAVY | {"numpy"},
    "events": HEAVY | {"numpy"},
    "options": HEAVY | {"numpy"},
    "records": HEAVY - {"pandas", "matplotlib"},
    "display": HEAVY - {"PIL"},
    "runtime": frozenset({"torch", "transformers", "sentence_transformers"}),
    "frontends": frozenset({"torch", "transformers", "onnx", "onnx_ir", "onnxscript"}),
}
"""What a layer does not import even inside a function."""

INNER = (
    "transformers.exporters",
    "transformers.onnx",
    "onnxruntime.quantization",
    "onnxruntime.transformers",
)
"""Inner or experimental parts beside every name with a leading underscore: for engine/adapters only.

`onnxruntime.capi` is not among them: the classes of ONNX Runtime's errors have no other home.
"""

OPTIONAL = {
    "pandas": "asked for by to_frame() when it is there",
    "matplotlib": "asked for by plot() when it is there",
    "sentence_transformers": "only if the model is one",
    "soundfile": "sounds but .wav",
}
"""Imported where a person has them, without being a dependency."""

NO_PRINT = ("errors", "records", "events", "options", "runtime", "engine", "exported", "verbs", "display")


@dataclass(frozen=True)
class Import:
    """One import: the dotted name, its line, whether it runs when the module is loaded, or is for types only."""

    name: str
    line: int
    at_load: bool
    for_types: bool

    @property
    def top(self) -> str:
        return self.name.split(".")[0]


def imports_of(tree: ast.Module, module: str) -> Iterator[Import]:
    """Every import of a module; `from a import b` counts as `a.b`, `importlib.import_module("a.b")` too."""

    def visit(node: ast.AST, at_load: bool, for_types: bool) -> Iterator[Import]:
        for name, line in _names(node, module):
            yield Import(name, line, at_load and not for_types, for_types)
        inside = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typed = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside, for_types or child in typed)

    yield from visit(tree, True, False)


def _names(node: ast.AST, module: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from ((f"{'.' * node.level}{node.module or ''}.{alias.name}", node.lineno) for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            yield node.args[0].value, node.lineno


def attributes_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Dotted names that are read from an imported module: `torch._C._log`, whatever the import called it."""
    homes: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            homes.update(
                {alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names if not alias.asname}
            )
            homes.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            homes.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    for node in ast.walk(tree):
        parts, at = [], node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if parts and isinstance(at, ast.Name) and at.id in homes:
            yield ".".join([homes[at.id], *reversed(parts)]), node.lineno


def is_inner(name: str) -> bool:
    """Whether a dotted name reaches into a part that torch, transformers or ONNX Runtime do not promise to keep."""
    top, *rest = name.split(".")
    private = any(part.startswith("_") and not part.endswith("__") for part in rest)
    return (top in HEAVY and private) or any(name == part or name.startswith(f"{part}.") for part in INNER)


def layer_of(path: str) -> str:
    """`engine/sources/files.py` → `engine`; `errors.py` → `errors`; `__init__.py` → `__init__`."""
    return path.split("/")[0].removesuffix(".py")


def complaints(path: str, source: str) -> list[str]:
    """Everything in the file `path` (relative to the package) that the layers forbid, a sentence each."""
    tree, layer, found = ast.parse(source), layer_of(path), list[str]()

    def complain(line: int, what: str) -> None:
        found.append(f"onnx_magic/{path}:{line}: {what}")

    for imported in imports_of(tree, path):
        name, line = imported.name, imported.line
        if name.startswith("."):
            complain(line, f"relative import {name}")
        elif imported.top == "onnx_magic":
            target = (name.split(".") + [""])[1]
            if layer not in SEES or imported.for_types or target == "__version__":
                continue
            if target not in SEES:
                complain(line, f"{name}: import it from the file it lives in")
            elif target not in (layer, *SEES[layer]):
                complain(line, f"{layer} imports {target}, a layer that it must not see")
        elif imported.at_load and imported.top in HEAVY:
            complain(line, f"{imported.top} is imported at module level")
        elif imported.top in NEVER.get(layer, ()) and not imported.for_types:
            complain(line, f"{layer} imports {imported.top}")
        elif imported.top in SHELL and layer not in ("frontends", "widgets") and not imported.for_types:
            complain(line, f"{imported.top} outside frontends and widgets")
    if not path.startswith("engine/adapters/"):
        used = [(i.name, i.line) for i in imports_of(tree, path)] + list(attributes_of(tree))
        for name, line in used:
            if is_inner(name):
                complain(line, f"{name} is an inner part: only engine/adapters may touch it")
    if layer in NO_PRINT:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                complain(node.lineno, f"print in {layer}")
    if (length := source.count("\n")) > MAX_LINES:
        complain(length, f"{length} lines, at most {MAX_LINES}")
    return found


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_a_file_keeps_to_its_layer(path: str) -> None:
    assert complaints(path, (PACKAGE / path).read_text(encoding="utf-8")) == []


def test_every_file_belongs_to_a_layer() -> None:
    assert {layer_of(path) for path in FILES} - set(SEES) == {"__init__", "__main__"}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("records/plan.py", "import onnx_magic.engine.probing", "records imports engine"),
        ("engine/probing.py", "def f():\n    from onnx_magic.verbs.run import run", "engine imports verbs"),
        ("engine/probing.py", "from onnx_magic import display", "engine imports display"),
        ("display/html.py", "from onnx_magic.runtime.folder import open_folder", "display imports runtime"),
        ("widgets/axes.py", "from onnx_magic.engine import planning", "widgets imports engine"),
        ("engine/probing.py", "from onnx_magic import export", "import it from the file"),
        ("engine/probing.py", "from . import planning", "relative import"),
        ("engine/probing.py", "import torch", "torch is imported at module level"),
        ("engine/probing.py", "try:\n    import onnxruntime as ort\nexcept ImportError:\n    pass", "module level"),
        ("runtime/feeds.py", "def f():\n    import transformers", "runtime imports transformers"),
        (
            "runtime/feeds.py",
            "def f():\n    importlib.import_module('torch')",
            "runtime imports torch",
        ),
        ("engine/probing.py", "def f():\n    from IPython import get_ipython", "IPython outside frontends"),
        ("engine/probing.py", "def f():\n    from torch.onnx._internal.exporter import x", "inner part"),
        ("engine/probing.py", "def f():\n    import torch\n    torch._C._log()", "torch._C._log is an inner part"),
        (
            "engine/probing.py",
            "def f():\n    import torch as t\n    t._dynamo.reset()",
            "torch._dynamo.reset is",
        ),
        ("verbs/export.py", "def f():\n    from transformers.exporters import OnnxExporter", "inner part"),
        ("engine/probing.py", "def f():\n    print('tracing')", "print in engine"),
        ("engine/probing.py", "x = 1\n" * 421, "421 lines"),
    ],
)
def test_the_check_catches(path: str, source: str, complaint: str) -> None:
    assert any(complaint in line for line in complaints(path, source)), complaints(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engine/probing.py", "def f():\n    import torch\n    return torch.onnx.export"),
        ("engine/probing.py", "if TYPE_CHECKING:\n    import torch"),
        ("engine/adapters/torch_export.py", "def f():\n    from torch.onnx._internal import exporter"),
        ("frontends/magics.py", "from IPython.core.magic import Magics\nfrom onnx_magic.verbs.run import run"),
        ("exported.py", "def f():\n    from onnx_magic.engine.swapping import swapped"),
        ("engine/probing.py", "def f():\n    import onnxruntime\n    return onnxruntime.__version__"),
    ],
)
def test_the_check_lets_through(path: str, source: str) -> None:
    assert complaints(path, source) == []


def test_every_library_that_is_imported_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {_distribution(line) for line in project["dependencies"]}
    homes = packages_distributions()
    strangers = {}
    for path in FILES:
        for imported in imports_of(ast.parse((PACKAGE / path).read_text(encoding="utf-8")), path):
            top = imported.top
            if top in sys.stdlib_module_names or top in OPTIONAL or top == "onnx_magic" or imported.for_types:
                continue
            if not declared & {_distribution(name) for name in homes.get(top, [top])}:
                strangers[f"{path}:{imported.line}"] = top
    assert strangers == {}


def test_pins_hold_every_direct_dependency_and_meet_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {_distribution(line): line.partition("==")[2] for line in lines if line and not line.startswith("#")}
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["notebook"], *extras["test"]):
        requirement = Requirement(line)
        pin = pins.get(_distribution(requirement.name))
        assert pin, f"{requirement.name} has no pin in binder/requirements.txt"
        assert requirement.specifier.contains(pin), f"{requirement.name}=={pin} is outside {requirement.specifier}"


def _distribution(line: str) -> str:
    """`onnx_ir>=1.0` → `onnx-ir`."""
    name = line
    for mark in "<>=!~[; ":
        name = name.split(mark)[0]
    return name.strip().lower().replace("_", "-").replace(".", "-")
