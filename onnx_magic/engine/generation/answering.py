"""A forward that ONNX Runtime answers: what `generate()` passes to a model, to a step of its graph and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.generation.ort_cache import cache_of
from onnx_magic.errors import SwapError
from onnx_magic.runtime.sessions import Session
from onnx_magic.runtime.stepping import DecoderSteps

if TYPE_CHECKING:
    import torch
    from onnxruntime import OrtValue

FORM = frozenset({"return_dict", "use_cache", "logits_to_keep", "cache_position", "past_key_values"})
"""Arguments of a forward that say how to answer, not what."""

OF_ENCODER = frozenset({"input_ids", "input_features", "pixel_values", "input_values", "inputs", "inputs_embeds"})
"""What an encoder reads."""

TO_DECODER: Mapping[str, str] = {
    "decoder_input_ids": "input_ids",
    "decoder_attention_mask": "decoder_attention_mask",
    "decoder_position_ids": "position_ids",
    "attention_mask": "encoder_attention_mask",
}
"""Of an encoder-decoder: argument of its forward → input of its decoder's graph."""

NO_PAST = "the decoder was exported without a past, and is asked to go on from one"
FIXES: Mapping[str, str] = {
    "output_attentions": "output_attentions=False: only PyTorch gives them",
    "output_hidden_states": "output_hidden_states=False: only PyTorch gives them",
    "inputs_embeds": "give input_ids instead of inputs_embeds",
    "labels": "leave labels out, and compute the loss from the logits",
    "decoder_input_ids": "give decoder_input_ids",
}


class Answering:
    """Answers calls of one model's forward, and of its encoder's.

    Args:
        steps: The decoder.
        encoder: The encoder's graph, where there is one.
        architecture: Class name of the model, for messages.
    """

    def __init__(self, steps: DecoderSteps, encoder: Session | None, architecture: str) -> None:
        self.steps, self.encoder, self.architecture = steps, encoder, architecture
        self.runs = 0
        """How often the decoder ran."""

    def forward(self, given: Mapping[str, Any]) -> Any:
        """Logits and cache for the arguments of one call, by name.

        Raises:
            SwapError: something is asked for that the graph cannot give.
            FeedError: a past, ids or a mask of a shape or with values that the graph does not take.
        """
        from transformers.modeling_outputs import CausalLMOutputWithPast, Seq2SeqLMOutput

        asked = {name: value for name, value in given.items() if value is not None and value is not False}
        hidden = None
        if self.encoder is not None:
            asked, hidden = self._for_decoder(asked)
        cached = self._cached(given)
        ids = asked.get("input_ids")
        if ids is None:
            raise self._lacks("inputs_embeds" if "inputs_embeds" in asked else "no input_ids")
        cache = cache_of(given.get("past_key_values"), self.steps, len(ids)) if self.steps.has_past else None
        feed = self._feed(asked, ids.shape[-1], cache.get_seq_length() if cache else 0)
        logits, past = self.steps.step(feed, cache.past if cache else None)
        self.runs += 1
        if cache is not None:
            cache.past = past
        values: dict[str, Any] = {
            "logits": _kept(_tensor(logits), given.get("logits_to_keep")),
            "past_key_values": cache if cached else None,
        }
        output: Any = CausalLMOutputWithPast(**values)
        if self.encoder is not None:
            output = Seq2SeqLMOutput(**values, encoder_last_hidden_state=hidden)
        return output.to_tuple() if given.get("return_dict") is False else output

    def encode(self, given: Mapping[str, Any]) -> Any:
        """The encoder's last hidden state for the arguments of one call of it, by name.

        Raises:
            SwapError: something is asked for that the graph cannot give.
        """
        from transformers.modeling_outputs import BaseModelOutput

        assert self.encoder is not None, "only an encoder-decoder has one"
        feed = {}
        for name, value in given.items():
            if value is None or value is False or name in FORM:
                continue
            if name in self.encoder.inputs:
                feed[name] = _value(value, self.encoder.dtype(name))
            elif not self._ignored_by_encoder(name, value):
                raise self._lacks(name)
        if missing := [name for name in self.encoder.inputs if name not in feed]:
            feed |= self._filled(missing, given)
        found = self.encoder.run_bound(feed, self.encoder.outputs)
        output = BaseModelOutput(last_hidden_state=_tensor(found[self.encoder.outputs[0]]))
        return output.to_tuple() if given.get("return_dict") is False else output

    def _for_decoder(self, asked: Mapping[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
        """The arguments by the decoder graph's names, and the encoder's answer; made here when it is not given."""
        import torch

        asked = dict(asked)
        outputs = asked.pop("encoder_outputs", None)
        read = {name: asked.pop(name) for name in OF_ENCODER if name in asked}
        if outputs is None:
            mask = {"attention_mask": asked["attention_mask"]} if "attention_mask" in asked else {}
            outputs = self.encode({**read, **mask})
        hidden = outputs[0]
        named = {TO_DECODER.get(name, name): value for name, value in asked.items()}
        if "encoder_attention_mask" not in self.steps.inputs:
            named.pop("encoder_attention_mask", None)  # an encoder of sound or images, whose decoder sees all of it
        elif named.get("encoder_attention_mask") is None:
            named["encoder_attention_mask"] = hidden.new_ones(hidden.shape[:2], dtype=torch.int64)  # none is masked
        return {**named, "encoder_hidden_states": hidden}, hidden

    def _cached(self, given: Mapping[str, Any]) -> bool:
        """Whether the past is to be returned."""
        past = given.get("past_key_values")
        if not self.steps.has_past:
            if given.get("use_cache") or (past is not None and past.get_seq_length()):
                raise SwapError(NO_PAST, fix="use_cache=False")
            return False
        return given.get("use_cache") is not False or past is not None

    def _feed(self, asked: Mapping[str, Any], tokens: int, length: int) -> dict[str, OrtValue]:
        feed = {}
        for name, value in asked.items():
            if name in FORM:
                continue
            if name in self.steps.inputs:
                feed[name] = _value(value, self.steps.dtype(name).name)
            elif name != "encoder_hidden_states" and not _says_nothing(name, value, tokens, length):
                raise self._lacks(name)
        return feed

    def _ignored_by_encoder(self, name: str, value: Any) -> bool:
        """A mask that an encoder of sound or images does not read; one over text counts, unless it masks nothing."""
        assert self.encoder is not None
        return name.endswith("attention_mask") and ("input_ids" not in self.encoder.inputs or bool((value == 1).all()))

    def _filled(self, names: list[str], given: Mapping[str, Any]) -> dict[str, OrtValue]:
        """An attention mask that was left out: nothing is padding."""
        import torch

        assert self.encoder is not None
        ids = given.get("input_ids")
        if names != ["attention_mask"] or ids is None:
            raise SwapError(f"{self.architecture}'s encoder needs {', '.join(names)}", fix=f"give {names[0]}")
        return {"attention_mask": _value(torch.ones_like(ids), self.encoder.dtype("attention_mask"))}

    def _lacks(self, name: str) -> SwapError:
        inputs = ", ".join(sorted(self.steps.inputs))
        return SwapError(
            f"{self.architecture} is called with {name}, which the graph does not know: it takes {inputs} and gives "
            f"{self.steps.logits}" + (" and the past" if self.steps.has_past else ""),
            fix=FIXES.get(name, f"leave {name} out"),
        )


def _says_nothing(name: str, value: Any, tokens: int, length: int) -> bool:
    """Whether an input that the graph does not have would change nothing."""
    import torch

    if not isinstance(value, torch.Tensor):
        return not isinstance(value, bool | list | tuple)  # generate() hands a tokenizer through, which is ignored
    if name.endswith("attention_mask"):
        return bool((value == 1).all())
    if name == "position_ids":
        return bool((value == torch.arange(length, length + tokens)).all())
    return name == "token_type_ids" and not bool(value.any())


def _kept(logits: torch.Tensor, keep: Any) -> torch.Tensor:
    """The logits of the last `keep` tokens; of those that a tensor names; of all for 0 or None."""
    if keep is None or (isinstance(keep, int) and keep == 0):
        return logits
    return logits[:, -keep:] if isinstance(keep, int) else logits[:, keep]


def _value(tensor: Any, dtype: str) -> OrtValue:
    """A tensor as an OrtValue of that dtype, in the same memory where the dtype is right."""
    import torch
    from onnxruntime import OrtValue

    wanted: torch.dtype = getattr(torch, dtype)
    return OrtValue.from_dlpack(tensor.detach().to("cpu", wanted).contiguous())


def _tensor(value: OrtValue) -> torch.Tensor:
    """An OrtValue as a tensor in the same memory."""
    import torch

    tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(value)
    return tensor
