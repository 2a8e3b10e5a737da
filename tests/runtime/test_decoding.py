"""The decoders against Transformers' pipelines: the pipeline runs PyTorch, the decoder gets PyTorch's own logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import UsageError
from onnx_magic.runtime.decoding import decode
from onnx_magic.runtime.spans import MAX_ANSWER_TOKENS
from onnx_magic.runtime.tokenizing import Encoded, TextTokenizer, load_tokenizer

TEXTS = ["the cat sat on the mat .", "unhappy dog ran fast in paris", "ada"]


class Both:
    """A tiny PyTorch model with its pipeline, and our decoder on the logits of the same model."""

    def __init__(self, folder: Path, model: Any, task: str, labels: dict[int, str] | None = None) -> None:
        from transformers import AutoTokenizer, pipeline

        self.theirs = AutoTokenizer.from_pretrained(folder)
        self.pipeline = pipeline(task, model=model, tokenizer=self.theirs)
        self.tokenizer: TextTokenizer = load_tokenizer(folder)
        self.model, self.task, self.labels = model, task, labels or {}

    def decoded(self, texts: list[str], **options: Any) -> Any:
        import torch

        encoded = self.tokenizer.encode(texts)
        with torch.no_grad():
            output = self.model(**{name: torch.from_numpy(array) for name, array in encoded.arrays.items()})
        outputs = {name: value.numpy() for name, value in output.items()}
        problem = getattr(self.model.config, "problem_type", None)
        return decode(
            self.task, outputs, encoded.arrays, encoded, self.labels, self.tokenizer, problem_type=problem, **options
        )


@pytest.fixture
def both(tmp_path: Path, save_tokenizer: Callable[..., Path], tiny_bert: Callable[..., Any]) -> Callable[..., Both]:
    def make(head: str, task: str, **config: Any) -> Both:
        folder = save_tokenizer(tmp_path / "t")
        model = tiny_bert(head, **config)
        return Both(folder, model, task, model.config.id2label)

    return make


def close(found: Any, expected: Any) -> None:
    """Same structure and words, numbers within 1e-5."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            close(ours, theirs)
    elif isinstance(expected, float | np.floating):
        assert found == pytest.approx(float(expected), abs=1e-5)
    else:
        assert found == expected


NAMES = {"id2label": {0: "BAD", 1: "SO-SO", 2: "GOOD"}}


@pytest.mark.parametrize(
    "config",
    [
        NAMES,
        {"num_labels": 4},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {**NAMES, "problem_type": "multi_label_classification"},
        {**NAMES, "problem_type": "regression"},
    ],
)
def test_text_classification(both: Callable[..., Both], config: dict[str, Any]) -> None:
    case = both("SequenceClassification", "text-classification", **config)
    close(case.decoded(TEXTS), [case.pipeline(text)[0] for text in TEXTS])
    close(case.decoded(TEXTS, top_k=2), [case.pipeline(text, top_k=2) for text in TEXTS])


def test_token_classification(both: Callable[..., Both]) -> None:
    labels = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC", 5: "MISC"}
    case = both("TokenClassification", "token-classification", id2label=labels)
    long = ["the cat sat on the mat . ada lives in paris , france ; unhappy dogs ran fast", "un ##happy"]
    found = case.decoded(long + TEXTS)
    expected = [case.pipeline(text, aggregation_strategy="simple") for text in long + TEXTS]
    assert sum(map(len, expected)) > 5
    for text, ours, theirs in zip(long + TEXTS, found, expected, strict=True):
        for entity in (*ours, *theirs):
            # The pipeline joins tokens into words; ours are the words of the text itself.
            entity["word"] = text[entity["start"] : entity["end"]] if entity in theirs else entity["word"]
        close(ours, theirs)


def test_entities_of_one_kind_are_two_when_the_second_begins_anew() -> None:
    encoded = Encoded(
        {},
        ("ada bob eve",),
        (((0, 3), (4, 7), (8, 11)),),
        ((0, 1, 2),),
        ((0, 0, 0),),
        np.zeros((1, 3), bool),
    )
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    logits = np.full((1, 3, 3), -9.0)
    for token, label in enumerate([1, 1, 2]):
        logits[0, token, label] = 9
    found = decode("token-classification", {"logits": logits}, {}, encoded, labels)
    assert [(e["entity_group"], e["word"], e["start"]) for e in found[0]] == [("PER", "ada", 0), ("PER", "bob eve", 4)]
    logits[:] = [9.0, 0, 0]
    assert decode("token-classification", {"logits": logits}, {}, encoded, labels) == [[]]


@pytest.mark.parametrize("top_k", [None, 3])
def test_fill_mask(both: Callable[..., Both], top_k: int | None) -> None:
    case = both("MaskedLM", "fill-mask")
    texts = ["the [MASK] sat on the mat", "[MASK] lives in paris", "the [MASK] in [MASK]"]
    close(case.decoded(texts, top_k=top_k), [case.pipeline(text, top_k=top_k) for text in texts])


def test_image_classification_ranks_five_as_the_pipeline_does() -> None:
    torch = pytest.importorskip("torch")
    from transformers import ViTConfig, ViTForImageClassification

    pipelines = pytest.importorskip("transformers.pipelines.image_classification")
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    config.id2label = {i: f"thing {i}" for i in range(7)}
    model = ViTForImageClassification(config).eval()
    pixels = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        logits = model(pixels).logits
    post = pipelines.ImageClassificationPipeline.postprocess
    holder = type("Pipeline", (), {"model": model})()
    for top_k in (None, 2):
        expected = [post(holder, {"logits": row[None]}, top_k=top_k or 5) for row in logits]
        found = decode("image-classification", {"logits": logits.numpy()}, {}, None, config.id2label, top_k=top_k)
        close(found, expected)
        assert len(found) == 3 and len(found[0]) == (top_k or 5)


@pytest.fixture
def tokenizer(tmp_path: Path, save_tokenizer: Callable[..., Path]) -> TextTokenizer:
    return load_tokenizer(save_tokenizer(tmp_path / "t", model_max_length=64))


def spans(encoded: Encoded, **peaks: list[tuple[int, int, float]]) -> dict[str, np.ndarray]:
    """Start and end logits of 0 with peaks at (sample, token)."""
    shape = encoded.arrays["input_ids"].shape
    outputs = {"start_logits": np.zeros(shape, np.float32), "end_logits": np.zeros(shape, np.float32)}
    for name, places in peaks.items():
        for sample, token, value in places:
            outputs[f"{name}_logits"][sample, token] = value
    return outputs


def test_question_answering_takes_the_best_legal_span_of_the_context(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who sat ?", "the unhappy cat sat on the mat")])
    context = [i for i, sequence in enumerate(encoded.sequence_ids[0]) if sequence == 1]
    # The highest start lies in the question, the highest end before the start: neither may win.
    outputs = spans(
        encoded,
        start=[(0, 1, 50.0), (0, context[2], 9.0)],
        end=[(0, context[0], 40.0), (0, context[3], 8.0), (0, len(encoded.special[0]) - 1, 60.0)],
    )
    answer = decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer)[0]
    # An end alone can be the better span ...
    assert (answer["answer"], answer["start"], answer["end"]) == ("the", 0, 3)
    outputs["end_logits"][0, context[0]] = 0
    # ... without it the start is "##happy", a part of a word: the answer is widened to the word.
    answer = decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer)[0]
    assert (answer["answer"], answer["start"], answer["end"]) == ("unhappy cat", 4, 15)


def test_an_answers_score_is_the_product_of_its_probabilities_in_the_context(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who ?", "the cat sat"), ("where does ada live ?", "paris")])
    rng = np.random.default_rng(0)
    outputs = {name: rng.normal(size=encoded.arrays["input_ids"].shape) for name in ("start_logits", "end_logits")}
    found = decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer)
    for sample, answer in enumerate(found):
        known = [0, *(i for i, s in enumerate(encoded.sequence_ids[sample]) if s == 1)]  # 0 is [CLS]: no answer
        p = [np.exp(row[sample][known]) / np.exp(row[sample][known]).sum() for row in outputs.values()]
        best = max(p[0][i] * p[1][j] for i in range(1, len(known)) for j in range(i, len(known)))
        assert answer["score"] == pytest.approx(best, rel=1e-6)
        text = encoded.texts[sample][1]
        assert answer["answer"] == text[answer["start"] : answer["end"]] != ""


def test_an_answer_is_not_longer_than_the_limit(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who", "the cat sat on " * 8)])
    context = [i for i, sequence in enumerate(encoded.sequence_ids[0]) if sequence == 1]
    far = context[MAX_ANSWER_TOKENS]
    outputs = spans(encoded, start=[(0, context[0], 9.0)], end=[(0, far, 9.0), (0, far - 1, 5.0)])
    answer = decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer)[0]
    assert len(answer["answer"].split()) == MAX_ANSWER_TOKENS


def test_several_answers_come_best_first(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who", "the cat sat")])
    outputs = {name: np.random.default_rng(1).normal(size=(1, 7)) for name in ("start_logits", "end_logits")}
    found = decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer, top_k=3)[0]
    scores = [answer["score"] for answer in found]
    assert len(found) == 3 and scores == sorted(scores, reverse=True)


def test_logits_that_leave_the_context_no_probability_still_have_an_answer(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who", "the cat sat")])
    outputs = spans(encoded, start=[(0, 0, 1e4), (0, 4, 1.0)], end=[(0, 0, 1e4), (0, 4, 1.0)])
    answer = decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer)[0]
    assert answer == {"answer": "cat", "score": 0.0, "start": 4, "end": 7}


def test_logits_that_are_no_numbers_have_no_answer(tokenizer: TextTokenizer) -> None:
    encoded = tokenizer.encode([("who", "the cat sat")])
    outputs = {name: np.full_like(array, np.nan) for name, array in spans(encoded).items()}
    assert decode("question-answering", outputs, encoded.arrays, encoded, {}, tokenizer)[0]["answer"] == ""


def test_multiple_choice_names_the_choice(tokenizer: TextTokenizer) -> None:
    import dataclasses

    encoded = tokenizer.encode([("the", "cat"), ("the", "dog"), ("a", "mat"), ("a", "ran")])
    encoded = dataclasses.replace(encoded, choices=2)
    found = decode("multiple-choice", {"logits": np.array([[0.0, 1.0], [2.0, 0.0]])}, {}, encoded)
    assert [(answer["choice"], answer["text"]) for answer in found] == [(1, "dog"), (0, "mat")]
    assert found[0]["score"] == pytest.approx(np.e / (1 + np.e))
    assert decode("multiple-choice", {"logits": np.array([[0.0, 1.0]])}, {})[0]["text"] is None


@pytest.mark.parametrize("task", ["feature-extraction", None, "no such task"])
def test_tasks_without_an_answer(task: str | None) -> None:
    assert decode(task, {"logits": np.zeros((1, 2))}, {}) is None


@pytest.mark.parametrize(
    "task",
    [
        "text-classification",
        "image-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "multiple-choice",
    ],
)
def test_outputs_that_do_not_fit_the_task_are_not_decoded(task: str) -> None:
    assert decode(task, {"pooled": np.zeros((1, 2, 3, 4))}, {"input_ids": np.zeros((1, 2), np.int64)}) is None


def test_top_k_starts_at_one() -> None:
    with pytest.raises(UsageError, match="top_k is 0"):
        decode("text-classification", {"logits": np.zeros((1, 2))}, {}, top_k=0)
