"""Adapter to `torch.onnx.export(dynamo=False)`: the older way, for what the newer one cannot capture.

It follows one run of the model and cannot be trusted with control flow: what it writes counts only once it is verified.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.adapters import hf_exporters
from onnx_magic.engine.opsets import SDPA_OPSET

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from onnx_magic.engine.flat import FlatModel


def export_traced(
    flat: FlatModel,
    examples: Mapping[str, torch.Tensor],
    output_names: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    opset: int,
    fold: bool,
) -> onnx_ir.Model:
    """Trace the model with TorchScript and convert the trace.

    Args:
        axes: Dynamic axes of inputs *and* outputs: `{tensor: {axis: name}}`.
        opset: Asked for; read back what was written.
        fold: Fold constants.
    """
    import onnx_ir
    import torch

    names = flat.binding.names
    with (
        tempfile.TemporaryDirectory(prefix="onnx_magic-") as folder,
        torch.no_grad(),
        _attention(flat.model, opset),
        _unlogged(),
    ):
        path = Path(folder) / "model.onnx"
        # Not the patches of transformers.exporters: they ask sizes what a TorchScript trace cannot answer.
        with hf_exporters.clean_state(flat.model):
            torch.onnx.export(
                _traceable(flat),
                tuple(examples[name].to(flat.device) for name in names),
                str(path),
                input_names=list(names),
                output_names=list(output_names),
                dynamic_axes={name: dict(moving) for name, moving in axes.items() if moving},
                opset_version=opset,
                do_constant_folding=fold,
                dynamo=False,
            )
        model = onnx_ir.load(path)
        # Above 2 GB torch writes the weights beside the graph: read them before the folder goes.
        onnx_ir.external_data.load_to_model(model)
    return model


def _traceable(flat: FlatModel) -> torch.nn.Module:
    """A module whose forward takes the tensors in order: TorchScript mixes up keyword arguments of Transformers 5.

    Born in eval mode: a training wrapper would leave the user's model in train mode.
    """
    import torch

    if isinstance(flat.model, torch.jit.ScriptModule):
        return flat.model

    class Traceable(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = flat.model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(flat.run(dict(zip(flat.binding.names, tensors, strict=True))).values())

    return Traceable().eval()


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep torch's C++ log off, which prints the whole graph when an export fails, past `sys.stdout`.

    `setup_onnx_logging` (torch 2.13) turns it on for good: it tests the function that tells, not what it tells.
    """
    try:
        from torch.onnx._internal.torchscript_exporter import utils
    except ImportError:
        yield
        return
    before = utils.setup_onnx_logging
    utils.setup_onnx_logging = contextlib.nullcontext  # type: ignore[assignment]
    try:
        yield
    finally:
        utils.setup_onnx_logging = before


@contextlib.contextmanager
def _attention(model: Any, opset: int) -> Iterator[None]:
    """Use eager attention below the first opset that has scaled_dot_product_attention, and give back what was set."""
    config = getattr(model, "config", None)
    before = getattr(config, "_attn_implementation", None)
    if opset >= SDPA_OPSET or before in (None, "eager") or not hasattr(model, "set_attn_implementation"):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
