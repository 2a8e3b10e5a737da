from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_magic.errors import FeedError, GraphFileError
from onnx_magic.runtime.folder import OpenedFolder, open_folder
from onnx_magic.runtime.running import answer, build_feed, decode_outputs, run_feed

Write = Callable[..., Path]
Make = Callable[..., onnx.ModelProto]
TEXTS = ["the cat sat", "unhappy"]


@pytest.fixture
def classifier(text_folder: Write) -> OpenedFolder:
    return open_folder(text_folder("BertForSequenceClassification", id2label={"0": "BAD", "1": "GOOD"}))


def test_a_text_gives_a_label(classifier: OpenedFolder) -> None:
    found = answer(classifier, "the cat sat")
    assert found.backend == "onnxruntime" and found.provider == "CPUExecutionProvider" and found.seconds > 0
    assert found.decoded[0]["label"] in ("BAD", "GOOD") and 0.5 <= found.decoded[0]["score"] <= 1
    assert list(found.outputs) == ["logits"] and found["logits"].shape == (1, 2) and found.notes == ()
    assert list(found.feed) == ["input_ids", "attention_mask", "token_type_ids"]
    assert [row["label"] for row in answer(classifier, "the cat sat", top_k=2).decoded[0]] in (
        ["BAD", "GOOD"],
        ["GOOD", "BAD"],
    )


def test_a_batch_answers_as_its_texts_one_by_one(classifier: OpenedFolder) -> None:
    together = answer(classifier, TEXTS)["logits"]
    alone = [answer(classifier, text)["logits"][0] for text in TEXTS]
    assert np.allclose(together, alone, atol=1e-6)
    for column in (np.array(TEXTS), np.array(TEXTS, object)):  # a data frame's column is one of objects
        assert np.array_equal(answer(classifier, column)["logits"], together)


def test_pairs_in_every_form_are_one_pair(classifier: OpenedFolder) -> None:
    expected = answer(classifier, ("the cat", "sat"))
    assert expected.feed["token_type_ids"].max() == 1 and expected["logits"].shape == (1, 2)
    for form in (
        [("the cat", "sat")],
        [["the cat", "sat"]],
        {"text": "the cat", "text_pair": "sat"},
        [{"premise": "the cat", "hypothesis": "sat"}],
    ):
        assert np.array_equal(answer(classifier, form)["logits"], expected["logits"])
    # A list of two texts is two texts.
    assert answer(classifier, ["the cat", "sat"])["logits"].shape == (2, 2)


def test_arrays_pass_through_and_the_answer_is_decoded(classifier: OpenedFolder) -> None:
    plan = build_feed(classifier, TEXTS)
    fed = answer(classifier, dict(plan.arrays))
    assert all(fed.feed[name] is plan.arrays[name] for name in plan.arrays)
    assert fed.decoded == answer(classifier, TEXTS).decoded and fed.notes == ()


def test_what_was_done_to_the_arrays_is_said(classifier: OpenedFolder) -> None:
    found = answer(classifier, {"input_ids": [[2, 5, 3]], "attention_mask": np.ones((1, 3), np.int32)})
    assert found.notes == (
        "attention_mask: int32 was turned into int64",
        "token_type_ids was filled in with zeros",
    )


def test_a_transformers_encoding_is_a_feed(classifier: OpenedFolder) -> None:
    from transformers import AutoTokenizer

    encoding = AutoTokenizer.from_pretrained(classifier.folder)(TEXTS, padding=True, return_tensors="pt")
    assert np.array_equal(answer(classifier, encoding)["logits"], answer(classifier, TEXTS)["logits"])


def test_a_text_that_was_cut_is_said(classifier: OpenedFolder) -> None:
    assert "1 of 1 texts were longer than 32 tokens" in answer(classifier, "the cat " * 40).notes[0]


def test_the_parts_give_what_the_whole_gives(classifier: OpenedFolder) -> None:
    plan = build_feed(classifier, TEXTS)
    outputs = run_feed(classifier, plan.arrays)
    assert decode_outputs(classifier, outputs, plan) == answer(classifier, TEXTS).decoded


@pytest.mark.parametrize("inputs", [[], (), {}, None])
def test_nothing_is_refused(classifier: OpenedFolder, inputs: Any) -> None:
    with pytest.raises(FeedError, match="nothing to run"):
        answer(classifier, inputs)


def test_an_empty_text_is_a_text(classifier: OpenedFolder) -> None:
    assert answer(classifier, "").feed["input_ids"].shape == (1, 2)


@pytest.mark.parametrize("inputs", [["the cat", 3], [("a", "b", "c")], {"premise": "a"}, [None, "a"]])
def test_what_is_half_a_text_is_refused(classifier: OpenedFolder, inputs: Any) -> None:
    with pytest.raises(FeedError, match="neither a text nor a pair"):
        answer(classifier, inputs)


def test_text_without_a_tokenizer_is_refused_with_the_arrays_that_go(classifier: OpenedFolder) -> None:
    bare = OpenedFolder(classifier.folder, classifier.graphs, tokenizer=None)
    with pytest.raises(FeedError, match=r"no tokenizer.*input_ids: int64\[batch_size, sequence_length\]") as caught:
        answer(bare, "the cat")
    feed = eval(caught.value.fix.removeprefix("exported.run(").removesuffix(")"), {"np": np})
    assert answer(bare, feed)["logits"].shape == (2, 2)


def test_text_for_a_graph_of_numbers_is_refused(tmp_path: Path, make_linear: Make) -> None:
    onnx.save(make_linear(), tmp_path / "m.onnx")
    with pytest.raises(FeedError, match=r"takes no text: it takes x: float32\[batch_size, 3\]"):
        answer(open_folder(tmp_path / "m.onnx"), "the cat")


def test_a_plain_graph_takes_arrays_in_every_form(tmp_path: Path, make_linear: Make) -> None:
    onnx.save(make_linear(), tmp_path / "m.onnx")
    opened, x = open_folder(tmp_path / "m.onnx"), np.ones((2, 3), np.float32)
    for given in (x, (x,), [x], {"x": x}, [[1.0, 1, 1], [1, 1, 1]]):
        found = answer(opened, given)
        assert found["y"].tolist() == [[12, 15, 18, 21]] * 2 and found.decoded is None


def test_a_static_graph_gets_texts_of_its_length(text_folder: Write, make_text_model: Make) -> None:
    opened = open_folder(text_folder("BertForSequenceClassification", make_text_model(shape=(1, 8))))
    assert answer(opened, "the cat").feed["input_ids"].shape == (1, 8)
    assert "longer than 8 tokens" in answer(opened, "the cat " * 9).notes[0]
    with pytest.raises(FeedError, match="axis 0 of input_ids is 2, the graph takes 1 only"):
        answer(opened, TEXTS)


def test_token_classification_answers_with_places(text_folder: Write, make_text_model: Make) -> None:
    labels = {str(i): name for i, name in enumerate(["O", "B-X", "I-X"])}
    model = make_text_model(labels=3, per_token=True)
    opened = open_folder(text_folder("BertForTokenClassification", model, id2label=labels))
    text = "the unhappy cat sat on the mat in paris"
    entities = answer(opened, text).decoded[0]
    assert entities and all(entity["word"] == text[entity["start"] : entity["end"]] for entity in entities)
    assert answer(opened, {"input_ids": [[2, 6, 3]]}).decoded is None  # arrays do not tell the text


def qa_model(make_graph: Make) -> onnx.ModelProto:
    table = np.random.default_rng(3).normal(size=(200, 1)).astype(np.float32)
    nodes = []
    for name, weight in (("start_logits", "a"), ("end_logits", "b")):
        nodes += [
            helper.make_node("Gather", [weight, "input_ids"], [f"{name}_3"]),
            helper.make_node("Squeeze", [f"{name}_3", "last"], [name]),
        ]
    shape = ["batch_size", "sequence_length"]
    return make_graph(
        [("input_ids", TensorProto.INT64, shape)],
        [(name, TensorProto.FLOAT, shape) for name in ("start_logits", "end_logits")],
        nodes,
        {"a": table, "b": -table, "last": np.array([-1])},
    )


def test_question_answering(text_folder: Write, make_graph: Make) -> None:
    opened = open_folder(text_folder("BertForQuestionAnswering", qa_model(make_graph)))
    context = "the cat sat on the mat"
    expected = answer(opened, {"question": "who sat", "context": context}).decoded
    assert expected[0]["answer"] == context[expected[0]["start"] : expected[0]["end"]] != ""
    assert answer(opened, ("who sat", context)).decoded == answer(opened, [("who sat", context)]).decoded == expected
    assert len(answer(opened, [{"question": "who", "context": context}, ("where", "in paris")]).decoded) == 2
    for wrong in ("who sat", [context], {"question": "who"}):
        with pytest.raises(FeedError, match="no question with its context"):
            answer(opened, wrong)


def test_fill_mask(text_folder: Write, make_text_model: Make, vocabulary: list[str]) -> None:
    model = make_text_model(labels=len(vocabulary), per_token=True)
    opened = open_folder(text_folder("BertForMaskedLM", model))
    found = answer(opened, ["the [MASK] sat", "[MASK] and [MASK]"]).decoded
    assert len(found[0]) == 5 and found[0][0]["token_str"] in vocabulary
    assert len(found[1]) == 2 and len(found[1][0]) == 5
    assert len(answer(opened, "the [MASK]", top_k=2).decoded[0]) == 2
    with pytest.raises(FeedError, match=r"no mask token in 'the cat': this model's is \[MASK\]"):
        answer(opened, ["the [MASK]", "the cat"])
    plain = answer(opened, {"input_ids": [[2, 4, 3]]})
    assert len(plain.decoded[0]) == 5
    assert answer(opened, {"input_ids": [[2, 6, 3]]}).decoded is None


def choice_model(make_graph: Make) -> onnx.ModelProto:
    """Logits: the sum over tokens of a random number per token id, [batch, choices]."""
    table = np.random.default_rng(5).normal(size=200).astype(np.float32)
    shape = ["batch_size", "num_choices", "sequence_length"]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "last"], ["logits"], keepdims=0),
    ]
    inputs = [(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    out = [("logits", TensorProto.FLOAT, shape[:2])]
    return make_graph(inputs, out, nodes, {"table": table, "last": np.array([-1])})


def test_multiple_choice(text_folder: Write, make_graph: Make) -> None:
    opened = open_folder(text_folder("BertForMultipleChoice", choice_model(make_graph)))
    one = ("the cat", ["sat on the mat", "ran", "lives in paris"])
    found = answer(opened, one)
    assert found.feed["input_ids"].shape[:2] == (1, 3)
    assert found.decoded[0]["text"] == one[1][found.decoded[0]["choice"]]
    # Alone, each choice scores as it does among the others: rows were not mixed up.
    alone = [answer(opened, (one[0], [choice]))["logits"][0, 0] for choice in one[1]]
    assert np.allclose(found["logits"][0], alone, atol=1e-5)
    other = {"prompt": "ada", "choices": ["a", "b", "c"]}
    two = answer(opened, [one, other])
    assert two.decoded == [pytest.approx(row) for row in (*found.decoded, *answer(opened, other).decoded)]
    assert np.allclose(two["logits"], [found["logits"][0], answer(opened, other)["logits"][0]], atol=1e-5)
    with pytest.raises(FeedError, match="2 to 3 choices"):
        answer(opened, [one, ("ada", ["a", "b"])])
    for wrong in ("the cat", ("the cat", "sat"), ("the cat", [])):
        with pytest.raises(FeedError, match="no prompt with its choices"):
            answer(opened, wrong)


@pytest.fixture
def image_folder(tmp_path: Path, make_graph: Make) -> Path:
    weights = {"w": np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32), "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "w"], ["logits"]),
    ]
    shape = ["batch_size", 3, 8, 8]
    inputs, outputs = [("pixel_values", TensorProto.FLOAT, shape)], [("logits", TensorProto.FLOAT, ["batch_size", 6])]
    onnx.save(make_graph(inputs, outputs, nodes, weights), tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ViTForImageClassification"]}))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}})
    )
    return tmp_path


def test_images_in_every_form(image_folder: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="pip install pillow")
    opened = open_folder(image_folder)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    pillow.fromarray(image).save(image_folder / "a.png")
    expected = answer(opened, image)
    assert len(expected.decoded[0]) == 5 and len(answer(opened, image, top_k=2).decoded[0]) == 2
    for given in (image_folder / "a.png", str(image_folder / "a.png"), [pillow.fromarray(image)]):
        assert answer(opened, given).decoded == expected.decoded
    assert len(answer(opened, [image, image]).decoded) == 2
    fed = answer(opened, expected.feed["pixel_values"])
    assert fed.decoded == expected.decoded and fed.feed["pixel_values"] is expected.feed["pixel_values"]


def test_images_without_a_processor_are_refused_with_the_array_that_goes(image_folder: Path) -> None:
    (image_folder / "preprocessor_config.json").unlink()
    with pytest.raises(FeedError, match=r"pixel_values: float32\[batch_size, 3, 8, 8\]"):
        answer(open_folder(image_folder), np.zeros((4, 4, 3), np.uint8))


def test_what_onnx_runtime_says_is_one_line(classifier: OpenedFolder, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FeedError, match="idx=5000") as caught:
        answer(classifier, {"input_ids": [[5000]]})
    assert "\n" not in caught.value.what and caught.value.__cause__ is not None
    assert capfd.readouterr().err == ""


def test_a_graph_that_onnx_runtime_refuses_is_a_graph_error(tmp_path: Path, make_linear: Make) -> None:
    model = make_linear()
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(GraphFileError, match="NoSuchOperator"):
        answer(open_folder(tmp_path / "m.onnx"), np.ones((1, 3), np.float32))


USE = """
import sys
from pathlib import Path
import onnx_magic
from onnx_magic.runtime import agreeing, decoding, imaging, running
from onnx_magic.runtime.folder import open_folder
found = running.answer(open_folder(Path({folder!r})), ["the cat sat", "unhappy"])
assert len(found.decoded) == 2, found
assert onnx_magic.load({folder!r}).run("the cat").decoded[0]["label"]
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"torch", "transformers", "tokenizers", "onnxruntime"}}))
"""


def test_running_a_folder_loads_neither_torch_nor_transformers(text_folder: Write) -> None:
    folder = text_folder("BertForSequenceClassification")
    script = USE.format(folder=str(folder))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['onnxruntime', 'tokenizers']" and done.stderr == ""
