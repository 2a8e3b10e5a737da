"""ONNX Runtime in the place of a live model that generates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import pipeline

from onnx_magic.errors import SwapError

PAD = {"pad_token_id": 0}


@pytest.fixture
def exported(writer: Any) -> Any:
    return writer.load()


def test_generate_and_pipelines_run_on_onnx_runtime(writer: Any, exported: Any) -> None:
    model, ids = writer.model, writer.tokenizer("the one", return_tensors="pt")
    talk = pipeline("text-generation", model=model, tokenizer=writer.tokenizer)
    texts = ["the", "on the other"]
    before = dict(model.__dict__)

    def answers() -> Any:
        torch.manual_seed(5)
        beams = model.generate(**ids, max_new_tokens=8, num_beams=3, **PAD).tolist()
        return beams, talk(texts, max_new_tokens=6, do_sample=True, **PAD)

    expected = answers()
    with exported.swapped_into(model) as report:
        assert answers() == expected
    assert report.count == 20 and report.rows == 36 and not report.notes
    assert model.__dict__ == before and "forward" not in model.__dict__


def test_a_direct_call_gives_logits_and_a_cache(writer: Any, exported: Any) -> None:
    ids = writer.tokenizer("the one", return_tensors="pt")
    with torch.no_grad():
        expected = writer.model(**ids).logits
        with exported.swapped_into(writer.model):
            output = writer.model(**ids)
            more = writer.model(torch.tensor([[7]]), past_key_values=output.past_key_values)
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=1e-3)  # float32, as an export is verified with
    assert more.past_key_values.get_seq_length() == ids["input_ids"].shape[1] + 1


def test_what_the_graph_lacks_and_training_are_refused(writer: Any, exported: Any) -> None:
    ids = writer.tokenizer("the one", return_tensors="pt")
    with exported.swapped_into(writer.model):
        with pytest.raises(SwapError, match="output_attentions"):
            writer.model.generate(**ids, output_attentions=True, return_dict_in_generate=True, max_new_tokens=2, **PAD)
        with pytest.raises(SwapError, match="not nested"), exported.swapped_into(writer.model):
            pass
        writer.model.train()
        try:
            with pytest.raises(SwapError, match="train mode"):
                writer.model(**ids)
        finally:
            writer.model.eval()


class TestEncoderDecoder:
    """A tiny T5: its encoder's forward is replaced too."""

    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        from transformers import T5Config, T5ForConditionalGeneration

        import onnx_magic

        torch.manual_seed(2)
        tokens = {"vocab_size": 60, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        config = T5Config(**tokens, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, initializer_factor=4.0)
        model = T5ForConditionalGeneration(config).eval()
        folder = tmp_path_factory.mktemp("t5") / "t5-onnx"
        return model, onnx_magic.export(model, task="text2text-generation", output=folder, validate=False)

    @pytest.mark.parametrize(
        "options", [{}, {"num_beams": 3}, {"do_sample": True}], ids=["greedy", "beams", "sampling"]
    )
    def test_tokens(self, pair: Any, options: dict[str, Any]) -> None:
        model, exported = pair
        ids = torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]])
        given = {"input_ids": ids, "attention_mask": (ids != 0).long(), "max_new_tokens": 8, **options}
        torch.manual_seed(4)
        expected = model.generate(**given)
        before = dict(model.__dict__), dict(model.get_encoder().__dict__)
        torch.manual_seed(4)
        with exported.swapped_into(model) as report:
            assert torch.equal(model.generate(**given), expected)
        assert report.count and not report.notes
        assert (model.__dict__, model.get_encoder().__dict__) == before
        torch.manual_seed(4)
        assert torch.equal(exported.generate(**given), expected)
        if not options:
            result = exported.run({"input_ids": ids, "attention_mask": given["attention_mask"]}, max_new_tokens=8)
            assert result["sequences"].tolist() == expected.tolist() and result.decoded is None

    def test_the_encoder_is_asked_for_no_more_than_it_has(self, pair: Any) -> None:
        model, exported = pair
        with pytest.raises(SwapError, match="output_attentions"):
            exported.generate(input_ids=[[5, 1]], output_attentions=True, return_dict_in_generate=True)
        with exported.swapped_into(model), pytest.raises(SwapError, match="inputs_embeds"):
            model(inputs_embeds=torch.ones(1, 2, 16), decoder_input_ids=torch.tensor([[0]]))
