"""sentence-transformers models: recognised without importing the library, and given a forward with flat inputs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.sources.source import ModelSource, class_name, is_instance_of
from onnx_magic.engine.tasks import resolve_task
from onnx_magic.errors import SourceError, TaskMismatchError

if TYPE_CHECKING:
    import torch

OUTPUTS = ("token_embeddings", "sentence_embedding")
TASK = "feature-extraction"


def is_sentence_transformer(value: Any) -> bool:
    """Whether `value` is a `SentenceTransformer`."""
    return is_instance_of(value, "sentence_transformers", "SentenceTransformer")


def encoded_model(module: Any) -> Any:
    """The SentenceTransformer inside our adapter; `None` for any other module."""
    return module.sentence_transformer if type(module).__name__ == "SentenceEncoder" else None


@functools.cache
def sentence_encoder_class() -> type[torch.nn.Module]:
    """`SentenceEncoder`: made on first use, since its base class is torch's."""
    import torch

    class SentenceEncoder(torch.nn.Module):
        """A SentenceTransformer with flat inputs, int64 of shape (batch, sequence).

        Its outputs: `token_embeddings` (batch, sequence, hidden) and `sentence_embedding` (batch, embedding).
        """

        def __init__(self, sentence_transformer: torch.nn.Module) -> None:
            super().__init__()
            self.sentence_transformer = sentence_transformer
            self.training = sentence_transformer.training

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> dict[str, torch.Tensor]:
            """Token and sentence embeddings."""
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            if token_type_ids is not None:
                features["token_type_ids"] = token_type_ids
            given = self.sentence_transformer(features)
            return {name: given[name] for name in OUTPUTS if given.get(name) is not None}

    return SentenceEncoder


def sentence_source(model: Any, task: str | None) -> ModelSource:
    """A SentenceTransformer as feature-extraction, through `SentenceEncoder`.

    Raises:
        TaskMismatchError: another task was given.
        SourceError: its first module is no Transformers model (CLIP, static embeddings).
    """
    from onnx_magic.engine.sources.transformers_models import name_of_origin

    if task is not None and resolve_task(task).name != TASK:
        raise TaskMismatchError(
            f"task {task!r} does not fit a SentenceTransformer: it does {TASK}", fix=f"task={TASK}", stage="source"
        )
    inner = next((part for part in model.modules() if is_instance_of(part, "transformers", "PreTrainedModel")), None)
    tokenizer = getattr(model, "tokenizer", None)
    if inner is None or tokenizer is None or "input_ids" not in getattr(tokenizer, "model_input_names", ()):
        raise SourceError(
            "this SentenceTransformer does not start with a Transformers text model: expected tokens as its input",
            fix="%onnx_export model[0] inputs=(x,)",
        )
    return ModelSource(
        model=sentence_encoder_class()(model),
        name=name_of_origin(inner.config) or class_name(type(model)),
        task=TASK,
        task_by="default" if task is None else "user",
        architecture=type(model).__name__,
        kind="sentence-transformers",
        config=inner.config,
        tokenizer=tokenizer,
        # The folder alone, loaded as a checkpoint, would be the bare encoder: another model.
        origin=None,
    )
