"""The table of quantisation modes: what each does to which operators, and what it may cost."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from onnx_magic.errors import UsageError

Method: TypeAlias = Literal["dynamic", "static", "float16", "4bit"]

MATRIX = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv", "ConvTranspose")
EMBEDDING = ("Gather",)


@dataclass(frozen=True)
class Tolerance:
    """How far a variant's outputs may be from the reference's, which are exact to six digits.

    Args:
        cosine: Of each output over all shapes tried: at the least.
        drift: Largest |Δ| of a value, as a share of the output's own size (its root mean square) plus that value.
        answers: Share of answers on the user's data that must be the same, when they are `ENOUGH` or more.
    """

    cosine: float
    drift: float
    answers: float


@dataclass(frozen=True)
class Mode:
    """One way to make a graph smaller.

    Args:
        name: As it is asked for, and what the variant is called.
        title: What it is, in a few words.
        methods: The steps, in order.
        operators: Operators whose weights it takes.
        signed: int8; otherwise uint8.
        tolerance: What it may cost.
        needs_data: Whether it must see the user's data.
        no_kernel: Operators that it must leave, for ONNX Runtime has no kernel for what they would become.
    """

    name: str
    title: str
    methods: tuple[Method, ...]
    operators: tuple[str, ...]
    tolerance: Tolerance
    signed: bool = True
    needs_data: bool = False
    no_kernel: tuple[str, ...] = ()


EIGHT = Tolerance(cosine=0.95, drift=2.0, answers=0.9)
FOUR = Tolerance(cosine=0.90, drift=3.0, answers=0.8)
HALF = Tolerance(cosine=0.999, drift=0.1, answers=0.98)

ENOUGH = 20
"""So many answers make a share worth judging."""

_ROWS = (
    Mode(
        "int8",
        "int8, dynamic",
        ("dynamic",),
        (*MATRIX, *EMBEDDING),
        EIGHT,
        # https://github.com/microsoft/onnxruntime/issues/15888: ConvInteger has no kernel for int8 on the CPU
        no_kernel=("Conv",),
    ),
    Mode(
        "int8-static", "int8, static (QDQ)", ("static",), (*MATRIX, *CONVOLUTIONS, *EMBEDDING), EIGHT, needs_data=True
    ),
    Mode("uint8", "uint8, dynamic", ("dynamic",), (*MATRIX, "Conv", *EMBEDDING), EIGHT, signed=False),
    Mode("fp16", "float16", ("float16",), (), HALF),
    Mode("q4", "4 bits, weights only", ("4bit",), MATRIX, FOUR),
    Mode("q4f16", "4 bits, weights only, the rest float16", ("4bit", "float16"), MATRIX, FOUR),
)
MODES: Mapping[str, Mode] = MappingProxyType({row.name: row for row in _ROWS})
"""Every mode, by its name."""

OPTIMIZED = "optimized"

QUANTIZED_OPERATORS = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear MatMulInteger ConvInteger QLinearConv QLinearMatMul"
    " com.microsoft.MatMulNBits com.microsoft.GatherBlockQuantized com.microsoft.DynamicQuantizeMatMul"
    " com.microsoft.QAttention com.microsoft.MatMulIntegerToFloat com.microsoft.QGemm com.microsoft.MatMulBnb4".split()
)
"""Operators by which a quantised graph is known, whoever made it."""


def mode_names() -> tuple[str, ...]:
    """All modes, in the table's order."""
    return tuple(MODES)


def find_mode(name: str) -> Mode:
    """The mode of a name.

    Raises:
        UsageError: there is none; did you mean.

    Example:
        >>> find_mode("q4").title
        '4 bits, weights only'
    """
    aliases = {"q8": "int8", "quantized": "int8", "dynamic": "int8", "static": "int8-static", "float16": "fp16"}
    found = MODES.get(aliases.get(name, name))
    if found is not None:
        return found
    near = difflib.get_close_matches(name, MODES, n=1, cutoff=0.5)
    raise UsageError(
        f"mode {name!r} is not known: expected one of {', '.join(MODES)}", fix=f"mode={near[0] if near else 'int8'}"
    )
