"""The adapter to transformers.exporters: its private names are where they are thought to be, and all is given back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from onnx_magic.engine.adapters import hf_exporters


def test_the_private_names_are_there_in_the_versions_we_name() -> None:
    """When this fails, transformers moved them: mend the adapter, or the range in its docstring."""
    from transformers.exporters import exporter_dynamo, exporter_onnx, utils  # noqa: F401

    assert {"onnx", "dynamo"} <= set(utils._PATCHES)
    assert callable(utils.patch_attributes) and callable(utils.import_dotted_path)
    assert len(hf_exporters.translations()) > 3


def test_patches_are_on_inside_and_off_outside() -> None:
    before = torch.where, torch.nn.functional.scaled_dot_product_attention, torch.Tensor.view
    with pytest.raises(RuntimeError), hf_exporters.patched():
        assert torch.where is not before[0]
        assert torch.nn.functional.scaled_dot_product_attention is not before[1]
        raise RuntimeError
    assert (torch.where, torch.nn.functional.scaled_dot_product_attention, torch.Tensor.view) == before


def test_no_model_is_imported_to_be_patched() -> None:
    program = (
        "import sys, transformers.modeling_utils\n"
        "from onnx_magic.engine.adapters import hf_exporters\n"
        "def models(): return {m for m in sys.modules if m.startswith('transformers.models.') and '.modeling_' in m}\n"
        "import transformers.exporters.exporter_onnx\n"
        "before = models()\n"
        "with hf_exporters.patched(): pass\n"
        "print(sorted(models() - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_that_is_loaded_is_patched() -> None:
    import transformers.models.qwen2_vl.modeling_qwen2_vl as qwen

    before = qwen.VisionAttention.forward
    with hf_exporters.patched():
        assert qwen.VisionAttention.forward is not before
    assert qwen.VisionAttention.forward is before


def test_without_the_module_the_export_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_magic.events import listening

    seen: list[Any] = []
    monkeypatch.setitem(sys.modules, "transformers.exporters", None)
    with listening(seen.append), hf_exporters.patched():
        pass
    assert any("torch alone" in event.text for event in seen)
