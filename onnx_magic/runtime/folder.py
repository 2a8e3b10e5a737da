"""What lies in a folder: graphs, variants, manifest, tokenizer, image processor. All of it untrusted input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnx_magic.errors import GraphFileError
from onnx_magic.records.artifact import ExportReport, GraphFile, Manifest
from onnx_magic.records.plan import Decision
from onnx_magic.records.results import Validation
from onnx_magic.records.variants import VariantRecord
from onnx_magic.runtime.graphs import read_graph
from onnx_magic.runtime.imaging import ImageProcessor, load_image_processor
from onnx_magic.runtime.layout import find_layout, find_root, find_variants, remake, split_variant
from onnx_magic.runtime.listening import AudioProcessor, load_audio_processor
from onnx_magic.runtime.manifests import read_manifest, validation_of, variant_record
from onnx_magic.runtime.sessions import Session, find_provider, open_graph
from onnx_magic.runtime.spelling import CtcSpeller, load_speller
from onnx_magic.runtime.tokenizing import TextTokenizer, load_tokenizer, read_json

_ANSWERING = ("model", "decoder")
"""Which graph yields the task's answer: the first of these that is there."""

_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForMultipleChoice": "multiple-choice",
    "ForImageClassification": "image-classification",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "WhisperForConditionalGeneration": "automatic-speech-recognition",
    "VisionEncoderDecoderModel": "image-to-text",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "Model": "feature-extraction",
}
"""How a model's class name ends → its task, for a folder without a manifest."""

_UNREAD: Any = object()


class OpenedFolder:
    """An exported folder, ready to run. Sessions, tokenizer and image processor are made when they are first asked for.

    Args:
        folder: The folder.
        graphs: The graphs of one variant: `{"model": GraphFile}`.
        manifest: What onnx_magic.json holds, where there is one.
        variant: Name of the variant; `None` for the plain export.
        name: The model's name; from the manifest, else the folder's name.
        config: config.json; read from the folder when not given.
        tokenizer: Used in place of the folder's own.
        image_processor: Used in place of the folder's own.
        validation: The verdict; from the manifest when not given.
        made: What was done to make the variant; from the manifest when not given.

    Example:
        >>> opened = open_folder(Path("sentiment-mini-onnx"))  # doctest: +SKIP
        >>> opened.graph.inputs[0].name  # doctest: +SKIP
        'input_ids'
    """

    def __init__(
        self,
        folder: Path,
        graphs: Mapping[str, GraphFile],
        *,
        manifest: Manifest | None = None,
        variant: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: TextTokenizer | None = _UNREAD,
        image_processor: ImageProcessor | None = _UNREAD,
        validation: Validation | None = None,
        made: VariantRecord | None = None,
    ) -> None:
        self.folder = folder
        self.graphs = dict(graphs)
        self.manifest = manifest
        self.variant = variant
        self.name = name or (manifest.name if manifest else "") or folder.resolve().name.removesuffix("-onnx")
        self._config = config
        self._tokenizer = tokenizer
        self._image_processor = image_processor
        self._audio_processor: AudioProcessor | None = _UNREAD
        self._speller: CtcSpeller | None = _UNREAD
        self._validation = validation
        self._made = made
        self._sessions: dict[tuple[str, str], Session] = {}
        self.other_tokenizer: Callable[[Path], TextTokenizer | None] = _none
        """How higher layers read a tokenizer that the `tokenizers` library has no file of."""
        self.held: dict[str, Any] = {}
        """What higher layers made of the sessions (a model without weights), kept as long as they are."""

    @property
    def graph(self) -> GraphFile:
        """The graph that yields the task's answer."""
        role = next((role for role in _ANSWERING if role in self.graphs), None)
        return self.graphs[role] if role else next(iter(self.graphs.values()))

    @property
    def reading(self) -> GraphFile:
        """The graph that is fed what a person has: an encoder, else the one that answers."""
        return self.graphs.get("encoder", self.graph)

    @property
    def prefix(self) -> str:
        """What is put before every text (`translate English to French: `); empty where nothing is."""
        prefix = self.manifest.wording.get("prefix") if self.manifest else None
        return prefix if isinstance(prefix, str) else ""

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json; empty where there is none."""
        if self._config is None:
            self._config = read_json(self.folder / "config.json")
        return self._config

    @property
    def architecture(self) -> str:
        """Class name of the model; empty where nothing tells it."""
        if self.manifest:
            return self.manifest.architecture
        classes = self.config.get("architectures")
        return str(classes[0]) if isinstance(classes, list) and classes else ""

    @property
    def task(self) -> str | None:
        """Canonical task: the manifest's, else the one that the architecture's name ends with."""
        if self.manifest:
            return self.manifest.task
        return next((task for head, task in _HEADS.items() if self.architecture.endswith(head)), None)

    @property
    def labels(self) -> dict[int, str]:
        """Names of the labels by number, from the manifest, else from config.json."""
        found = (self.manifest.labels if self.manifest else None) or self.config.get("id2label") or {}
        try:
            return {int(index): str(label) for index, label in found.items()}
        except (ValueError, AttributeError) as error:
            raise GraphFileError(
                f"{self.folder}: id2label is {found!r}, expected numbers and names", fix="mend id2label in config.json"
            ) from error

    @property
    def problem_type(self) -> str | None:
        """`regression`, `multi_label_classification`, ... as config.json says; else `None`."""
        return self.config.get("problem_type")

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The tokenizer; `None` where there is none."""
        if self._tokenizer is _UNREAD:
            self._tokenizer = load_tokenizer(self.folder) or self.other_tokenizer(self.folder)
        return self._tokenizer

    @property
    def image_processor(self) -> ImageProcessor | None:
        """The image processor; `None` where there is none."""
        if self._image_processor is _UNREAD:
            self._image_processor = load_image_processor(self.folder)
        return self._image_processor

    @property
    def audio_processor(self) -> AudioProcessor | None:
        """The feature extractor for sounds; `None` where there is none."""
        if self._audio_processor is _UNREAD:
            self._audio_processor = load_audio_processor(self.folder, self.name)
        return self._audio_processor

    @property
    def speller(self) -> CtcSpeller | None:
        """The vocabulary of a CTC model; `None` where there is none."""
        if self._speller is _UNREAD:
            self._speller = load_speller(self.folder)
        return self._speller

    @property
    def validation(self) -> Validation:
        """The verdict that the manifest holds on this very file; "unchecked" where it holds none."""
        if self._validation is None:
            self._validation = validation_of(self.folder, self.manifest, self.variant, self.graphs)
        return self._validation

    @property
    def made(self) -> VariantRecord | None:
        """What was done to make this variant; `None` for the plain export, and where no manifest tells it."""
        if self._made is None and self.variant is not None:
            self._made = variant_record(self.folder, self.manifest, self.variant)
        return self._made

    @property
    def variant_files(self) -> dict[str, dict[str, Path]]:
        """`{variant: {graph: file}}` of what lies beside these graphs now, the plain export as `""`."""
        return find_variants({role: graph.path for role, graph in self.graphs.items()})

    def of_variant(
        self,
        variant: str | None,
        graphs: Mapping[str, GraphFile],
        validation: Validation | None = None,
        made: VariantRecord | None = None,
    ) -> OpenedFolder:
        """The same folder, opened at another variant; the manifest is read anew."""
        return OpenedFolder(
            self.folder,
            graphs,
            manifest=read_manifest(self.folder) if self.manifest else None,
            variant=variant,
            name=self.name,
            config=self._config,
            tokenizer=self._tokenizer,
            image_processor=self._image_processor,
            validation=validation,
            made=made,
        )

    @property
    def report(self) -> ExportReport:
        """What is shown of it; the stages of the export are not kept on disk."""
        return ExportReport(
            name=self.name,
            folder=self.folder,
            task=self.task,
            architecture=self.architecture,
            exporter=self.manifest.exporter if self.manifest else "",
            graphs=self.graphs,
            stages=(),
            validation=self.validation,
            decisions=tuple(Decision(**row) for row in self.manifest.decisions) if self.manifest else (),
            variant=self.variant,
            made=self.made,
        )

    def session(self, provider: str | None = None, role: str | None = None) -> Session:
        """The session of one graph; made once per provider.

        Args:
            provider: Execution provider; the CPU when not given.
            role: A key of `graphs` (`model`, `encoder`, `decoder`); the graph that yields the answer when not given.

        Raises:
            UsageError: this ONNX Runtime has no such provider.
            GraphFileError: ONNX Runtime does not take the graph, or there is no graph of that role.
        """
        name = find_provider(provider)
        if role is not None and role not in self.graphs:
            raise GraphFileError(
                f"{self.folder} holds no {role} graph: it holds {', '.join(self.graphs)}",
                fix="onnx_magic.load(folder)  # the folder that was exported, with all its files",
            )
        graph = self.graphs[role] if role is not None else self.graph
        key = name, str(graph.path)
        if key not in self._sessions:
            if not graph.path.is_file():
                which = f"variant {self.variant}" if self.variant else "the export"
                raise GraphFileError(
                    f"{graph.path} is gone: {which} was deleted since it was opened", fix=remake(self.variant)
                )
            self._sessions[key] = open_graph(graph.path, name)
        return self._sessions[key]

    def close(self) -> None:
        """Let go of the sessions; they are made again when needed."""
        self._sessions.clear()
        self.held.clear()

    def __repr__(self) -> str:
        """One line: folder, variant, task."""
        return f"<OpenedFolder {self.folder} ({self.variant or 'plain'}, {self.task or 'no task'})>"


def _none(folder: Path) -> None:
    """No tokenizer."""


def open_folder(path: Path, variant: str | None = None) -> OpenedFolder:
    """Open an exported folder, its onnx/ subfolder, or one .onnx file.

    Args:
        path: A folder with an onnx_magic.json, a folder with a bare model.onnx, or the file.
        variant: `int8`, `int8-static`, `uint8`, `fp16`, `q4`, `q4f16`, `optimized`; the plain export, or the file
            given, when `None`.

    Raises:
        GraphFileError: nothing there that is an ONNX model, or a manifest that cannot be read.
        UsageError: no such variant there; names those that are.
    """
    path = Path(path)
    root = find_root(path)
    manifest = read_manifest(root)
    if manifest and path.is_file() and not _is_of(path, manifest):
        manifest = None
    listed = {role: root / entry["path"] for role, entry in manifest.graphs.items()} if manifest else {}
    layout = find_layout(path, root, listed)
    if manifest and variant in manifest.variants and variant not in layout.files:
        raise GraphFileError(f"{root}: the file of variant {variant} is gone", fix=remake(variant))
    chosen, files = layout.choose(variant)
    graphs = {role: read_graph(file) for role, file in files.items()}
    name = manifest.name if manifest else layout.name
    return OpenedFolder(root, graphs, manifest=manifest, variant=chosen, name=name)


def _is_of(file: Path, manifest: Manifest) -> bool:
    """Whether the manifest beside a file is about that file, or a variant of it, and not about a neighbour."""
    stems = {Path(str(entry["path"])).stem for entry in manifest.graphs.values()}
    return split_variant(file.stem)[0] in stems
