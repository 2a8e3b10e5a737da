"""The noun ModelSource, and the fingerprint of a model's weights."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from onnx_magic.errors import SourceError

if TYPE_CHECKING:
    import torch

Kind: TypeAlias = Literal["transformers", "sentence-transformers", "torch"]
TaskBy: TypeAlias = Literal["user", "config", "default"]

FINGERPRINT_LENGTH = 16
NAME_LENGTH = 80
"""A name becomes a folder's name: file systems stop at 255 bytes, and suffixes are added to it."""


@dataclass(frozen=True)
class Wording:
    """What a task says to a model that does several.

    Args:
        prefix: What is put before every text.
        options: Arguments of `generate` that belong to it: `{"forced_bos_token_id": 250008}`.
        languages: The model's names of the source and the target language, where it has any.
    """

    prefix: str = ""
    options: Mapping[str, int] = field(default_factory=dict)
    languages: tuple[str, str] | None = None


@dataclass(eq=False)
class ModelSource:
    """What was given to export, ready to run.

    Args:
        model: The live module, in the mode it came in; a checkpoint is loaded in eval mode.
        name: For people and for the default output folder (`sentiment-mini`).
        task: Canonical task; `None` for a plain module, and for a head that is in no task's table.
        task_by: Who decided the task.
        architecture: Class name of the model.
        kind: How the model is called.
        config: The Transformers config, `None` for plain modules.
        tokenizer: The tokenizer, where there is one.
        processor: The image processor, feature extractor or processor, where there is one.
        origin: The folder or Hub id as the user gave it, so that it can be loaded again; `None` for a variable.
        labels: `{class index: label}`, where the task has labels.
        wording: What the task says to a model that does several (translate to French, summarize).
    """

    model: torch.nn.Module
    name: str
    task: str | None
    task_by: TaskBy
    architecture: str
    kind: Kind
    config: Any = None
    tokenizer: Any = None
    processor: Any = None
    origin: str | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    wording: Wording | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights as they were when it was first asked for."""
        return fingerprint_module(self.model)


def fingerprint_module(model: torch.nn.Module) -> str:
    """A hash (16 hex digits) of the name, dtype, shape and bytes of every parameter and buffer.

    Independent of device, train mode and memory layout; wrappers of `torch.compile`, DataParallel and our own do not
    count. Storage that several names share is read once.

    Raises:
        SourceError: a weight is on the meta device: it has no bytes.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> fingerprint_module(layer) == fingerprint_module(layer.train().double().float())
        True
    """
    import torch

    from onnx_magic.engine.sources.torch_modules import unwrapped

    whole = hashlib.sha256()
    seen: dict[tuple[object, ...], bytes] = {}
    for name, value in unwrapped(model).state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_meta:
            raise SourceError(
                f"weight {name!r} of {type(model).__name__} is on the meta device: it was never loaded",
                fix="model = Model.from_pretrained(folder)  # without device_map or init_empty_weights",
            )
        tensor = value.detach()
        key = _identity(tensor)
        if key is None or key not in seen:
            digest = _digest(tensor)
            if key is not None:
                seen[key] = digest
        else:
            digest = seen[key]
        head = f"{name}|{str(tensor.dtype).removeprefix('torch.')}|{tuple(tensor.shape)}|"
        whole.update(head.encode() + digest)
    return whole.hexdigest()[:FINGERPRINT_LENGTH]


def _identity(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """The place of a tensor in memory, `None` where it has no one place (sparse, quantised)."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized:
        return None
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _digest(tensor: torch.Tensor) -> bytes:
    """Hash of the values in row-major order; no copy for contiguous CPU memory."""
    import torch

    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    flat = tensor.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    if flat.numel() == 0:
        return hashlib.sha256().digest()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def is_instance_of(value: Any, package: str, name: str) -> bool:
    """Whether `value` is an instance of a class called `name` of `package`, or of a subclass; imports nothing."""
    return any(kind.__name__ == name and kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)


def clean_name(text: str) -> str:
    """`text` as the name of a folder: letters, digits, `.`, `_` and `-`; empty when nothing sensible is left.

    Example:
        >>> clean_name("my model (v2)")
        'my-model-v2'
    """
    return re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-._")[:NAME_LENGTH].rstrip("-._")


def class_name(kind: type) -> str:
    """A class's name in lower case with dashes.

    Example:
        >>> class BertForSequenceClassification: ...
        >>> class_name(BertForSequenceClassification)
        'bert-for-sequence-classification'
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__)
    return clean_name(words.lower()) or "model"
