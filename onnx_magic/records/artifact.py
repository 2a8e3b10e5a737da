"""What lies on disk: a graph file, the stages that made it, the manifest of a folder, and the report that is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_magic.records.findings import Finding
from onnx_magic.records.plan import Decision, TensorSpec
from onnx_magic.records.results import Validation
from onnx_magic.records.variants import VariantRecord

MANIFEST_NAME = "onnx_magic.json"
MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class GraphFile:
    """One .onnx file.

    Args:
        path: The file.
        inputs: Specs of its inputs, in order.
        outputs: Specs of its outputs, in order.
        opset: The opset of the default domain, as read back from the file.
        size: Bytes on disk, external data included.
        operators: How often each operator stands in the graph, subgraphs and functions included: `{"MatMul": 24}`.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    size: int
    operators: Mapping[str, int] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """How many nodes the graph has."""
        return sum(self.operators.values())


@dataclass(frozen=True)
class Stage:
    """One stage of an export: `ok` is `None` when it was not reached.

    Args:
        name: `source`, `plan`, `capture`, `convert`, `check`, `verify`, `store`.
        ok: Whether it went well; `None` when it was not reached.
        seconds: Wall time.
        detail: What it did, in a few words.
    """

    name: str
    ok: bool | None = None
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Manifest:
    """What `onnx_magic.json` holds: enough to run, check and re-export a folder without the notebook it came from.

    Args:
        name: The model's name.
        task: Canonical task, or `None` for a plain module.
        architecture: Class name of the model.
        source: Folder or Hub id the model came from, never an absolute path; `None` for a variable.
        fingerprint: Hash of the weights.
        exporter: `dynamo` or `torchscript`.
        graphs: `{"model": {"path", "opset", "inputs", "outputs"}}`, paths relative to the folder.
        axes: The inputs' dynamic axes.
        labels: `id2label`, where the task has labels.
        tolerances: `{"atol": {dtype: value}, "rtol": {dtype: value}}`.
        validated: `{"status", "shapes": [{"label", "shapes", "passed"}], "findings": [{"code", "sentence", "level"}]}`.
        decisions: Who decided what.
        constants: Arguments of the forward that the graph holds for good: `{name: its repr}`.
        wording: What the task says to a model that does several: `{"prefix", "options", "languages"}`.
        findings: Findings of the export itself (a fallback, a quirk), as the rows of `validated["findings"]`.
        versions: Versions of the libraries that made it.
        variants: `{name: {...}}`; `"stale": True` in one that was made from other weights than the graphs'.
        files: Every file of the export but the manifest, relative to the folder: what a re-export may replace.
        format: Version of this layout.
    """

    name: str
    task: str | None
    architecture: str
    source: str | None
    fingerprint: str
    exporter: str
    graphs: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    validated: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[Mapping[str, Any], ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    wording: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    format: int = MANIFEST_FORMAT

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `json.dumps` takes, `format` first."""
        record = dataclasses.asdict(self)
        return {"format": record.pop("format"), **record}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Manifest:
        """Read what `to_json` wrote; unknown keys of a later minor version are left out.

        Raises:
            ValueError: `format` is not ours, or a field is missing.
        """
        if record.get("format") != MANIFEST_FORMAT:
            raise ValueError(f"manifest format {record.get('format')!r}, expected {MANIFEST_FORMAT}")
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{key: _frozen(value) for key, value in record.items() if key in known})
        except TypeError as error:
            raise ValueError(f"manifest: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class ExportReport:
    """All that is shown of an exported model: what `display` draws for it.

    Args:
        name: The model's name.
        folder: Where it lies, as a person would type it.
        task: Canonical task, or `None` for a plain module.
        architecture: Class name of the model.
        exporter: The way that made it.
        graphs: `{"model": GraphFile}`.
        stages: What was done, in order.
        validation: The verdict.
        decisions: Who decided what (axes as `input_ids[0]`).
        variant: Name of the variant, `None` for the plain export.
        findings: Findings that belong to the export, not to the verdict (fallback, quirks, opset).
        made: What was done to make it, where it is a variant.
        edit: What is typed to edit the axes; empty where they cannot be edited.
    """

    name: str
    folder: Path
    task: str | None
    architecture: str
    exporter: str
    graphs: Mapping[str, GraphFile]
    stages: tuple[Stage, ...]
    validation: Validation
    decisions: tuple[Decision, ...] = ()
    variant: str | None = None
    findings: tuple[Finding, ...] = ()
    made: VariantRecord | None = None
    edit: str = "%onnx_axes model"
