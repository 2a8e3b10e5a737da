"""The proof by tokens: `generate` on ONNX Runtime gives the tokens that PyTorch's `generate` gives, one by one.

Greedy, where the logits of every step are compared too, and with beams. Where two tokens are equally likely within the
tolerance, either is right: from there on the two texts may differ, and what follows is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.comparing import diff_output, tolerances
from onnx_magic.engine.generation.parts import Prompt
from onnx_magic.engine.probing import one_line
from onnx_magic.engine.tensors import to_arrays
from onnx_magic.events import Progress, emit
from onnx_magic.records.findings import Finding
from onnx_magic.records.results import Agreement, Comparison, OutputDiff

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.sources import ModelSource

Array: TypeAlias = np.ndarray[Any, Any]
Generate: TypeAlias = Callable[..., Any]

GREEDY_TOKENS = 40
BEAMS, BEAM_TOKENS = 3, 12
BEAM_PROMPTS = 1
"""Calls of generate that are repeated with beams: each costs as much as the greedy ones."""


@dataclass(frozen=True)
class TokenProof:
    """What generating on both sides showed."""

    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]


@dataclass
class _Tally:
    """What is counted over the rows of several calls."""

    agreed: int = 0
    total: int = 0
    diffs: list[OutputDiff] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tokens: set[int] = field(default_factory=set)
    error: str | None = None


def prove_tokens(
    source: ModelSource,
    host: Any,
    prompts: Sequence[Prompt],
    *,
    atol: float | None = None,
    rtol: float | None = None,
    use_cache: bool = True,
) -> TokenProof:
    """Generate on both sides and compare, token by token.

    Args:
        source: The live model, in eval mode.
        host: An object with GenerationMixin's `generate` that runs the graphs.
        prompts: What to begin from; a batch is padded as `generate` wants it.
    """
    by_dtype, dtype = tolerances(atol, rtol), _precision(source)
    rows = sum(prompt.rows for prompt in prompts)
    count = min([GREEDY_TOKENS, *(prompt.room for prompt in prompts if prompt.room is not None)])
    greedy, beams = _Tally(), _Tally()
    first = 1
    for number, prompt in enumerate(prompts, start=1):
        emit(Progress("verify", number, len(prompts) + BEAM_PROMPTS))
        pair = _both(source, host, prompt, greedy, _options(count, use_cache))
        if pair is not None:
            _compare_greedy(*pair, first, greedy, by_dtype, dtype)
        first += prompt.rows
    widest = max(prompts, key=lambda prompt: prompt.rows)
    pair = _both(source, host, widest, beams, _options(min(count, BEAM_TOKENS), use_cache, BEAMS))
    if pair is not None:
        _compare_beams(*pair, beams, by_dtype, dtype)
    shapes = {name: tuple(tensor.shape) for name, tensor in widest.inputs.items()}
    labels = f"greedy, {count} tokens after {rows} prompts", f"{BEAMS} beams, {min(count, BEAM_TOKENS)} tokens"
    comparisons = [_comparison(label, tally, shapes) for label, tally in zip(labels, (greedy, beams), strict=True)]
    if len(greedy.tokens) == 1 and greedy.total > rows:
        sentence = "every greedy token is the same one: the tokens prove little, the logits that were compared do"
        greedy.findings.append(Finding("tokens-repeat", sentence, level="note"))
    return TokenProof(tuple(comparisons), (*greedy.findings, *beams.findings))


def _options(count: int, use_cache: bool, beams: int = 1) -> dict[str, Any]:
    return {
        "max_new_tokens": count,
        "min_new_tokens": count,
        "do_sample": False,
        "num_beams": beams,
        "num_return_sequences": 1,
        "use_cache": use_cache,
        "output_logits": beams == 1,
        "output_scores": True,
        "return_dict_in_generate": True,
    }


def _both(
    source: ModelSource, host: Any, prompt: Prompt, tally: _Tally, options: Mapping[str, Any]
) -> tuple[Any, Any] | None:
    """What both sides generate; `None` when ONNX Runtime's side raises, which the tally then says."""
    import torch

    device = next(source.model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in prompt.inputs.items()}
    model: Any = source.model
    with torch.no_grad():
        expected = model.generate(**inputs, **options, **prompt.options)
        try:
            actual = host.generate(**prompt.inputs, **options, **prompt.options)
        except Exception as error:  # a broken graph may raise anything on its way through generate
            tally.error = tally.error or f"generate raised: {one_line(error)}"
            sentence = f"generating with the graphs failed: {one_line(error)}"
            if not tally.findings:
                tally.findings.append(Finding("run-failed", sentence))
            return None
    return expected, actual


def _precision(source: ModelSource) -> torch.dtype:
    """The dtype of the model's weights: `generate` hands out float32 copies of logits that are no more precise."""
    found: torch.dtype = next(weight.dtype for weight in source.model.parameters() if weight.is_floating_point())
    return found


def _generated(result: Any, dtype: torch.dtype) -> tuple[Array, list[Array], list[Array]]:
    """The new tokens [rows, steps], the logits (as the model made them) and the scores of every step."""
    scores = list(to_arrays({str(i): t.float() for i, t in enumerate(result.scores or ())}).values())
    logits = list(to_arrays({str(i): t.to(dtype) for i, t in enumerate(result.logits or ())}).values())
    tokens = to_arrays({"": result.sequences})[""]
    return tokens[:, tokens.shape[1] - len(scores) :], logits, scores


def _compare_greedy(
    expected: Any,
    actual: Any,
    first: int,
    tally: _Tally,
    by_dtype: tuple[Mapping[str, float], Mapping[str, float]],
    dtype: torch.dtype,
) -> None:
    wanted, logits, scores = _generated(expected, dtype)
    found, other_logits, _ = _generated(actual, dtype)
    atol, rtol = (table[str(dtype).removeprefix("torch.")] for table in by_dtype)
    steps = min(wanted.shape[1], found.shape[1])
    for row in range(wanted.shape[0]):
        apart = np.flatnonzero(wanted[row, :steps] != found[row, :steps])
        end = int(apart[0]) if len(apart) else steps
        tally.tokens |= set(wanted[row].tolist())
        # At the step of the first other token both had read the same: its logits can still be compared.
        for step in range(min(end + 1, steps)):
            one, two = logits[step][row], other_logits[step][row]
            tally.diffs.append(diff_output("logits", one, two, atol=by_dtype[0], rtol=by_dtype[1]))
        if not len(apart):
            tally.agreed, tally.total = tally.agreed + steps, tally.total + wanted.shape[1]
            continue
        best, other = scores[end][row].max(), scores[end][row][found[row, end]]
        place = f"prompt {first + row}, token {end + 1}"
        if best - other <= 2 * (atol + rtol * abs(float(best))):
            tally.agreed, tally.total = tally.agreed + end + 1, tally.total + end + 1
            sentence = f"{place}: a tie within the tolerance ({best - other:.1e}); what follows was not compared"
            tally.findings.append(Finding("token-tie", sentence, level="note"))
            continue
        tally.agreed, tally.total = tally.agreed + end, tally.total + wanted.shape[1]
        if all(finding.code != "tokens-differ" for finding in tally.findings):
            tally.findings.append(
                Finding(
                    "tokens-differ",
                    f"{place} is {found[row, end]}, PyTorch's is {wanted[row, end]} (ahead by {best - other:.1e})",
                    tensor="logits",
                )
            )


def _compare_beams(
    expected: Any,
    actual: Any,
    tally: _Tally,
    by_dtype: tuple[Mapping[str, float], Mapping[str, float]],
    dtype: torch.dtype,
) -> None:
    arrays = to_arrays(
        {
            "wanted": expected.sequences,
            "found": actual.sequences,
            "scores": expected.sequences_scores.to(dtype),
            "other": actual.sequences_scores.to(dtype),
        }
    )
    wanted, found = arrays["wanted"], arrays["found"]
    new = len(expected.scores)
    diff = diff_output("sequences_scores", arrays["scores"], arrays["other"], atol=by_dtype[0], rtol=by_dtype[1])
    tally.diffs.append(diff)
    for row in range(wanted.shape[0]):
        same = wanted.shape == found.shape and np.array_equal(wanted[row], found[row])
        gap = abs(float(arrays["scores"][row] - arrays["other"][row]))
        # Two beams of one score are both right; which of them is kept turns on the last bit of a sum.
        tied = gap <= 2 * diff.atol
        tally.total += new
        tally.agreed += new if same or tied else 0
        if same:
            continue
        level: Any = "note" if tied else "failure"
        code = "token-tie" if tied else "tokens-differ"
        says = "another beam with the same score" if tied else "another beam than PyTorch's"
        sentence = f"beam search on row {row + 1} of the batch gives {says} (scores {gap:.1e} apart)"
        tally.findings.append(Finding(code, sentence, level=level))


def _comparison(label: str, tally: _Tally, shapes: Mapping[str, tuple[int, ...]]) -> Comparison:
    agreed = Agreement("token", tally.agreed, tally.total) if tally.total else None
    return Comparison(label, shapes, _worst(tally.diffs), agreed, tally.error)


def _worst(diffs: Sequence[OutputDiff]) -> tuple[OutputDiff, ...]:
    """All steps as one difference: the worst of each number."""
    if not diffs:
        return ()
    worst = max(diffs, key=lambda diff: (not diff.passed, diff.max_abs))
    return (
        replace(
            worst,
            max_rel=max(diff.max_rel for diff in diffs),
            cosine=min(diff.cosine for diff in diffs),
            finite=all(diff.finite for diff in diffs),
            passed=all(diffs),
            worst=None,
        ),
    )
