"""`generate()` without weights: token for token what PyTorch gives, and what a graph lacks is refused."""

from __future__ import annotations

import copy
import inspect
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from onnx_magic.engine.generation.hosting import class_named, host_model
from onnx_magic.errors import FeedError, GraphFileError, SwapError, UsageError

PAD = {"pad_token_id": 0}


@pytest.fixture(scope="module")
def hosted(writer: Any) -> Any:
    return host_model(writer.model.config, type(writer.model), {"model": writer.folder / "onnx" / "model.onnx"})


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    """Two rows, the first of them padded by two tokens on the left."""
    ids = torch.tensor([[0, 0, 40, 41, 42], [50, 51, 52, 53, 54]])
    return {"input_ids": ids, "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1] * 5])}


OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 20},
    "beams": {"max_new_tokens": 12, "num_beams": 3},
    "answers": {"max_new_tokens": 8, "num_beams": 3, "num_return_sequences": 2},
    "sampling": {"max_new_tokens": 12, "do_sample": True, "num_return_sequences": 2, "top_k": 9, "temperature": 0.8},
    "beams that sample": {"max_new_tokens": 8, "do_sample": True, "num_beams": 2},
    "processors": {"max_new_tokens": 10, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    "chunks": {"max_new_tokens": 4, "prefill_chunk_size": 2},
    "no cache": {"max_new_tokens": 6, "use_cache": False},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_pytorchs_tokens(writer: Any, hosted: Any, batch: dict[str, Any], name: str) -> None:
    torch.manual_seed(3)
    expected = writer.model.generate(**batch, **OPTIONS[name], **PAD)
    torch.manual_seed(3)
    assert torch.equal(hosted.generate(**batch, **OPTIONS[name], **PAD), expected)


def test_other_tokens_are_noticed(hosted: Any, batch: dict[str, Any]) -> None:
    """The control: tokens depend on the mask, so that equality above means something."""
    masked = hosted.generate(**batch, max_new_tokens=8, **PAD)
    every = torch.ones_like(batch["attention_mask"])
    unmasked = hosted.generate(input_ids=batch["input_ids"], attention_mask=every, max_new_tokens=8, **PAD)
    assert not torch.equal(masked[0], unmasked[0])


def test_stop_strings(writer: Any, hosted: Any, batch: dict[str, Any]) -> None:
    whole = writer.model.generate(**batch, max_new_tokens=16, **PAD)
    stop = next(letter for letter in writer.tokenizer.decode(whole[1, 5:]) if letter.isascii() and letter.isprintable())
    options = {"max_new_tokens": 16, "stop_strings": stop, "tokenizer": writer.tokenizer, **PAD}
    one = {name: tensor[1:] for name, tensor in batch.items()}
    expected = writer.model.generate(**one, **options)
    assert expected.shape[1] < whole.shape[1]
    assert torch.equal(hosted.generate(**one, **options), expected)


def test_a_past_is_gone_on_from(writer: Any, hosted: Any, batch: dict[str, Any]) -> None:
    one = {name: tensor[1:] for name, tensor in batch.items()}
    whole = hosted.generate(**one, max_new_tokens=9, **PAD)
    first = hosted.generate(**one, max_new_tokens=4, return_dict_in_generate=True, **PAD)
    kept = copy.deepcopy(first.past_key_values)
    theirs = writer.model.generate(**one, max_new_tokens=4, return_dict_in_generate=True, **PAD).past_key_values
    for past in (first.past_key_values, kept, theirs):
        again = hosted.generate(input_ids=first.sequences, past_key_values=past, max_new_tokens=5, **PAD)
        assert torch.equal(again, whole)
    assert "1 rows of" in repr(kept)


def test_an_assistant_drafts(hosted: Any, batch: dict[str, Any]) -> None:
    one = {name: tensor[1:] for name, tensor in batch.items()}
    expected = hosted.generate(**one, max_new_tokens=10, **PAD)
    assert torch.equal(hosted.generate(**one, max_new_tokens=10, assistant_model=hosted, **PAD), expected)


def test_scores_and_logits_are_pytorchs(writer: Any, hosted: Any, batch: dict[str, Any]) -> None:
    options = {"max_new_tokens": 3, "output_logits": True, "return_dict_in_generate": True, **PAD}
    expected, actual = (torch.stack(m.generate(**batch, **options).logits) for m in (writer.model, hosted))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-3)  # float32, as an export is verified with


def test_it_has_no_weights_and_is_on_the_cpu(writer: Any, hosted: Any) -> None:
    assert {parameter.device.type for parameter in hosted.parameters()} == {"meta"}
    assert hosted.device.type == "cpu" and type(hosted).__name__ == "GPT2LMHeadModel"
    assert inspect.signature(hosted.forward) == inspect.signature(writer.model.forward)


def test_generation_config_is_followed(writer: Any, batch: dict[str, Any]) -> None:
    config = GenerationConfig(max_new_tokens=2, pad_token_id=0)
    graphs = {"model": writer.folder / "onnx" / "model.onnx"}
    hosted = host_model(writer.model.config, "GPT2LMHeadModel", graphs, generation_config=config)
    assert hosted.generate(**batch).shape[1] == 7


@pytest.mark.parametrize(
    ("options", "word", "fix"),
    [
        ({"output_attentions": True, "return_dict_in_generate": True}, "output_attentions", "output_attentions=False"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "hidden", "output_hidden_states=False"),
        ({"cache_implementation": "static"}, "StaticCache", 'cache_implementation="dynamic"'),
    ],
)
def test_what_the_graph_lacks_is_refused(hosted: Any, batch: Any, options: Any, word: str, fix: str) -> None:
    with pytest.raises(SwapError, match=word) as raised:
        hosted.generate(**batch, **options, max_new_tokens=2, **PAD)
    assert raised.value.fix.startswith(fix) and "\n" not in raised.value.what


def test_embeddings_and_labels_are_refused(hosted: Any, batch: dict[str, Any]) -> None:
    with pytest.raises(SwapError, match="inputs_embeds"):
        hosted(inputs_embeds=torch.ones(1, 2, 32))
    with pytest.raises(SwapError, match="labels"):
        hosted(**batch, labels=batch["input_ids"])


def test_a_past_of_the_wrong_shape_is_refused(hosted: Any) -> None:
    bad = DynamicCache()
    for layer in range(2):
        bad.update(torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 4, 8), layer)  # 3 heads where the graph has 4
    with pytest.raises(FeedError, match=r"\[1, 3, 4, 8\]"):
        hosted(torch.tensor([[5]]), past_key_values=bad)
    uneven = DynamicCache()
    for layer in range(2):
        uneven.update(torch.zeros(1, 4, 4 + layer, 8), torch.zeros(1, 4, 4 + layer, 8), layer)
    with pytest.raises(FeedError, match="all layers must agree"):
        hosted(torch.tensor([[5]]), past_key_values=uneven)
    rows = DynamicCache()
    for layer in range(2):
        rows.update(torch.zeros(2, 4, 4, 8), torch.zeros(2, 4, 4, 8), layer)
    with pytest.raises(FeedError, match="2 rows, input_ids 1"):
        hosted(torch.tensor([[5]]), past_key_values=rows)


def test_no_decoder_no_class(writer: Any) -> None:
    with pytest.raises(GraphFileError, match="no decoder"):
        host_model(writer.model.config, type(writer.model), {})
    with pytest.raises(UsageError, match="GPT9"):
        class_named("GPT9LMHeadModel")


@pytest.fixture(scope="module")
def recomputing(writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A decoder that computes all tokens at every step."""
    file = tmp_path_factory.mktemp("no_past") / "model.onnx"

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = writer.model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any) -> Any:
            given = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": False}
            return self.model(input_ids, **given).logits

    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    sample = (torch.ones_like(mask), mask, mask.cumsum(-1))
    names = ["input_ids", "attention_mask", "position_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names}
    with warnings.catch_warnings():  # TorchScript is quick; its graph is not what is tested here
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Flat().eval(), sample, file, input_names=names, output_names=["logits"], dynamic_axes=axes, dynamo=False
        )
    return SimpleNamespace(file=file, model=host_model(writer.model.config, type(writer.model), {"model": file}))


class TestWithoutPast:
    """A decoder that computes all tokens at every step."""

    @pytest.mark.parametrize("name", ["greedy", "beams", "sampling"])
    def test_tokens(self, writer: Any, recomputing: Any, batch: dict[str, Any], name: str) -> None:
        torch.manual_seed(3)
        expected = writer.model.generate(**batch, **OPTIONS[name], **PAD)
        torch.manual_seed(3)
        assert torch.equal(recomputing.model.generate(**batch, **OPTIONS[name], **PAD), expected)

    def test_a_past_is_refused(self, recomputing: Any, batch: dict[str, Any]) -> None:
        for call in (recomputing.model.generate, recomputing.model):
            with pytest.raises((UsageError, SwapError), match="exported without a past") as raised:
                call(**batch, use_cache=True)
            assert raised.value.fix.startswith("use_cache=False")

    def test_run_goes_on_all_the_same(self, writer: Any, recomputing: Any) -> None:
        import shutil

        import onnx_magic

        folder = recomputing.file.parent
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(writer.folder / name, folder / name)
        exported = onnx_magic.load(folder)
        expected = writer.load().run("the one", max_new_tokens=9)
        np.testing.assert_array_equal(exported.run("the one", max_new_tokens=9)["sequences"], expected["sequences"])
        with pytest.raises(UsageError, match="exported without a past"):
            exported.generate(input_ids=[[5, 6]], use_cache=True, max_new_tokens=2)
