"""What a call asks of a model, against what its graph can give: what is harmless, what is noted, what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.capturing import arguments_by_name, holds_tensor, is_default
from onnx_magic.engine.flat import signature_of
from onnx_magic.engine.structures import Structure
from onnx_magic.errors import SwapError

if TYPE_CHECKING:
    import torch

    from onnx_magic.engine.flat import FlatModel
    from onnx_magic.exported import ExportedModel

HARMLESS = frozenset({"return_dict", "use_cache"})
"""Arguments that only change the form of the outputs, which is looked at for itself."""

NEUTRAL: Mapping[str, int] = {"token_type_ids": 0, "attention_mask": 1}
"""Inputs that say nothing when all their values are this one: a graph without them answers the same."""

FIXES: Mapping[str, str] = {
    "labels": "leave labels out, and compute the loss from the outputs",
    "past_key_values": "use_cache=False",
    "use_cache": "use_cache=False",
    "inputs_embeds": "give input_ids instead of inputs_embeds",
    "output_hidden_states": "model.config.output_hidden_states = True; exported = %onnx_export model",
    "hidden_states": "model.config.output_hidden_states = False, or export again with it",
    "output_attentions": "model.config.output_attentions = True; exported = %onnx_export model",
    "attentions": "model.config.output_attentions = False, or export again with it",
}
"""What to do about an argument or an output that the graph does not have."""

GIVES: Mapping[str, str] = {"output_hidden_states": "hidden_states", "output_attentions": "attentions"}
"""An argument → the output it asks for: fine where the graph has that output."""


def settled_arguments(flat: FlatModel) -> dict[str, str]:
    """Arguments that were given a value for the export, which the graph holds for good: `{name: its repr}`."""
    # The exported model's own signature: a sentence-transformers model is exported through an adapter.
    named = arguments_by_name(signature_of(flat.model), flat.binding.args, flat.binding.kwargs)
    return {name: repr(value) for name, value in named.items() if not holds_tensor(value) and name not in HARMLESS}


class Asked:
    """Checks the calls of one model against one graph.

    Args:
        exported: The exported model.
        architecture: Class name of the model.
        signature: The signature of its forward.
    """

    def __init__(self, exported: ExportedModel, architecture: str, signature: inspect.Signature) -> None:
        self.architecture, self.signature = architecture, signature
        self.inputs = tuple(spec.name for spec in exported.graph.inputs)
        self.outputs = tuple(spec.name for spec in exported.graph.outputs)
        self.vanished = {f.tensor for f in exported.validation.findings if f.code == "input-vanished" and f.tensor}
        manifest = exported.opened.manifest
        self.settled = dict(manifest.constants) if manifest is not None else {}

    def constants(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that hold no tensor."""
        named = arguments_by_name(self.signature, args, kwargs)
        return {name: value for name, value in named.items() if not holds_tensor(value)}

    def check(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
    ) -> Iterator[str]:
        """Yield a note for each argument that the graph dropped because the model ignores it.

        Raises:
            SwapError: an argument that the graph cannot follow.
        """
        given = arguments_by_name(self.signature, args, kwargs)
        for name, value in self.settled.items():
            if repr(self._or_default(given, name)) != value:
                raise SwapError(
                    f"the graph was exported with {name}={value}, and {self.architecture} is called with "
                    f"{name}={self._or_default(given, name)!r}",
                    fix=f"{name}={value}, or export again with the other value",
                )
        for name, value in given.items():
            if name not in self.settled and not holds_tensor(value) and self._matters(name, value):
                raise self._refusal(name, f"{name}={value!r}" if isinstance(value, bool | int | float | str) else name)
        for name, tensor in tensors.items():
            if name in self.inputs or name.rpartition(".")[2] in self.inputs:
                continue
            root = name.partition(".")[0]
            if root in NEUTRAL and bool((tensor == NEUTRAL[root]).all()):
                continue
            if name not in self.vanished:
                raise self._refusal(root, name)
            yield f"{name} is given, and the graph has no such input: it was dropped by the export"

    def _or_default(self, given: Mapping[str, Any], name: str) -> Any:
        parameter = self.signature.parameters.get(name)
        return given.get(name, None if parameter is None else parameter.default)

    def _matters(self, name: str, value: Any) -> bool:
        """Whether a value without a tensor asks for something the graph may not do."""
        if value is None or name in HARMLESS or is_default(self.signature, name, value):
            return False
        wanted = GIVES.get(name)
        if wanted and (not value or any(o == wanted or o.startswith(f"{wanted}.") for o in self.outputs)):
            return False
        return not (value is False and name not in self.signature.parameters)

    def _refusal(self, name: str, shown: str) -> SwapError:
        return SwapError(
            f"{self.architecture} is called with {shown}, which the graph does not know: its inputs are "
            f"{', '.join(self.inputs)}, its outputs {', '.join(self.outputs)}",
            fix=FIXES.get(name, f"leave {name} out"),
        )

    def names_of(
        self, structure: Structure, kwargs: Mapping[str, Any], given: Mapping[str, torch.Tensor]
    ) -> dict[str, str | None]:
        """The output of the graph for each tensor that the model returns: `{slot: output}`.

        `None` for an input that the model hands through. Without any common name (a tuple, where the export saw a
        ModelOutput) the outputs go by their order.

        Raises:
            SwapError: the model returns something here that the graph does not give.
        """
        slots = [slot.name for slot in structure.slots]
        if not set(slots) & set(self.outputs) and len(slots) == len(self.outputs):
            return dict(zip(slots, self.outputs, strict=True))
        missing = [name for name in slots if name not in self.outputs and name not in given]
        missing += [f"{name} (a number)" for name in structure.numbers]
        if structure.root_is_object:
            missing += structure.objects.values()
        if kwargs.get("use_cache") and structure.objects:
            missing += [f"{path} ({kind})" for path, kind in structure.objects.items()]
            raise self._lacks(missing, FIXES["use_cache"])
        if missing:
            root = missing[0].partition(".")[0]
            raise self._lacks(missing, FIXES.get(root, "exported.run(...) gives its outputs by name"))
        return {name: name if name in self.outputs else None for name in slots}

    def _lacks(self, missing: list[str], fix: str) -> SwapError:
        shown = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        return SwapError(
            f"{self.architecture} returns {shown} in this call, which the graph does not give: its outputs are "
            f"{', '.join(self.outputs)}",
            fix=fix,
        )

    def left_out(self, structure: Structure) -> Iterator[str]:
        """A note for each object (a cache) that PyTorch returns without being asked, and the graph does not."""
        for path, kind in structure.objects.items():
            yield f"{path} ({kind}) is None: the graph does not give it"
