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
