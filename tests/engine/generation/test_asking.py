"""`run` and `generate` on a model that generates: PyTorch's tokens, pieces of text, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from onnx_magic.errors import FeedError, OnnxMagicError, UsageError
from onnx_magic.events import Token, listening


@pytest.fixture(scope="module")
def exported(writer: Any) -> Any:
    return writer.load()


def by_pytorch(writer: Any, texts: Any, **options: Any) -> Any:
    given = writer.tokenizer(texts, return_tensors="pt", padding=isinstance(texts, list), padding_side="left")
    return writer.model.generate(**given, pad_token_id=0, **options).numpy()


@pytest.fixture(autouse=True, scope="module")
def padding(writer: Any) -> Any:
    """GPT-2 has no token for padding; PyTorch's side needs one, ours does not."""
    writer.tokenizer.pad_token = writer.tokenizer.eos_token
    yield
    writer.tokenizer.pad_token = None


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {}),
    "beams": ({"num_beams": 3}, {"num_beams": 3}),
    "penalty": ({"repetition_penalty": 1.5, "min_new_tokens": 6}, {"repetition_penalty": 1.5, "min_new_tokens": 6}),
    "temperature 0": ({"temperature": 0.0, "seed": 4}, {"do_sample": False}),
}


@pytest.mark.parametrize("texts", ["the one", ["on the other", "a"]], ids=["one", "batch"])
@pytest.mark.parametrize("name", OPTIONS)
def test_run_gives_pytorchs_tokens(writer: Any, exported: Any, name: str, texts: Any) -> None:
    ours, theirs = OPTIONS[name]
    result = exported.run(texts, max_new_tokens=10, **ours)
    np.testing.assert_array_equal(result["sequences"], by_pytorch(writer, texts, max_new_tokens=10, **theirs))
    assert result.tokens == result["sequences"][:, -10:].size or 0 in result["sequences"][:, -10:]
    assert result.tokens_per_second > 0


def test_decoded_is_what_a_pipeline_gives(writer: Any, exported: Any) -> None:
    talk = pipeline("text-generation", model=writer.model, tokenizer=writer.tokenizer)
    texts = ["the one", "on"]
    expected = [row[0] for row in talk(texts, max_new_tokens=7, do_sample=False)]
    assert exported.run(texts, max_new_tokens=7).decoded == expected
    expected = talk("on the", max_new_tokens=7, do_sample=False, return_full_text=False)
    assert exported.run("on the", max_new_tokens=7, full_text=False).decoded == expected


def test_sampling_with_a_seed_is_pytorchs_and_leaves_random_states(writer: Any, exported: Any) -> None:
    torch.manual_seed(11)
    expected = by_pytorch(writer, "the one", max_new_tokens=9, do_sample=True, temperature=0.7, top_k=20)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for _ in range(2):
        result = exported.run("the one", max_new_tokens=9, temperature=0.7, top_k=20, seed=11)
        np.testing.assert_array_equal(result["sequences"], expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    other = exported.run("the one", max_new_tokens=9, temperature=0.7, top_k=20, seed=12)
    assert not np.array_equal(other["sequences"], expected)


@pytest.mark.parametrize("options", [{}, {"seed": 3, "temperature": 2.0}], ids=["loop", "Transformers"])
def test_pieces_of_text_add_up(exported: Any, options: dict[str, Any]) -> None:
    pieces: list[Token] = []
    with listening(lambda event: pieces.append(event) if isinstance(event, Token) else None):
        result = exported.run(["the one", "on"], max_new_tokens=12, full_text=False, **options)
    for row, answer in enumerate(result.decoded):
        assert "".join(piece.text for piece in pieces if piece.row == row) == answer["generated_text"]
    assert len(pieces) > 4


def test_stop_ends_where_pytorch_ends(writer: Any, exported: Any) -> None:
    whole = exported.run("the one", max_new_tokens=12, full_text=False).decoded[0]["generated_text"]
    stop = whole[3]
    theirs = by_pytorch(writer, "the one", max_new_tokens=12, stop_strings=stop, tokenizer=writer.tokenizer)
    ours = exported.run("the one", max_new_tokens=12, stop=stop)["sequences"]
    np.testing.assert_array_equal(ours, theirs)
    assert ours.shape[1] < len(whole) + 7


def test_generate_takes_tensors_arrays_and_lists(writer: Any, exported: Any) -> None:
    ids = writer.tokenizer("the one", return_tensors="pt")["input_ids"]
    expected = writer.model.generate(ids, max_new_tokens=6, pad_token_id=0)
    for given in (ids, ids.numpy(), ids.tolist()):
        assert torch.equal(exported.generate(input_ids=given, max_new_tokens=6), expected)
    assert torch.equal(exported.generate(ids, max_new_tokens=6), expected)
    before = torch.get_rng_state()
    assert exported.generate(ids, max_new_tokens=6, do_sample=True, seed=1).shape == expected.shape
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(exported.generate(ids, max_new_tokens=6, assistant_model=exported), expected)


def test_messages_need_a_template(writer: Any, exported: Any, tmp_path: Any) -> None:
    import shutil

    import onnx_magic

    chat = [{"role": "user", "content": "the one"}]
    with pytest.raises(FeedError, match="no chat template"):
        exported.run(chat)
    folder = tmp_path / "chatty"
    shutil.copytree(exported.path, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    chatty = onnx_magic.load(folder)
    plain = exported.run("<user>the one<a>", max_new_tokens=5, full_text=False).decoded[0]["generated_text"]
    answer = [*chat, {"role": "assistant", "content": plain}]
    assert chatty.run(chat, max_new_tokens=5).decoded == [{"generated_text": answer}]
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system message') }}")
    with pytest.raises(FeedError, match="no system message"):
        chatty.run(chat)
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    with pytest.raises(FeedError, match="unsafe"):
        chatty.run(chat)


BAD: dict[str, tuple[Any, dict[str, Any], type[OnnxMagicError], str]] = {
    "empty": ("", {}, FeedError, "prompt is empty"),
    "no prompts": ([], {}, FeedError, "nothing to run"),
    "too long": ("a " * 70, {}, FeedError, "71 tokens long, writer has 64 positions"),
    "none": ("a", {"max_new_tokens": 0}, UsageError, "max_new_tokens is 0"),
    "below none": ("a", {"max_new_tokens": -2}, UsageError, "max_new_tokens is -2"),
    "cold": ("a", {"temperature": -1.0}, UsageError, "temperature is -1.0"),
    "sure": ("a", {"top_p": 1.5}, UsageError, "top_p is 1.5"),
    "no beams": ("a", {"num_beams": 0}, UsageError, "num_beams is 0"),
    "crossed": ("a", {"min_new_tokens": 5, "max_new_tokens": 2}, UsageError, "above max_new_tokens 2"),
    "number": (3, {}, FeedError, "not with a int"),
    "strange token": ({"input_ids": [[5, 999]]}, {"max_new_tokens": 2}, FeedError, "999: writer has 263 tokens"),
    "one row": ({"input_ids": [5, 9]}, {"max_new_tokens": 2}, FeedError, r"shape \[2\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_to_run(exported: Any, name: str) -> None:
    inputs, options, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as raised:
        exported.run(inputs, **options)
    assert raised.value.fix and len(str(raised.value).splitlines()) == 2


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"max_new_tokns": 3}, "did you mean 'max_new_tokens'"),
    "unknown": ({"wonder": 3}, "no generation option 'wonder'"),
    "no room": ({"max_new_tokens": 99}, "62 more tokens fit"),
    "none": ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    "clash": ({"num_beams": 2, "num_return_sequences": 4}, "num_return_sequences"),
    "text": ({"inputs": "hello"}, "takes ids"),
    "mask": ({"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1]]}, r"shape \[1, 2\]"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_input_to_generate(exported: Any, name: str) -> None:
    options, words = BAD_OPTIONS[name]
    given = {} if "inputs" in options else {"input_ids": [[5, 6, 7]]}
    with pytest.raises(OnnxMagicError, match=words) as raised:
        exported.generate(**{**given, **options})
    assert raised.value.fix and len(str(raised.value).splitlines()) == 2


def test_a_missing_tokenizer(writer: Any, tmp_path: Any) -> None:
    import onnx_magic

    file = tmp_path / "model.onnx"
    file.symlink_to(writer.folder / "onnx" / "model.onnx")
    exported = onnx_magic.load(file)
    with pytest.raises(FeedError, match="no tokenizer") as raised:
        exported.run("the one")
    assert "input_ids" in raised.value.fix
    assert exported.run({"input_ids": [[5, 6]]}, max_new_tokens=3)["sequences"].shape == (1, 5)


def test_text_stops_at_the_last_position(exported: Any) -> None:
    result = exported.run("the one", max_new_tokens=500, min_new_tokens=50)
    assert result["sequences"].shape[1] == 65 and "no more positions" in result.notes[0]


def test_arrays_without_options_are_one_run_of_the_graph(exported: Any) -> None:
    result = exported.run({"input_ids": [[5, 6, 7]]})
    assert result["logits"].shape == (1, 3, 263) and "present.1.value" in result.outputs


def test_generation_options_for_another_task(sample_checkpoint: Any, tmp_path: Any) -> None:
    from onnx_magic.engine.generation.asking import generates

    class Opened:
        graphs: dict[str, Any] = {}
        task, name = "text-classification", "mini"

        class graph:
            inputs: tuple[Any, ...] = ()
            outputs: tuple[Any, ...] = ()

    with pytest.raises(UsageError, match="max_new_tokens is for models that generate"):
        generates(Opened(), "a", {"max_new_tokens": 3})  # type: ignore[arg-type]
    assert not generates(Opened(), "a", {"max_new_tokens": None})  # type: ignore[arg-type]


def test_without_transformers(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_magic.engine.generation import asking_tokens, continuing, hosted

    expected = exported.run("the one", max_new_tokens=5)["sequences"]
    for home in (asking_tokens, continuing, hosted):
        monkeypatch.setattr(home, "has_transformers", lambda: False)
    tokens = exported.generate(input_ids=expected[:, :-5], max_new_tokens=5)
    np.testing.assert_array_equal(tokens, expected)
    drawn = [exported.run("the one", max_new_tokens=5, seed=seed)["sequences"].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(UsageError, match="num_beams needs Transformers") as raised:
        exported.run("the one", num_beams=2)
    assert raised.value.fix == "pip install transformers torch"
