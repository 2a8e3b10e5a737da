"""The worker's side of a benchmark for PyTorch: eager, dynamically quantised, or compiled."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.flat import Binding, FlatModel
from onnx_magic.engine.generation.sides import graph_sides
from onnx_magic.errors import UsageError
from onnx_magic.runtime.taking_turns import Contestant, Run, read_feeds, serve

if TYPE_CHECKING:
    import torch

    from onnx_magic.records.artifact import GraphFile
    from onnx_magic.records.results import Array


@dataclass(frozen=True, eq=False)
class Side:
    """PyTorch's side of a folder: a model, and how it becomes what each of the graphs computes.

    Args:
        model: The whole model.
        graphs: The folder's graphs, by role.
        binding: Where the inputs go, where there is one graph without a cache.
    """

    model: torch.nn.Module
    graphs: Mapping[str, GraphFile]
    binding: Binding

    def flats(self, kind: str) -> dict[str, FlatModel]:
        """By role, with the model as `kind` has it.

        Raises:
            UsageError: this torch has no such kind.
        """
        model = KINDS[kind](self.model)
        sides = graph_sides(model, self.graphs)
        if kind == "compiled":
            for flat in sides.values():
                if flat.model is not model:  # the encoder, which is called alone
                    flat.model.compile()
        return sides or {role: FlatModel(model, self.binding) for role in self.graphs}


def load_torch(told: Mapping[str, Any]) -> Contestant:
    """A contender that PyTorch runs: `{"path", "feeds", "loads", "threads", "inter_op", "kind", "modules"}`.

    `path` holds a `Side`, `loads` are the roles of the graphs that the loads run.
    """
    import torch

    torch.set_num_threads(told["threads"])
    torch.set_num_interop_threads(told["inter_op"])
    warnings.simplefilter("ignore")
    for name in told["modules"]:  # importing the model's code is not loading the model
        importlib.import_module(name)
    started = time.perf_counter()
    # The file is this package's own, written a moment ago for this process.
    side: Side = torch.load(told["path"], weights_only=False)
    flats = side.flats(told["kind"])
    seconds = time.perf_counter() - started
    feeds = read_feeds(Path(told["feeds"]), len(told["loads"]))
    return contestant(flats, told["loads"], feeds, told["threads"], seconds)


def contestant(
    flats: Mapping[str, FlatModel],
    roles: Sequence[str],
    feeds: Sequence[Mapping[str, Array]],
    threads: int,
    seconds: float,
) -> Contestant:
    """The runs of all loads, and the facts.

    Args:
        flats: The sides, by role.
        roles: Which of them each load runs.
        feeds: What each is fed.
        threads: Threads within one operator.
        seconds: What loading took.
    """
    device = str(next(iter(flats.values())).device)
    facts = {"provider": device, "threads": threads, "load_seconds": seconds}
    return Contestant(tuple(run_of(flats[role], feed) for role, feed in zip(roles, feeds, strict=True)), facts)


def run_of(flat: FlatModel, feed: Mapping[str, Array]) -> Run:
    """One run of a model at one feed, its arrays already tensors on the model's device."""
    from onnx_magic.engine.tensors import to_tensors

    tensors = {name: tensor.to(flat.device) for name, tensor in to_tensors(feed).items()}
    device = flat.device.type

    def run() -> object:
        outputs = flat.run(tensors)
        _finish(device)
        return outputs

    return run


def _finish(device: str) -> None:
    """Wait for what an accelerator still computes; the CPU has nothing left to do."""
    import torch

    if device != "cpu":
        torch.accelerator.synchronize()


def _eager(model: torch.nn.Module) -> torch.nn.Module:
    return model.eval()


def _int8(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    # Deprecated in favour of torchao, and to be removed: https://github.com/pytorch/ao/issues/2259
    quantize = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if quantize is None:
        raise UsageError(f"torch {torch.__version__} has no dynamic int8", fix="pip install torchao")
    quantized: torch.nn.Module = quantize(model.eval(), {torch.nn.Linear}, dtype=torch.qint8)
    return quantized


def _compiled(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    compiled: torch.nn.Module = torch.compile(model.eval())  # type: ignore[assignment]
    return compiled


KINDS: Mapping[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "eager": _eager,
    "int8": _int8,
    "compiled": _compiled,
}
"""What may become of a model before it is timed."""


if __name__ == "__main__":
    serve(load_torch)
