"""Each row of the quirk table is still needed: without it the export is wrong, with it it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import onnx_magic
from onnx_magic.engine import converting
from onnx_magic.engine.tasks import quirks
from onnx_magic.errors import ExportError


def tiny_mobilevit() -> Any:
    """A MobileViT whose outputs move with its inputs: its batch norms have seen a batch."""
    import transformers

    torch.manual_seed(0)
    config = transformers.MobileViTConfig(
        image_size=64,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64],
        num_attention_heads=2,
    )
    model = transformers.MobileViTForImageClassification(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_uniform_(parameter)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 64, 64))
    return model.eval()


def tiny_mpt() -> Any:
    """An MPT of two layers, whose attention has a bias that is cut to the length."""
    import transformers

    torch.manual_seed(0)
    config = transformers.MptConfig(
        vocab_size=50, d_model=32, n_heads=4, n_layers=1, max_seq_len=96, initializer_range=0.3, bos_token_id=1
    )
    return transformers.MptForCausalLM(config).eval()


MODELS = {"symbolic-int": tiny_mobilevit, "open-difference": tiny_mpt}
AXES = {"symbolic-int": 3, "open-difference": 2}
"""Dynamic axes of the first input, once the row is applied."""


def test_every_row_has_a_model_a_reason_and_a_link() -> None:
    assert {row.name for row in quirks.QUIRKS} == set(MODELS)
    for row in quirks.QUIRKS:
        assert row.reason and row.link.startswith("https://") and row.versions[0] <= row.versions[1]


@pytest.mark.parametrize("row", quirks.QUIRKS, ids=lambda row: row.name)
def test_the_row_is_still_needed(row: quirks.Quirk, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[row.name]()
    assert quirks.quirks_for(model) == (row,)
    exported = onnx_magic.export(model, output="with", exporter="dynamo")
    assert exported.validation and len(exported.inputs[0].dynamic_axes) == AXES[row.name]
    assert any(f.code == "quirk-applied" and row.name in f.sentence for f in exported.report.findings)

    monkeypatch.setattr(quirks, "QUIRKS", ())
    first_way_only(monkeypatch)
    try:
        status = onnx_magic.export(model, output="without", exporter="dynamo").validation.status
    except ExportError:
        status = "refused"
    assert status in ("failed", "refused"), f"{row.name} can go: the export is right without it"


def first_way_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the general remedies, which would hide what the row is for."""
    ways = converting._ways
    monkeypatch.setattr(converting, "_ways", lambda *given: iter([next(ways(*given))]))
