"""Adapter to `transformers.exporters`: patches, translations and graph fixes that make Transformers models exportable.

The module is experimental and these names are private; tested with transformers 5.20 to 5.23. In a version without
them the export goes on with torch alone, and the log says so.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from onnx_magic.events import LogLine, emit

if TYPE_CHECKING:
    import torch

BACKENDS = ("onnx", "dynamo")
"""Whose patches are applied, in this order: as `OnnxExporter.export_program` nests them."""


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """Apply the reversible patches of torch and transformers that tracing needs, for the block.

    Patches of models that are not loaded are left out: `apply_patches` would import 40 models (0.6 s) to change classes
    that nothing here uses.
    """
    try:
        # The patches are registered when these two modules are imported.
        from transformers.exporters import exporter_dynamo, exporter_onnx, utils  # noqa: F401

        registered = [patch for backend in BACKENDS for patch in utils._PATCHES[backend]]
        find, install = utils.import_dotted_path, utils.patch_attributes
    except (ImportError, AttributeError, KeyError) as error:
        emit(LogLine(f"transformers.exporters has no patches here ({error!r}); exporting with torch alone"))
        yield
        return
    patches = [
        (holder, attribute, factory)
        for path, attribute, factory in registered
        if _is_loaded(path) and (holder := find(path, missing_ok=True)) is not None
    ]
    with install(patches):
        yield


def _is_loaded(path: str) -> bool:
    """Whether the model that a patch is for has been imported; what is no model's counts as loaded."""
    parts = path.split(".")
    return parts[:2] != ["transformers", "models"] or ".".join(parts[:4]) in sys.modules


@contextlib.contextmanager
def clean_state(model: torch.nn.Module) -> Iterator[None]:
    """Keep caches that an earlier eager forward left in a Transformers model out of the trace."""
    try:
        from transformers.exporters.exporter_dynamo import reset_model_state
    except ImportError:
        yield
        return
    with reset_model_state(model):
        yield


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """ONNX functions for aten operators that torchlib translates wrongly or not at all (mixture of experts, masks)."""
    try:
        from transformers.exporters.exporter_onnx import _ONNX_TRANSLATION_TABLE
    except ImportError:
        return {}
    return dict(_ONNX_TRANSLATION_TABLE)


def fix_program(exported_program: Any) -> None:
    """Rewrite what ONNX cannot express in a captured program (alias, in-place, assertions), in place."""
    try:
        from transformers.exporters.utils import apply_fx_node_fixes
    except ImportError:
        return
    apply_fx_node_fixes("onnx", exported_program.graph_module)


def fix_graph(onnx_program: Any) -> None:
    """Apply the fixes that ONNX Runtime needs to a converted program, in place."""
    try:
        from transformers.exporters.exporter_onnx import apply_onnx_ir_fixes
    except ImportError:
        return
    apply_onnx_ir_fixes(onnx_program)


def fuse_for_runtime(model: Any, provider: str) -> None:
    """The fusions for ONNX Runtime (`OnnxConfig(ort_fusions=...)`), in place.

    Args:
        model: An onnx_ir.Model.
        provider: `cpu`, `cuda`, `webgpu` or `dml`.

    Raises:
        ImportError: this version of transformers has none.
    """
    from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

    fuse_for_onnxruntime(model, provider)
    # Up to transformers 5.23 at least, a scale that it adds is declared a scalar and stored as one element: ONNX's
    # checker refuses the file, ONNX Runtime does not mind. tests/engine/variants/test_optimizing.py tells when to stop.
    for value in model.graph.initializers.values():
        value.shape = value.const_value.shape
