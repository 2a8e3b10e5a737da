"""Which exporter writes which opset, measured by reading back what was written."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_magic.errors import OpsetError


@dataclass(frozen=True)
class OpsetRange:
    """The opsets that one exporter really writes.

    Args:
        exporter: `dynamo` or `torchscript`.
        low: Oldest; below it another opset is written silently (dynamo) or operators are missing (torchscript).
        high: Newest.
        default: What it does best.
    """

    exporter: str
    low: int
    high: int
    default: int


OPSETS = {
    row.exporter: row
    for row in (
        # torchlib is written for opset 18; 17 is reached by the version converter, 16 and lower silently stay at 18.
        OpsetRange("dynamo", low=17, high=23, default=20),
        # ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET is 20; scaled_dot_product_attention needs 14, eager attention 11.
        OpsetRange("torchscript", low=9, high=20, default=17),
    )
}
"""Measured with torch 2.13 and onnxscript 0.7; `tests/engine/test_opsets.py` measures again."""

SDPA_OPSET = 14
"""Below it TorchScript needs eager attention."""


def choose_opset(asked: int | None, exporter: str) -> tuple[int, str]:
    """The opset to write, and the exporter that reaches it.

    Args:
        asked: What the user wants, `None` for the best.
        exporter: `auto`, `dynamo` or `torchscript`.

    Raises:
        OpsetError: no exporter (or not the one asked for) writes this opset.

    Example:
        >>> choose_opset(None, "auto"), choose_opset(12, "auto")
        ((20, 'auto'), (12, 'torchscript'))
    """
    ways = [OPSETS[exporter]] if exporter in OPSETS else list(OPSETS.values())
    if asked is None:
        return ways[0].default, exporter
    fits = [row for row in ways if row.low <= asked <= row.high]
    if not fits:
        low, high = min(row.low for row in ways), max(row.high for row in ways)
        nearest = min(max(asked, low), high)
        way = f"exporter={exporter}" if exporter in OPSETS else "any exporter here"
        raise OpsetError(
            f"opset {asked} is too {'old' if asked < low else 'new'} for {way}: expected {low} to {high}",
            fix=f"opset={nearest}",
            stage="plan",
        )
    return asked, exporter if len(fits) == len(ways) else fits[0].exporter
