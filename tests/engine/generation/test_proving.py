"""Negative controls: graphs of a decoder that are broken on purpose, each in the way that a decoder breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from onnx_magic.engine.exporting import ExportRequest
from onnx_magic.engine.generation.decoders import decoder_parts
from onnx_magic.engine.generation.proving import prove_part
from onnx_magic.engine.planning import prepare_declared
from onnx_magic.engine.sources import resolve_source
from onnx_magic.engine.state import preserved
from onnx_magic.engine.storing import save_graph
from onnx_magic.records.results import Validation
from onnx_magic.runtime.graphs import describe_model

Change = Callable[[onnx_ir.Model], None]


@dataclass(frozen=True)
class Bench:
    """Proves a changed copy of one decoder's graph."""

    exported: Any
    part: Any
    prepared: Any
    folder: Path

    def verdict(self, change: Change) -> Validation:
        model = onnx_ir.load(self.exported.model_path)
        change(model)
        path = self.folder / "changed.onnx"
        save_graph(model, path)
        return prove_part(self.part.walk, path, describe_model(model, path), self.prepared)


@pytest.fixture(scope="module")
def bench(
    exported_decoder: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Bench]]:
    benches = {}
    for name in ("gpt2", "gemma3_text"):
        exported = exported_decoder(name)
        source = resolve_source(exported.source.model)
        request = ExportRequest(source.model)
        (part,) = decoder_parts(source, request)
        prepared = prepare_declared(source, request, part.flat, part.examples, part.output_axes)
        benches[name] = Bench(exported, part, prepared, tmp_path_factory.mktemp(name))
    with preserved(benches["gpt2"].exported.source.model), preserved(benches["gemma3_text"].exported.source.model):
        yield benches.__getitem__


def graph_input(model: onnx_ir.Model, name: str) -> onnx_ir.Value:
    return next(value for value in model.graph.inputs if value.name == name)


def put_in_place(model: onnx_ir.Model, value: onnx_ir.Value, nodes: list[onnx_ir.Node]) -> None:
    """Let all uses of a value read the last of `nodes` instead."""
    model.graph.insert_before(model.graph[0], nodes)
    for node in nodes:
        for output in node.outputs:
            output.name = output.name or f"changed_{node.op_type}_{id(output)}"
    last = nodes[-1].outputs[0]
    for user, place in tuple(value.uses()):
        if user not in nodes:
            user.replace_input_with(place, last)


def constant(array: Any) -> onnx_ir.Node:
    return onnx_ir.node("Constant", [], attributes={"value": onnx_ir.tensor(np.asarray(array))})


def the_same(model: onnx_ir.Model) -> None:
    """Nothing."""


def one_weight(model: onnx_ir.Model) -> None:
    value = model.graph.initializers["transformer.h.1.mlp.c_fc.weight"]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array[3, 5] += 1
    value.const_value = onnx_ir.tensor(array, name=value.name)


def past_of_layer_1(model: onnx_ir.Model) -> None:
    zero = constant(np.float32(0))
    value = graph_input(model, "past_key_values.1.value")
    put_in_place(model, value, [zero, onnx_ir.node("Mul", [value, zero.outputs[0]])])


def no_mask(model: onnx_ir.Model) -> None:
    """All ones, as long as past and tokens together, and no input for it: what an unpadded sample leaves."""
    mask, ids, past = (graph_input(model, n) for n in ("attention_mask", "input_ids", "past_key_values.0.key"))
    rows = onnx_ir.node("Shape", [ids], attributes={"start": 0, "end": 1})
    new = onnx_ir.node("Shape", [ids], attributes={"start": 1, "end": 2})
    old = onnx_ir.node("Shape", [past], attributes={"start": 2, "end": 3})
    total = onnx_ir.node("Add", [new.outputs[0], old.outputs[0]])
    shape = onnx_ir.node("Concat", [rows.outputs[0], total.outputs[0]], attributes={"axis": 0})
    ones = onnx_ir.node("ConstantOfShape", shape.outputs, attributes={"value": onnx_ir.tensor(np.array([1]))})
    put_in_place(model, mask, [rows, new, old, total, shape, ones])
    model.graph.inputs.remove(mask)


def positions_by_count(model: onnx_ir.Model) -> None:
    """Positions counted from the past's length, whatever is padding: what a graph without the input does."""
    positions, past = (graph_input(model, name) for name in ("position_ids", "past_key_values.0.key"))
    zero, one = constant(np.int64(0)), constant(np.int64(1))
    old = onnx_ir.node("Shape", [past], attributes={"start": 2, "end": 3})
    new = onnx_ir.node("Shape", [graph_input(model, "input_ids")])
    length = onnx_ir.node("Gather", [new.outputs[0], one.outputs[0]], attributes={"axis": 0})
    steps = onnx_ir.node("Range", [zero.outputs[0], length.outputs[0], one.outputs[0]])
    counted = onnx_ir.node("Add", [steps.outputs[0], old.outputs[0]])
    rows = onnx_ir.node("Expand", [counted.outputs[0], new.outputs[0]])
    put_in_place(model, positions, [zero, one, old, new, length, steps, counted, rows])
    model.graph.inputs.remove(positions)


def test_the_graph_as_it_is_passes(bench: Callable[[str], Bench]) -> None:
    verdict = bench("gpt2").verdict(the_same)
    assert verdict, [str(finding) for finding in verdict.findings]


def failed_runs(verdict: Validation) -> list[str]:
    return [comparison.label for comparison in verdict.comparisons if not comparison.passed]


def test_a_changed_weight_is_named_by_what_it_moves_first(bench: Callable[[str], Bench]) -> None:
    verdict = bench("gpt2").verdict(one_weight)
    assert verdict.status == "failed"
    assert verdict.failures[0].sentence.startswith("at traced (and at ") and verdict.failures[0].tensor == "logits"


def test_a_past_that_is_ignored_is_named_by_its_layer(bench: Callable[[str], Bench]) -> None:
    verdict = bench("gpt2").verdict(past_of_layer_1)
    first = verdict.failures[0]
    assert (first.code, first.tensor) == ("values-differ", "present.1.value")
    assert "layer 1: present.1.value is off by" in first.sentence
    failed = failed_runs(verdict)
    assert "step 1, batch 1" in failed and "prefill, batch 1" not in failed, "at prefill there is no past to ignore"


def test_a_mask_that_vanished_is_named(bench: Callable[[str], Bench]) -> None:
    verdict = bench("gpt2").verdict(no_mask)
    assert verdict.status == "failed"
    vanished = [finding for finding in verdict.failures if finding.code == "input-vanished"]
    assert [finding.tensor for finding in vanished] == ["attention_mask"]
    failed = failed_runs(verdict)
    assert "prefill, batch 3, left-padded" in failed and "prefill, batch 1" not in failed


def test_positions_that_do_not_know_of_padding_fail_where_it_is_on_the_left(bench: Callable[[str], Bench]) -> None:
    verdict = bench("gpt2").verdict(positions_by_count)
    assert verdict.status == "failed"
    assert [f.tensor for f in verdict.failures if f.code == "input-vanished"] == ["position_ids"]
    failed = failed_runs(verdict)
    assert "prefill, batch 3, left-padded" in failed and "step 1, batch 3, left-padded" in failed
    assert not {"prefill, batch 1", "step 1, batch 1", "prefill, batch 3, right-padded"} & set(failed)


def test_a_window_that_is_forgotten_fails_beyond_it(bench: Callable[[str], Bench]) -> None:
    def forget(model: onnx_ir.Model) -> None:
        """Let every layer look as far as the one that looks at all."""
        masks = [n.inputs[3] for n in model.graph.all_nodes() if n.op_type == "Attention" and len(n.inputs) > 3]
        if not masks:
            window = next(
                value
                for value in model.graph.initializers.values()
                if value.const_value is not None and value.const_value.numpy().reshape(-1).tolist() in ([-12], [12])
            )
            far = np.full_like(window.const_value.numpy(), 10_000)
            window.const_value = onnx_ir.tensor(np.sign(window.const_value.numpy()) * far, name=window.name)

    verdict = bench("gemma3_text").verdict(forget)
    failed = failed_runs(verdict)
    assert "prefill, length 40" in failed and "prefill, batch 1" not in failed


def test_a_graph_that_does_not_run_says_so(bench: Callable[[str], Bench]) -> None:
    def fixed_length(model: onnx_ir.Model) -> None:
        ids = graph_input(model, "input_ids")
        ids.shape = onnx_ir.Shape(["batch_size", 3])

    verdict = bench("gpt2").verdict(fixed_length)
    codes = [finding.code for finding in verdict.failures]
    assert verdict.status == "failed" and "axis-baked" in codes and "run-failed" in codes
