"""A Hub id → the folder of its snapshot in the Hub's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_magic.engine.sources.files import CONFIG, nearest_folder
from onnx_magic.errors import SourceError

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.py", "*.jinja", "bpe.codes")
SAFETENSORS_FILES = ("model.safetensors", "model-*-of-*.safetensors")
PICKLED_FILES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
IGNORED = ("onnx/*", "openvino/*", "*/*.bin", ".*")


def hub_folder(repo_id: str) -> Path:
    """The snapshot of a Hub model: from the cache, or fetched (config, tokenizer and PyTorch weights only).

    Raises:
        SourceError: no such model, a gated one, or it is not in the cache and the Hub cannot be reached.
    """
    from huggingface_hub import errors

    try:
        return _fetched(repo_id)
    except errors.HFValidationError as error:
        raise SourceError(f"{repo_id!r} is neither a folder nor a Hub id (org/name)", fix=_fix(repo_id)) from error
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{repo_id!r} is gated: its authors must grant you access",
            fix=f"hf auth login  # after asking at https://huggingface.co/{repo_id}",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"{repo_id!r} is neither a folder nor a model on the Hub (or it is private)",
            fix=_fix(repo_id, "hf auth login  # for a private model"),
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, _http_error(), OSError) as error:
        cached = cached_folder(repo_id)
        if cached is not None:  # fetched by other means: not all files of the repository, but those of the model
            return cached
        raise SourceError(
            f"{repo_id!r} is neither a folder nor in the Hub's cache, and the Hub cannot be reached",
            fix=_fix(repo_id, f"hf download {repo_id}  # where there is a network"),
        ) from error


def cached_folder(repo_id: str) -> Path | None:
    """The snapshot of a Hub model in the Hub's cache, if it is there; asks no network."""
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError

    try:
        config = hub.try_to_load_from_cache(repo_id, CONFIG)
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def _http_error() -> type[BaseException]:
    """The root of the errors of the HTTP library that huggingface_hub uses (httpx, httpx2)."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__mro__[1]


def _fetched(repo_id: str) -> Path:
    import huggingface_hub as hub

    quiet: dict[str, Any] = {"tqdm_class": _silent_bar(), "ignore_patterns": list(IGNORED)}
    folder = Path(hub.snapshot_download(repo_id, allow_patterns=[*SMALL_FILES, *SAFETENSORS_FILES], **quiet))
    if (folder / CONFIG).is_file() and not any(folder.glob("model*.safetensors")):
        return Path(hub.snapshot_download(repo_id, allow_patterns=[*SMALL_FILES, *PICKLED_FILES], **quiet))
    return folder


def _silent_bar() -> type[Any]:
    """A progress bar that draws nothing: the Hub's own would draw a widget in the cell."""
    from tqdm import tqdm

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

    return Silent


def _fix(repo_id: str, otherwise: str = "%onnx_export ./path/to/checkpoint") -> str:
    near = nearest_folder(repo_id)
    return f"%onnx_export {near}" if near else otherwise
