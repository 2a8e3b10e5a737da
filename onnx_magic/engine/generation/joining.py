"""The two decoder graphs of an encoder-decoder become the file, or the pair of files, that is shipped."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_magic.engine.converting import Attempt, prove_graph
from onnx_magic.engine.generation.encoder_decoder_parts import DECODER, LATER, PAST_ENCODER_SEQUENCE, merged_part
from onnx_magic.engine.generation.merging import merge_decoders, share_weights
from onnx_magic.engine.generation.proving import prove_part
from onnx_magic.engine.packing import save_graph
from onnx_magic.engine.planning import prepare_declared
from onnx_magic.events import stage
from onnx_magic.runtime.graphs import describe_model

if TYPE_CHECKING:
    from onnx_magic.engine.exporting import ExportRequest
    from onnx_magic.engine.generation.parts import Part
    from onnx_magic.engine.sources import ModelSource

PAIR = {DECODER: "decoder_model.onnx", LATER: "decoder_with_past_model.onnx"}
"""The files of a decoder that is not merged, as optimum-onnx looks for them."""

LEAST_SHARED = 1024
"""Bytes from which a tensor of the pair lies in the shared data file."""


def join_decoders(
    source: ModelSource,
    request: ExportRequest,
    parts: Mapping[str, Part],
    attempts: Mapping[str, Attempt],
    staging: Path,
) -> dict[str, Attempt]:
    """The attempts with the two decoder graphs merged and proven again, or sharing their weights; others as they are.

    Raises:
        ExportError: the two graphs do not belong together.
    """
    if LATER not in attempts:
        return dict(attempts)
    if any(attempt.validation.status == "failed" for attempt in attempts.values()):
        return dict(attempts)  # what failed is shown as it is
    if not request.merge:
        return _pair(request, attempts, staging)
    merged = _merged(source, request, merged_part(parts[DECODER], parts[LATER]), attempts, staging)
    return {**{role: a for role, a in attempts.items() if role not in PAIR}, DECODER: merged}


def _merged(
    source: ModelSource, request: ExportRequest, part: Part, attempts: Mapping[str, Attempt], staging: Path
) -> Attempt:
    import onnx_ir

    first, cached = attempts[DECODER], attempts[LATER]
    path = staging / "merged" / "model.onnx"
    with stage("save"):
        axes = {name: moving for name, moving in part.examples.axes.items() if PAST_ENCODER_SEQUENCE in moving.values()}
        model = merge_decoders(onnx_ir.load(first.graph.path), onnx_ir.load(cached.graph.path), axes)
        path.parent.mkdir(parents=True)
        files = save_graph(model, path)
        graph = replace(describe_model(model, path), size=sum(file.stat().st_size for file in files))
        del model
    with stage("plan"):
        prepared = prepare_declared(source, request, part.flat, part.examples, part.output_axes)
    findings = tuple(dict.fromkeys((*first.findings, *cached.findings)))
    assert part.walk is not None
    prover = functools.partial(prove_part, part.walk)
    verdict = prove_graph(prepared, graph, request, prover)
    ways = ", ".join(dict.fromkeys((first.way, cached.way)))
    return Attempt(ways, prepared, graph, verdict, findings)


def _pair(request: ExportRequest, attempts: Mapping[str, Attempt], staging: Path) -> dict[str, Attempt]:
    """The pair of files with one data file between them; each with its own where the user named the .onnx file."""
    import onnx_ir

    if request.output is not None and str(request.output).endswith(".onnx"):
        return dict(attempts)
    folder = staging / "pair"
    folder.mkdir(parents=True)
    joined = dict(attempts)
    with stage("save"):
        for role, name in PAIR.items():
            model = onnx_ir.load(attempts[role].graph.path)
            path = folder / name
            if role == DECODER:
                data = f"{name}_data"
                onnx_ir.save(model, path, external_data=data, size_threshold_bytes=LEAST_SHARED)
                size = path.stat().st_size + (folder / data).stat().st_size
            else:
                share_weights(model, folder / PAIR[DECODER])
                onnx_ir.save(model, path)
                size = path.stat().st_size
            graph = replace(describe_model(model, path), size=size)
            joined[role] = replace(attempts[role], graph=graph)
    return joined
