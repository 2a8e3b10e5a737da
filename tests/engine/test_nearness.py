"""The one rule by which variants are judged: what passes, what does not, and what a tie is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.engine.nearness import Rule, compare_near, rule_of, sizes_of

RULE = Rule(cosine=0.95, drift=2.0)
RANDOM = np.random.default_rng(0)
WIDE = RANDOM.standard_normal((4, 64)).astype(np.float32)


def near(expected: Any, actual: Any, rule: Rule = RULE, task: str | None = None) -> Any:
    return compare_near("t", {"logits": np.float32(expected)}, {"logits": np.float32(actual)}, {}, rule, task=task)


def noise(share: float) -> Any:
    return WIDE + share * RANDOM.standard_normal(WIDE.shape).astype(np.float32)


def test_a_variant_may_drift_but_must_point_where_the_reference_points() -> None:
    assert near(WIDE, noise(0.2)) and near(WIDE, noise(0.2)).rule == str(RULE)
    turned = near(WIDE, noise(0.5))
    assert not turned, "within 2 times the output's size everywhere, and yet another direction"
    assert turned.diffs[0].max_abs < turned.diffs[0].atol and turned.diffs[0].cosine < 0.95
    far = WIDE.copy()
    far[0, 0] += 7
    assert near(WIDE, far).diffs[0].cosine > 0.9 and not near(WIDE, far, Rule(0.5, 2.0)), "one value beyond the drift"


def test_a_verdict_asks_the_cosine_of_all_shapes_together() -> None:
    sides = {"y": WIDE}, {"y": noise(0.5)}
    assert compare_near("t", *sides, {}, RULE, alone=False) and not compare_near("t", *sides, {}, RULE)


def test_logits_that_nearly_tie_may_turn_over() -> None:
    usual = Rule(0.95, 2.0, {"logits": 3.0})
    tie = near([[0.2, -0.2]], [[-0.2, 0.2]], usual, "text-classification")
    assert tie.diffs[0].cosine < 0 and tie and tie.agreement
    assert not near([[0.2, -0.2]], [[-0.2, 0.2]], RULE), "with no size known, these are all there is"
    # negative control: the reference leads by more than the cosine's share of the usual size, 0.31 * 3 for each score
    flipped = near([[1.5, -1.5]], [[-0.1, 0.1]], usual, "text-classification")
    assert not flipped and not flipped.agreement


def test_whole_numbers_and_missing_outputs() -> None:
    ids = {"ids": np.array([1, 2])}
    assert not compare_near("t", ids, {"ids": np.array([1, 3])}, {}, RULE)
    assert compare_near("t", ids, {}, {}, RULE).error == "the graph has no output ids"


def test_the_sizes_of_a_verdict_are_kept() -> None:
    tried = near(WIDE, WIDE)
    assert sizes_of([tried], 2.0)["logits"] == pytest.approx(float(np.sqrt(np.mean(WIDE.astype(float) ** 2))))


def test_compare_and_the_cell_judge_as_the_verdict_did(raising_shell: Any, workdir: Any) -> None:
    """A good int8 variant passes in both; one with a broken scale, whose values drift little, fails in both."""
    import onnx
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Tanh(), torch.nn.Linear(64, 48)).eval()
    x = torch.randn(3, 32)
    exported = onnx_magic.export(net, inputs=(x,), output=workdir / "net-onnx")
    small = exported.quantize("int8").require_verified()
    rule = rule_of(small.made)
    assert rule is not None and rule.sizes and rule_of(exported.made) is None
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(net=net, x=x, exported=exported, torch=torch)

    def both() -> tuple[Any, Any]:
        raising_shell.run("%%onnx_run exported variants=int8 as=side\nwith torch.no_grad():\n    y = net(x)\ny")
        return onnx_magic.compare(small, x), raising_shell.user_ns["side"].others["int8"].comparison[0]

    for good in both():
        assert good and good.rule == str(rule)
    assert "judged as the variant's own verdict was: cosine 0.95" in bundle(onnx_magic.compare(small, x))["text/plain"]
    graph = onnx.load(small.model_path)
    scale = [t for t in graph.graph.initializer if t.name.endswith("_scale")][-1]
    values = onnx.numpy_helper.to_array(scale).copy()
    values[::2] *= -0.5
    scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))
    onnx.save(graph, small.model_path)
    small = onnx_magic.load(workdir / "net-onnx", variant="int8")
    broken = onnx_magic.compare(small, x, against=net)
    assert not broken and broken.diffs[0].cosine < 0.95
    sides = ({"output": one.run(x)["output"]} for one in (exported, small))
    assert compare_near("t", *sides, {}, rule, alone=False), "the drift alone lets it pass"
    raising_shell.run("%%onnx_run exported variants=int8 as=side\nwith torch.no_grad():\n    y = net(x)\ny")
    assert not raising_shell.user_ns["side"].others["int8"].comparison[0]
    assert "beyond the rule of its verdict" in bundle(raising_shell.user_ns["side"])["text/plain"]
    assert onnx_magic.compare(small, x, against=net, atol=100.0), "a tolerance that is given goes before the rule"
