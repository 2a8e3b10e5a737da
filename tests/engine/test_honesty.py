"""What tries to be called verified and is not right; and beside each, the right thing that must stay verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch

import onnx_magic
from onnx_magic.engine.deciding import untested_branches
from onnx_magic.engine.flat import FlatModel, bind_call
from onnx_magic.engine.validating import validate
from onnx_magic.errors import InputsError

Prepare = Callable[..., Any]
WriteGraph = Callable[..., Any]


def codes(exported: Any) -> list[str]:
    return [finding.code for finding in exported.validation.failures]


def module(forward: Callable[..., Any]) -> torch.nn.Module:
    """A module of one function."""
    return type("Made", (torch.nn.Module,), {"forward": lambda self, x: forward(x)})()


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Branches on values: TorchScript keeps the one that the traced inputs took.


def test_a_branch_that_no_input_left_is_not_verified(workdir: Path) -> None:
    exported = onnx_magic.export(module(lambda x: x * 2 if x.mean() > -100 else x * 3), inputs=values(2, 4))
    assert all(exported.validation.comparisons), "every input that was tried took the traced branch"
    assert exported.validation.status == "unchecked" and exported.validation.inconclusive
    (finding,) = exported.validation.failures
    assert finding.code == "branch-untested" and (finding.line or "").startswith("tests/engine/test_honesty.py:")


def test_a_branch_that_some_input_left_is_wrong(workdir: Path) -> None:
    exported = onnx_magic.export(module(lambda x: x * 2 if x[0, 0] > 0 else x * 3), inputs=values(2, 4))
    assert exported.validation.status == "failed" and "branch-untested" not in codes(exported)


def test_python_that_looks_at_sizes_and_weights_alone_is_no_branch(workdir: Path) -> None:
    class Looks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("gain", torch.tensor([3.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ones = torch.ones_like(x)
            return x * self.gain.item() if ones.all() and len(x) else x

    exported = onnx_magic.export(Looks(), inputs=values(2, 4), exporter="torchscript")
    assert exported.validation.status == "verified"


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (lambda x: x * int(x.clamp(5, 5).max()), True),
        (lambda x: x + sum((x > 99).flatten().tolist()), True),
        (lambda x: x + torch.zeros(1).add_(x.sum() * 0).item(), True),
        (lambda x: x * x.max().item(), False),
        (lambda x: x * float(torch.zeros(1)), False),
        (lambda x: x[: x.shape[0]], False),
    ],
)
def test_what_python_is_told_of_the_inputs(look: Callable[..., Any], found: bool) -> None:
    binding, _ = bind_call(module(look), (values(2, 4),), {})
    feeds = [{"x": values(rows, 4).numpy() * rows} for rows in (2, 3, 4)]
    assert [f.code for f in untested_branches(FlatModel(module(look), binding), feeds)] == ["branch-untested"] * found


# Sizes at which the code turns: tracing knows them, so they are tried.


@pytest.mark.parametrize("turn", [lambda n: n == 6, lambda n: n > 40, lambda n: n % 3 == 0])
def test_a_size_at_which_the_code_turns_is_tried(turn: Callable[[int], bool], workdir: Path) -> None:
    turning = module(lambda x: x * 5 if turn(x.shape[0]) else x * 2)
    asked = onnx_magic.export(turning, inputs=values(2, 4), dynamic="batch_size", output="asked")
    assert asked.validation.status == "failed" and "axis-baked" in codes(asked)
    left = onnx_magic.export(turning, inputs=values(2, 4), output="left")
    assert left.validation and left.inputs[0].shape[0] == 2, "an axis that cannot be right is static"


def test_a_small_size_that_the_code_names_is_tried(workdir: Path) -> None:
    exported = onnx_magic.export(module(lambda x: x * 5 if x.shape[1] < 3 else x * 2), inputs=values(2, 20))
    assert exported.validation and exported.inputs[0].shape == ("batch_size", 20)


def test_a_turn_to_another_way_of_the_same_answer_stays_dynamic(workdir: Path) -> None:
    same = module(lambda x: x + x if x.shape[0] > 40 else x * 2)
    exported = onnx_magic.export(same, inputs=values(2, 4))
    assert exported.validation and exported.inputs[0].shape[0] == "batch_size"
    assert {"batch 41"} & {comparison.label for comparison in exported.validation.comparisons}


def test_a_position_table_is_a_limit_and_no_failure(workdir: Path) -> None:
    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(values(12, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.table[: x.shape[1]]

    exported = onnx_magic.export(Table(), inputs=values(2, 5, 4))
    assert exported.validation and not exported.validation.findings
    assert isinstance(exported.inputs[0].shape[1], str)


# Outputs below the tolerance.


def tiny() -> torch.nn.Module:
    return module(lambda x: (x * 2, x.sin() * 1e-6))


def test_an_output_below_the_tolerance_is_held_to_its_own_scale(
    tmp_path: Path, prepared: Prepare, write_graph: WriteGraph
) -> None:
    def wrong(model: onnx_ir.Model) -> None:
        for node in model.graph:
            if node.op_type == "Sin":
                node.op_type = "Cos"

    with prepared(tiny(), inputs=values(2, 4)) as plan:
        right = write_graph(plan, tmp_path / "right.onnx")
        assert validate(right.path, right, plan).status == "verified"
        graph = write_graph(plan, tmp_path / "wrong.onnx", change=wrong)
        verdict = validate(graph.path, graph, plan)
        assert all(verdict.comparisons), "the tolerance alone lets it pass"
        assert verdict.status == "unchecked"
        (finding,) = verdict.failures
        assert finding.code == "below-tolerance" and finding.tensor == "output_1"
        tight = float(finding.fix.removeprefix("atol="))
        assert validate(graph.path, graph, plan, atol=tight).status == "failed"
        assert validate(right.path, right, plan, atol=tight).status == "verified"


def test_a_model_of_tiny_outputs_is_verified_where_it_is_followed(workdir: Path) -> None:
    assert onnx_magic.export(module(lambda x: x.sin() * 1e-7), inputs=values(2, 4)).validation.status == "verified"


# PyTorch itself.


@pytest.mark.parametrize("forward", [lambda x: x + torch.rand_like(x), lambda x: torch.dropout(x, 0.5, True)])
def test_a_forward_that_draws_random_numbers_is_said_to(forward: Callable[..., Any], workdir: Path) -> None:
    exported = onnx_magic.export(module(forward), inputs=values(2, 4))
    assert exported.validation.status == "failed" and codes(exported)[0] == "not-repeatable"
    assert exported.report.exporter == "dynamo", "another way would be no righter"


def test_a_wrong_graph_of_a_sound_model_is_not_called_unrepeatable(
    tmp_path: Path, prepared: Prepare, write_graph: WriteGraph
) -> None:
    def wrong(model: onnx_ir.Model) -> None:
        next(node for node in model.graph if node.op_type == "Sin").op_type = "Cos"

    with prepared(module(torch.sin), inputs=values(2, 4)) as plan:
        graph = write_graph(plan, tmp_path / "m.onnx", change=wrong)
        found = {finding.code for finding in validate(graph.path, graph, plan).failures}
    assert "values-differ" in found and "not-repeatable" not in found


def test_a_forward_that_works_in_place_is_verified_and_the_users_tensor_is_his(workdir: Path) -> None:
    x = values(2, 4)
    before = x.clone()
    exported = onnx_magic.export(module(lambda x: x.mul_(2) + 1), inputs=x)
    assert exported.validation.status == "verified" and torch.equal(x, before)


def test_ties_are_not_made_where_the_user_gave_none(workdir: Path) -> None:
    exported = onnx_magic.export(module(lambda x: torch.topk(x, 3)), inputs=values(2, 6))
    assert exported.validation.status == "verified"


def test_codes_among_floats_stay_codes(prepared: Prepare) -> None:
    mask = torch.tensor([[0.0, -np.inf, 0.5], [0.0, 0.0, -np.inf]])
    with prepared(module(lambda x: x.softmax(-1)), inputs=mask) as plan:
        assert set(np.unique(plan.examples.at(3, batch_size=50)["x"])) <= {0.0, -np.inf, 0.5}


@pytest.mark.parametrize("nothing", [lambda x: None, lambda x: 3])
def test_a_forward_without_a_tensor_is_an_error_of_the_inputs(nothing: Callable[..., Any], workdir: Path) -> None:
    with pytest.raises(InputsError, match="returned no tensor"):
        onnx_magic.export(module(nothing), inputs=values(2, 4))
