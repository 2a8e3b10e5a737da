"""What goes into an exported folder: the graph's file, the assets beside it, and the manifest."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_magic.engine.disk import check_space, storage_errors
from onnx_magic.engine.scrubbing import machine_prefixes, without_prefixes
from onnx_magic.engine.tasks import graphs_of
from onnx_magic.errors import StorageError
from onnx_magic.records.artifact import GraphFile, Manifest
from onnx_magic.records.findings import Finding
from onnx_magic.records.plan import ExportPlan, TensorSpec
from onnx_magic.records.results import Validation
from onnx_magic.records.serial import validation_to_json

if TYPE_CHECKING:
    import onnx_ir

    from onnx_magic.engine.sources import ModelSource

SINGLE_FILE_LIMIT = 2**31 - 2**26
"""Bytes of weights that one file takes: protobuf stops at 2 GiB, and the graph itself needs room."""

ASSET_NAMES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json",
    "merges.txt", "preprocessor_config.json", "processor_config.json", "generation_config.json", "chat_template.jinja",
)  # fmt: skip
"""Files that are written beside the graph, where the model has them."""

PROCESSOR_CONFIG = "preprocessor_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
NEW_TOKENIZER_CLASS, OLD_TOKENIZER_CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"
"""What Transformers 5 calls a tokenizer that is its tokenizer.json and no more, and the name that 4 knows too."""
LOADED_HOW = {"is_local", "local_files_only"}
"""What `save_pretrained` writes of the call that loaded a tokenizer; it depends on this machine's settings."""

JS_CONFIG, JS_DATA = "transformers.js_config", "use_external_data_format"
"""Where transformers.js reads of a config.json which graphs have their weights in a file beside them."""

PLACE_KEYS = ("_name_or_path", "name_or_path")
VERSIONED = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript")


def save_graph(model: onnx_ir.Model, path: Path, *, limit: int = SINGLE_FILE_LIMIT) -> tuple[Path, ...]:
    """Write a graph: one file, or with its weights in `<name>.onnx_data` beside it where they exceed `limit` bytes.

    The same graph gives the same bytes. Weights that an earlier graph of this path left beside it are removed.

    Returns:
        The files that were written.

    Raises:
        StorageError: the disk is full, or reports an error.
    """
    import onnx_ir

    beside = path.with_name(f"{path.name}_data")
    size = weight_bytes(model)
    with storage_errors(path):
        check_space(path.parent, size)
        if size <= limit:
            onnx_ir.save(model, path)
            beside.unlink(missing_ok=True)
            return (path,)
        onnx_ir.save(model, path, external_data=beside.name)
    return (path, beside)


def take_in(model: onnx_ir.Model) -> None:
    """Hold all weights in memory: a tool's working file that they lie in will be gone.

    Saving a model in one file leaves the tensors that lie elsewhere there; those in attributes are among them.
    """
    import onnx_ir

    onnx_ir.external_data.load_to_model(model)
    for graph in model.graphs():
        for node in graph:
            for name, attribute in node.attributes.items():
                tensor = attribute.value
                if isinstance(tensor, onnx_ir.ExternalTensor):
                    held = onnx_ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
                    node.attributes[name] = onnx_ir.AttrTensor(name, held)


def weight_bytes(model: onnx_ir.Model) -> int:
    """Bytes of all initializers, subgraphs included."""
    values = (value for graph in model.graphs() for value in graph.initializers.values())
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def write_assets(source: ModelSource, folder: Path) -> tuple[Path, ...]:
    """Write config, tokenizer and processor files; no path of this machine is in them.

    Returns:
        The files that were written.

    Raises:
        StorageError: the disk is full, or a tokenizer cannot be saved.
    """
    before = set(folder.iterdir())
    with storage_errors(folder):
        if source.config is not None:
            graphs = (path.name for path in folder.rglob("*.onnx*"))
            _write_json(folder / "config.json", with_data_files(_config_record(source), graphs))
        if _generates(source):
            record = json.loads(generation_config_of(source).to_json_string())
            _write_json(folder / "generation_config.json", record)
        if source.tokenizer is not None:
            with _without_padding(source.tokenizer), _saving("tokenizer", folder):
                source.tokenizer.save_pretrained(str(folder))
        if source.processor is not None:
            with _saving("processor", folder):
                source.processor.save_pretrained(str(folder))
            _write_preprocessor(source.processor, folder)
        elif source.origin and (Path(source.origin) / PROCESSOR_CONFIG).is_file():
            # The packages it needs are not installed here; where the folder is used they may be.
            text = (Path(source.origin) / PROCESSOR_CONFIG).read_text(encoding="utf-8")
            (folder / PROCESSOR_CONFIG).write_text(text, encoding="utf-8")
        _portable_tokenizer(source.tokenizer or getattr(source.processor, "tokenizer", None), folder / TOKENIZER_CONFIG)
        written = tuple(sorted(set(folder.iterdir()) - before))
        for path in written:
            if path.suffix == ".json" and path.name != "tokenizer.json":
                _scrub_json(path)
    return written


def _portable_tokenizer(tokenizer: Any, path: Path) -> None:
    """Let Transformers 4 load a tokenizer that 5 has written; optimum-onnx 0.1 runs on 4.57 alone.

    4 does not know the name `TokenizersBackend` (5 takes both), and makes token_type_ids unless told that there are
    none, which its `generate` then refuses. Can go when optimum-onnx runs on Transformers 5:
    https://github.com/huggingface/optimum-onnx. How the tokenizer was loaded here is left out too.
    """
    if not path.is_file():
        return
    record = json.loads(path.read_text(encoding="utf-8"))
    if LOADED_HOW & record.keys():
        record = {key: value for key, value in record.items() if key not in LOADED_HOW}
        _write_json(path, record)
    if record.get("tokenizer_class") == NEW_TOKENIZER_CLASS:
        record["tokenizer_class"] = OLD_TOKENIZER_CLASS
        record.setdefault("model_input_names", list(tokenizer.model_input_names))
        _write_json(path, record)


def _write_preprocessor(processor: Any, folder: Path) -> None:
    """preprocessor_config.json too, which transformers.js reads, where Transformers 5 writes processor_config.json."""
    parts = (getattr(processor, name, None) for name in ("image_processor", "feature_extractor"))
    part = next((part for part in parts if hasattr(part, "to_json_string")), None)
    if part is not None and not (folder / PROCESSOR_CONFIG).is_file():
        (folder / PROCESSOR_CONFIG).write_text(part.to_json_string(), encoding="utf-8")


def generation_config_of(source: ModelSource) -> Any:
    """The defaults of the model's `generate`, with what the task asks for (the first token of a language)."""
    config: Any = source.model.generation_config
    if source.wording is None or not source.wording.options:
        return config
    config = copy.deepcopy(config)
    for name, value in source.wording.options.items():
        setattr(config, name, value)
    return config


def _generates(source: ModelSource) -> bool:
    return graphs_of(source.task, type(source.model)) != "one"


@contextlib.contextmanager
def _saving(part: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # the tokenizers package raises Exception itself, also on a full disk
        raise StorageError(f"the {part} cannot be saved: {error}", fix=f"df -h {folder.parent}") from error


@contextlib.contextmanager
def _without_padding(tokenizer: Any) -> Iterator[None]:
    """A tokenizer's file holds the padding and truncation of its last call: leave them out, then set them again."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        yield
        return
    padding, truncation = backend.padding, backend.truncation
    backend.no_padding()
    backend.no_truncation()
    try:
        yield
    finally:
        if padding is not None:
            backend.enable_padding(**padding)
        if truncation is not None:
            backend.enable_truncation(**truncation)


def _config_record(source: ModelSource) -> dict[str, Any]:
    """The config as `save_pretrained` writes it, with the class that readers need to choose the head."""
    record: dict[str, Any] = json.loads(source.config.to_json_string())
    if source.kind == "transformers":
        theirs = (k.__name__ for k in type(source.model).__mro__ if k.__module__.startswith("transformers.models."))
        record["architectures"] = [next(theirs, source.architecture)]
    return record


def with_data_files(config: Mapping[str, Any], files: Iterable[str]) -> dict[str, Any]:
    """A config.json that tells transformers.js which graphs have their weights beside them: it does not look itself.

    `{"transformers.js_config": {"use_external_data_format": {"model.onnx": true}}}`, as its own models have it:
    https://github.com/huggingface/transformers.js/pull/1212.

    Args:
        config: The config; what it says of other graphs stays.
        files: Names of files that were written: `model.onnx`, `model.onnx_data`.
    """
    names = {Path(file).name for file in files}
    told = config.get(JS_CONFIG)
    own = dict(told) if isinstance(told, Mapping) else {}
    known = own.pop(JS_DATA, None)
    kept = {name: value for name, value in known.items() if name not in names} if isinstance(known, Mapping) else {}
    if beside := {**kept, **{name: True for name in sorted(names) if f"{name}_data" in names}}:
        own[JS_DATA] = beside
    rest = {key: value for key, value in config.items() if key != JS_CONFIG}
    return {**rest, JS_CONFIG: own} if own else rest


def _scrub_json(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    scrubbed = _scrubbed(record, machine_prefixes())
    if scrubbed != record:
        _write_json(path, scrubbed)


def _write_json(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _scrubbed(value: Any, prefixes: tuple[str, ...]) -> Any:
    """The value without this machine's paths: places that name one are dropped, folders in texts are cut off."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not (k in PLACE_KEYS and _is_place(v))}
        return {key: _scrubbed(item, prefixes) for key, item in kept.items()}
    if isinstance(value, list):
        return [_scrubbed(item, prefixes) for item in value]
    return without_prefixes(value, prefixes) if isinstance(value, str) else value


def _is_place(value: Any) -> bool:
    """Whether a text names a folder of this machine, not a Hub id."""
    return isinstance(value, str) and (
        value.startswith((".", "~", os.sep)) or os.path.isabs(value) or os.path.exists(value)
    )


def portable_origin(origin: str | None) -> str | None:
    """An origin as a manifest may name it: a Hub id, or a path relative to the current folder; else the last part.

    Example:
        >>> portable_origin("org/name"), portable_origin("/somewhere/else/model")
        ('org/name', 'model')
    """
    if origin is None:
        return None
    path = Path(origin).expanduser()
    if not path.is_absolute() and ".." not in path.parts:
        return origin if origin == str(path) else path.as_posix()
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.resolve().name


def build_manifest(
    source: ModelSource,
    plan: ExportPlan,
    *,
    exporter: str,
    graphs: Mapping[str, GraphFile],
    validation: Validation,
    findings: Sequence[Finding] = (),
    constants: Mapping[str, str] | None = None,
) -> Manifest:
    """What `onnx_magic.json` will say; where the graphs lie, and which files there are, is filled in by the commit.

    Args:
        source: What was exported.
        plan: What was decided.
        exporter: The way that made the graphs.
        graphs: `{"model": GraphFile}`.
        validation: The verdict.
        findings: Findings of the export itself, kept beside those of the verdict.
        constants: Arguments of the forward that the graph holds for good.
    """
    axes = {spec.name: spec.dynamic_axes for graph in graphs.values() for spec in graph.inputs}
    return Manifest(
        name=source.name,
        task=source.task,
        architecture=source.architecture,
        source=portable_origin(source.origin),
        fingerprint=source.fingerprint,
        exporter=exporter,
        graphs={role: graph_entry(graph) for role, graph in graphs.items()},
        axes={name: {str(axis): dim for axis, dim in moving.items()} for name, moving in axes.items() if moving},
        labels={str(index): label for index, label in source.labels.items()},
        tolerances={"atol": dict(validation.atol), "rtol": dict(validation.rtol)},
        validated=validation_to_json(validation),
        decisions=tuple({**dataclasses.asdict(d), "value": _plain(d.value)} for d in plan.decisions),
        findings=tuple(dataclasses.asdict(finding) for finding in findings),
        constants=constants or {},
        wording=dataclasses.asdict(source.wording) if source.wording is not None else {},
        versions=versions(),
    )


def graph_entry(graph: GraphFile) -> dict[str, Any]:
    """A graph as the manifest lists it."""
    return {
        "path": graph.path.name,
        "opset": graph.opset,
        "size": graph.size,
        "inputs": [_spec_entry(spec) for spec in graph.inputs],
        "outputs": [_spec_entry(spec) for spec in graph.outputs],
    }


def _spec_entry(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _plain(value: Any) -> Any:
    """A decision's value as JSON has it; what JSON has not is written as people read it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def versions() -> dict[str, str]:
    """Versions of the libraries that made an export; none of them is imported for it."""
    from onnx_magic import __version__

    found = {"onnx_magic": __version__}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
