"""The proof by tokens: what counts as another token, what as a tie, and that a broken graph is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir
import pytest
import torch

from onnx_magic.engine.exporting import ExportRequest
from onnx_magic.engine.generation.hosting import host_model
from onnx_magic.engine.generation.prompts import decoder_prompts
from onnx_magic.engine.generation.tokens import TokenProof, prove_tokens
from onnx_magic.engine.sources import resolve_source
from onnx_magic.engine.storing import save_graph


class Sayer:
    """Stands for a side that generates: greedy by these logits [steps, vocabulary], and one beam of this score."""

    def __init__(self, logits: list[list[float]], score: float = -1.0, beam: tuple[int, ...] = (1, 2)) -> None:
        self.logits, self.score, self.beam = torch.tensor(logits), score, beam
        self.dtype = torch.float32

    def parameters(self) -> Any:
        return iter([torch.zeros(1, dtype=self.dtype)])

    def generate(self, input_ids: torch.Tensor, **options: Any) -> Any:
        if options["num_beams"] > 1:
            sequences, scores = torch.tensor([[7, *self.beam]]), tuple(torch.zeros(1, 4) for _ in self.beam)
            return SimpleNamespace(
                sequences=sequences, scores=scores, logits=None, sequences_scores=torch.tensor([self.score])
            )
        steps = tuple(row[None] for row in self.logits)
        tokens = self.logits.argmax(dim=-1)
        return SimpleNamespace(sequences=torch.cat([input_ids, tokens[None]], dim=1), logits=steps, scores=steps)


def proof(expected: Sayer, actual: Sayer) -> TokenProof:
    from onnx_magic.engine.generation.parts import Prompt

    source: Any = SimpleNamespace(model=expected)
    return prove_tokens(source, actual, [Prompt({"input_ids": torch.tensor([[7]])})])


CLEAR = [[0.0, 3.0, 1.0, 0.0], [0.0, 1.0, 4.0, 0.0], [2.0, 0.0, 0.0, 0.0]]


def test_the_same_tokens_agree() -> None:
    found = proof(Sayer(CLEAR), Sayer(CLEAR))
    assert [str(comparison.agreement) for comparison in found.comparisons] == ["token 3/3", "token 2/2"]
    assert all(found.comparisons) and not found.findings


def test_another_token_is_named_by_prompt_and_place() -> None:
    other = [CLEAR[0], [0.0, 4.5, 4.0, 0.0], CLEAR[2]]
    found = proof(Sayer(CLEAR), Sayer(other))
    assert str(found.comparisons[0].agreement) == "token 1/3" and not found.comparisons[0]
    (finding,) = found.findings
    assert (finding.code, finding.level) == ("tokens-differ", "failure")
    assert finding.sentence == "prompt 1, token 2 is 1, PyTorch's is 2 (ahead by 3.0e+00)"


def test_a_tie_is_said_and_what_follows_is_not_compared() -> None:
    tied = [CLEAR[0], [0.0, 4.0, 4.00005, 0.0], CLEAR[2]]
    turned = [CLEAR[0], [0.0, 4.00002, 4.0, 0.0], [0.0, 9.0, 0.0, 0.0]]
    found = proof(Sayer(tied), Sayer(turned))
    assert str(found.comparisons[0].agreement) == "token 2/2" and found.comparisons[0]
    (finding,) = found.findings
    assert (finding.code, finding.level) == ("token-tie", "note")
    assert finding.sentence.startswith("prompt 1, token 2: a tie within the tolerance")


def test_logits_that_are_off_fail_though_the_tokens_agree() -> None:
    off = [[0.0, 3.0, 1.2, 0.0], *CLEAR[1:]]
    found = proof(Sayer(CLEAR), Sayer(off))
    assert found.comparisons[0].agreement and not found.comparisons[0]
    assert found.comparisons[0].max_abs == pytest.approx(0.2)


@pytest.mark.parametrize(("off", "passes"), [(0.02, True), (0.2, False)])
def test_a_model_in_half_precision_is_held_to_what_that_can_tell(off: float, passes: bool) -> None:
    """`generate` gives float32 logits whatever the model computes in; two halves next to 4 are 0.004 apart."""
    other = [[0.0, 3.0 + off, 1.0, 0.0], *CLEAR[1:]]
    half = Sayer(CLEAR)
    half.dtype = torch.float16
    assert bool(proof(half, Sayer(other)).comparisons[0]) is passes
    assert not proof(Sayer(CLEAR), Sayer(other)).comparisons[0], "in float32 either is too much"


def test_another_beam_of_another_score_fails_and_one_of_the_same_is_a_tie() -> None:
    found = proof(Sayer(CLEAR), Sayer(CLEAR, score=-1.3, beam=(1, 3)))
    assert [finding.code for finding in found.findings] == ["tokens-differ"] and not found.comparisons[1]
    found = proof(Sayer(CLEAR), Sayer(CLEAR, score=-1.00001, beam=(1, 3)))
    assert [(f.code, f.level) for f in found.findings] == [("token-tie", "note")] and found.comparisons[1]


def test_one_token_for_ever_is_noted() -> None:
    found = proof(Sayer([CLEAR[0]] * 3), Sayer([CLEAR[0]] * 3))
    assert [finding.code for finding in found.findings] == ["tokens-repeat"]


def test_a_side_that_raises_fails() -> None:
    class Broken(Sayer):
        def generate(self, input_ids: torch.Tensor, **options: Any) -> Any:
            raise ValueError("no such axis")

    found = proof(Sayer(CLEAR), Broken(CLEAR))
    assert not any(found.comparisons)
    assert found.comparisons[0].error == "generate raised: ValueError: no such axis"
    assert {finding.code for finding in found.findings} == {"run-failed"}


def test_a_graph_with_another_weight_generates_other_tokens(
    exported_decoder: Callable[[str], Any], tmp_path: Path
) -> None:
    """The control on the real thing: one weight of the graph is changed, and `generate` says other tokens."""
    exported = exported_decoder("gpt2")
    model = onnx_ir.load(exported.model_path)
    value = model.graph.initializers["transformer.h.1.mlp.c_fc.weight"]
    assert value.const_value is not None
    value.const_value = onnx_ir.tensor(value.const_value.numpy()[::-1].copy(), name=value.name)
    save_graph(model, tmp_path / "changed.onnx")
    source = resolve_source(exported.source.model)
    host = host_model(source.config, type(source.model), {"model": tmp_path / "changed.onnx"})
    found = prove_tokens(source, host, decoder_prompts(source, ExportRequest(source.model))[:1])
    assert not found.comparisons[0]
    assert any(finding.code == "tokens-differ" for finding in found.findings)
