"""Plans as planning makes them, for tables that are edited: no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import UsageError
from onnx_magic.records.plan import Decision, ExportPlan, TensorSpec

AXES = {"input_ids": {0: "batch_size", 1: "sequence_length"}, "attention_mask": {0: "batch_size", 1: "sequence_length"}}


class Planner:
    """Plans again as the engine does: an axis that moves with a named one takes its name; `calls` holds the wishes."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fail: BaseException | None = None

    def __call__(self, wish: Any) -> ExportPlan:
        self.calls.append(wish)
        if self.fail is not None:
            raise self.fail
        new: dict[str, str] = {}
        for tensor, moving in (wish or {}).items():
            for axis, name in moving.items():
                if axis not in AXES.get(tensor, {}):
                    raise UsageError(f"{tensor}[{axis}] cannot be dynamic: the model does not run at another size")
                new[AXES[tensor][axis]] = name
        names = {name: name for name in AXES["input_ids"].values()} if wish is None else new
        inputs = tuple(
            TensorSpec(t, "int64", tuple(names.get(moving[a], size) for a, size in enumerate((2, 19))))
            for t, moving in AXES.items()
        )
        extra = TensorSpec("bias", "float32", (3,))
        outputs = (TensorSpec("logits", "float32", (names.get("batch_size", 2), 5), "output"),)
        by = "probe" if wish is None else "user"
        decisions = [Decision(f"{s.name}[{a}]", n, by) for s in inputs for a, n in s.dynamic_axes.items()]
        examples = {"input_ids": np.zeros((2, 19), "int64"), "attention_mask": np.ones((2, 19), "int64")}
        return ExportPlan(
            name="mini",
            task="text-classification",
            architecture="Mini",
            inputs=(*inputs, extra),
            outputs=outputs,
            examples={**examples, "bias": np.zeros(3, "float32")},
            opset=18,
            decisions=tuple(decisions),
        )


@pytest.fixture
def planner() -> Planner:
    """Makes plans and remembers what it was asked."""
    return Planner()


@pytest.fixture
def draft(planner: Planner) -> Any:
    """The axes of that plan, not edited yet."""
    from onnx_magic.widgets.axes_draft import AxesDraft

    base = planner(None)
    planner.calls.clear()
    return AxesDraft(base, base, planner)


@pytest.fixture
def texts(draft: Any) -> Callable[[], list[list[str]]]:
    """What the cells hold, a list per row."""
    return lambda: [[cell["text"] for cell in row["cells"]] for row in draft.rows()]
