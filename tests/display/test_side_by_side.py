"""PyTorch beside ONNX Runtime and variants."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_magic.display.bundles import bundle
from onnx_magic.display.side_by_side import answer_rows
from onnx_magic.records.results import Comparison, RunResult, SideBySide, VariantAnswer


def text_of(record: object) -> str:
    return bundle(record)["text/plain"]


def test_what_differs_says_so_in_words(build: Callable[[str], object]) -> None:
    differing = bundle(build("differing"))
    assert differing["text/plain"].count("✗ differs") == 1
    assert "✗ differs" in differing["text/html"]
    assert "differs" not in text_of(build("agreeing"))


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("agreeing", "✓ agrees: ONNX Runtime agrees with PyTorch in 1 call · max |Δ| ≤ 1e-6 · label 2/2"),
        ("differing", "✗ FAILED: ONNX Runtime differs from PyTorch in 2 of 3 calls: call 2: logits differs"),
        ("no_call", "! unchecked: no call of the model was compared; the values of the two runs are the same"),
    ],
)
def test_first_line(build: Callable[[str], object], name: str, beginning: str) -> None:
    assert text_of(build(name)).startswith(beginning)


def test_answers_that_differ_under_tensors_that_agree_are_not_green(build: Callable[[str], Any]) -> None:
    pair = dataclasses.replace(build("agreeing"), actual="something else")
    assert text_of(pair).startswith("! look: the model's outputs agree in 1 call, but 3 of 3 values differ")
    assert "nothing" in text_of(pair)


def test_no_call_and_other_values() -> None:
    assert "1 of 1 value differs" in text_of(SideBySide("a", "b"))


def test_a_list_of_numbers_is_one_value_and_a_long_list_is_folded() -> None:
    numbers = [0.5] * 768
    assert text_of(SideBySide(numbers, numbers)).count("\n") < 8
    texts = [f"sample {n}" for n in range(5000)]
    shown = bundle(SideBySide(texts, texts))
    assert "… and 4980 more rows" in shown["text/plain"] and "4780 more rows" in shown["text/html"]
    assert len(shown["text/html"]) < 250_000


def test_values_of_a_cell_of_every_kind() -> None:
    torch = pytest.importorskip("torch")
    modeling_outputs = pytest.importorskip("transformers.modeling_outputs")
    output = modeling_outputs.SequenceClassifierOutput(logits=torch.tensor([[0.5, -0.5]]))
    other = modeling_outputs.SequenceClassifierOutput(logits=torch.tensor([[0.5, -0.7]]))
    row = next(line for line in text_of(SideBySide(output, other)).splitlines() if line.startswith("logits"))
    assert "0.500, »-0.500«" in row and "float32[1, 2] 0.500, »-0.700«" in row and row.endswith("✗ differs")


def test_variants_stand_in_columns_and_do_not_decide(build: Callable[[str], Any]) -> None:
    side = build("variants")
    shown = text_of(side)
    assert side and shown.startswith("✓ agrees: ONNX Runtime agrees with PyTorch in 1 call")
    head = next(line for line in shown.splitlines() if line.startswith("answer"))
    assert re.split(r"  +", head) == ["answer", "PyTorch", "ONNX Runtime", "int8", "q4", "fp16", "result"]
    for line in ("✓ int8: within the tolerance in 1 call", "✗ fp16: call 1: Cast: no kernel", "the variant is stale"):
        assert line in shown
    assert "! q4: beyond the tolerance in 1 of 1 call" in shown and "✗ q4, fp16" in shown


def test_a_variant_that_means_something_else_is_worse_than_one_that_drifts(build: Callable[[str], Any]) -> None:
    wrong = build("differing").comparison[1]
    shown = text_of(dataclasses.replace(build("agreeing"), others={"q4": VariantAnswer(None, (wrong,))}))
    assert "✗ q4: beyond the tolerance in 1 of 1 call" in shown


def test_a_variant_is_judged_by_what_it_was_verified_with(build: Callable[[str], Any]) -> None:
    alike = build("agreeing")
    tried = tuple(dataclasses.replace(one, rule="cosine 0.9 or more") for one in alike.comparison)
    own = VariantAnswer(alike.actual, tried)
    shown = text_of(dataclasses.replace(alike, others={"q4": own}))
    assert "✓ q4: within the rule of its verdict (cosine 0.9 or more) in" in shown


def test_a_long_output_shows_its_largest_values(build: Callable[[str], Any]) -> None:
    (first, second) = (line for line in text_of(build("long_outputs")).splitlines() if line.startswith("logits["))
    assert first.startswith("logits[0] largest") and first.endswith("✓ same")
    assert "»1.000« at [499]" in second and "»3.500« at [7]" in second and second.endswith("✗ differs")


def test_how_many_are_shown_is_the_users_choice() -> None:
    values = RunResult({"y": np.arange(40.0).reshape(2, 20)})
    for top_k, count in ((None, 3), (1, 1), (5, 5)):
        assert answer_rows((values, values), top_k)[0].cells[0].text.count(" at ") == count


def test_what_differs_is_not_folded_away() -> None:
    texts = [f"sample {n}" for n in range(100)]
    other = [*texts[:90], "another", *texts[91:]]
    shown = text_of(SideBySide(texts, other)).splitlines()
    assert next(line for line in shown if line.startswith("90 ")).endswith("✗ differs")


def test_token_sequences_are_marked_at_the_first_other_token() -> None:
    torch = pytest.importorskip("torch")
    tokens = torch.arange(40).reshape(2, 20)
    other = tokens.clone()
    other[1, 9:] = 7
    same, differs = answer_rows((tokens, other, tokens.tolist()[1]))[:2]
    assert same.alike[:2] == (True, True)
    assert [cell.text[slice(*cell.mark)] for cell in differs.cells[:2] if cell.mark] == ["29", "7"]
    assert differs.cells[0].text == "token 9: …, 26, 27, 28, 29, 30, 31, 32, …"


def test_samples_of_a_huge_batch_share_a_row() -> None:
    values = np.zeros((1000, 20), np.float32)
    other = values.copy()
    other[999] = 1
    rows = answer_rows((values, other))
    assert len(rows) == 65 and not rows[-1].alike[1] and all(row.alike[1] for row in rows[:-1])
    assert rows[-1].name == "[64:] largest"


def test_times_are_shown_where_they_were_measured_and_nowhere_else(build: Callable[[str], Any]) -> None:
    asked, plain = build("timed"), build("agreeing")
    assert text_of(asked).startswith(text_of(plain)) and "21.3 ms" in text_of(asked)
    assert " ms" not in text_of(plain)
    result = dataclasses.replace(plain.expected, seconds=12.5)
    assert bundle(dataclasses.replace(plain, expected=result)) == bundle(plain)


@pytest.mark.parametrize("nasty", ["<img src=x onerror=alert(1)>", "</script>", "\"'><b>", "x" * 10_000, "输入"])
def test_no_name_breaks_out(nasty: str, page: Any, build: Callable[[str], Any]) -> None:
    diff = dataclasses.replace(build("closely").diffs[0], name=nasty)
    tried = (Comparison(nasty, {nasty: (1,)}, (diff,)),)
    values = [RunResult({nasty: np.zeros((2, 20))}), RunResult({nasty: np.ones((2, 20))})]
    for pair in (values, [[nasty], [nasty + "!"]], [{nasty: nasty}, {nasty: 1}]):
        shown = bundle(SideBySide(pair[0], pair[1], tried, (nasty,), {nasty: VariantAnswer(pair[1], tried, (nasty,))}))
        parsed = page(shown["text/html"])
        assert not {"script", "b"} & set(parsed.tags) and "onerror" not in {name for _, name, _ in parsed.attributes}
        sources = [value for tag, name, value in parsed.attributes if tag == "img" and name == "src"]
        assert len(sources) == parsed.tags.count("img") == 2
        assert len(shown["text/html"]) < 40_000


def test_a_large_tensor_makes_no_large_page() -> None:
    """64 samples of 64 × 3000, every value off: the page does not grow with the tensor."""
    from onnx_magic.engine.comparing import compare_outputs

    one = np.random.default_rng(0).standard_normal((64, 64, 3000)).astype(np.float32)
    tried = compare_outputs("given", {"y": one}, {"y": one + 1}, {}, closeup=True)
    side = SideBySide(RunResult({"y": one}), RunResult({"y": one + 1}), (tried,))
    assert len(bundle(side)["text/html"]) < 100_000
