"""From a model entry to folders on this machine, and what their weights are."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import ModelError, SuiteError
from suite.models import packages, tiny
from suite.models.checkpoint_folder import (
    ENDS_FILE,
    ModelFolders,
    checkpoint_facts,
    model_folders,
    verify_model,
)
from suite.models.entry import ModelConfig
from suite.models.folding import folded_folder
from suite.models.gguf import check_reader, converted_folder
from suite.models.manifest import has_manifest, read_facts, verify_manifest
from suite.models.sources import FOLDER_KINDS, Source, TransplantSource

# Everything a model needs and nothing that could run: no pickles, and code only where allowed.
_HUB_TOKENIZER = ["*.json", "*.model", "*.txt", "*.jinja"]
_HUB_FILES = [*_HUB_TOKENIZER, "*.safetensors"]
_HUB_CODE = ["*.py"]
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_TOKENIZER_MARKS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class ResolvedModel:
    """Local folders of a model entry.

    `weights` says what the stored weights are, `stored_dtype` the dtype config.json names.
    """

    folder: Path
    tokenizer_folder: Path
    adapter_folder: Path | None
    weights: str
    stored_dtype: str


def check_entry(entry: ModelConfig) -> None:
    """Check what can be known of an entry without loading or fetching anything.

    Raises:
        ModelError: A folder, file or package is missing or not what it should be.
    """
    with _Named(entry):
        source = entry.source if entry.source.transplant is None else entry.source.transplant.model
        if source.path is not None:
            folders = _check_model_folder(source.path)
            if entry.tokenizer is None:
                _check_tokenizer_folder(folders.model)
        _check_packed(source)
        _check_owner(entry.source.transplant)
        if entry.quantization is not None and importlib.util.find_spec("bitsandbytes") is None:
            raise ModelError(
                f"quantization {entry.quantization} needs the package bitsandbytes;"
                " run: pip install bitsandbytes"
            )


def resolve(entry: ModelConfig, *, is_verified: bool = False) -> ResolvedModel:
    """Fetch or convert what an entry names, and say where it lies.

    Args:
        entry: The model.
        is_verified: Whether its folder has just been checked against its manifest.

    Raises:
        ModelError: It cannot be had; one sentence with the entry's name.
    """
    check_entry(entry)
    with _Named(entry):
        folders = _source_folders(entry)
        folder = folders.model
        _check_weights(folder)
        # Folders of our cache were verified when they were taken from it.
        if entry.source.path is not None and not is_verified:
            _verify(folders)
        if folders.adapter is not None and folders.checkpoint is not None:
            facts = checkpoint_facts(folders.checkpoint) | {"kind": "folded"}
            folder = folded_folder(folder, folders.adapter, facts)
        tokenizer = folder
        if entry.tokenizer is not None:
            tokenizer = model_folders(_folder_or_hub(entry.tokenizer, entry)).model
        _check_tokenizer_folder(tokenizer)
        adapter = None
        if entry.adapter is not None:
            adapter = _folder_or_hub(entry.adapter, entry)
            _check_adapter_folder(adapter)
            _check_plain_adapter(adapter)
        config = _read_config(folder)
        stored_dtype = _stored_dtype(folder, config)
        return ResolvedModel(
            folder=folder,
            tokenizer_folder=tokenizer,
            adapter_folder=adapter,
            weights=entry.weights or _describe(folders, config, stored_dtype),
            stored_dtype=stored_dtype,
        )


def resolve_tokenizer(source: Source) -> Path:
    """The folder with a source's tokenizer; from the hub, weights are not fetched.

    Raises:
        ModelError: It cannot be had; one sentence.
    """
    _check_has_tokenizer(source)
    if source.hub is not None:
        folder = _hub_folder(source.hub, None, _HUB_TOKENIZER)
    else:
        folder = _source_folders(ModelConfig(name=source.kind, source=source)).model
    _check_only_tokenizer(folder)
    return folder


def _check_owner(transplant: TransplantSource | None) -> None:
    """Check where a transplant's tokens come from: a model for `omp`, else a tokenizer will do."""
    if transplant is None or not isinstance(transplant.tokenizer, Source):
        return
    _check_has_tokenizer(transplant.tokenizer)
    if transplant.method == "omp" and transplant.tokenizer.path is not None:
        _check_model_folder(transplant.tokenizer.path)


def _check_has_tokenizer(source: Source) -> None:
    """Check what can be known of a tokenizer's source without fetching anything."""
    if source.path is not None:
        if not source.path.is_dir():
            raise ModelError(f"{source.path} is not a folder; give one with a tokenizer")
        _check_only_tokenizer(model_folders(source.path).model)
    _check_packed(source)


def _check_only_tokenizer(folder: Path) -> None:
    if not _has_tokenizer(folder):
        raise ModelError(f"{folder} has no tokenizer; give a folder with a tokenizer.json")


class _Named:
    """Puts the entry's name before a message; a context manager."""

    def __init__(self, entry: ModelConfig) -> None:
        self.name = entry.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, SuiteError):
            raise type(error)(f"model '{self.name}': {error}") from error


def _check_packed(source: Source) -> None:
    """Check a source whose model has to be unpacked from a file or a package first."""
    if source.gguf is not None:
        if not source.gguf.is_file():
            raise ModelError(f"{source.gguf} does not exist; give a .gguf file")
        check_reader(source.gguf)
    if source.package is not None:
        packages.check_installed(source.package)
        check_reader(source.package)


def _source_folders(entry: ModelConfig) -> ModelFolders:
    source = entry.source
    if source.path is not None:
        return model_folders(source.path)
    if source.hub is not None:
        return ModelFolders(_hub_folder(source.hub, entry.revision, _wanted(entry)))
    if source.gguf is not None:
        return ModelFolders(converted_folder(source.gguf, source.gguf.stem))
    if source.package is not None:
        return ModelFolders(packages.package_folder(source.package))
    if source.random is not None:
        return ModelFolders(tiny.tiny_folder(source.random))
    raise ModelError(f"{source} is no folder of weights; give one of {', '.join(FOLDER_KINDS)}")


def _folder_or_hub(place: Path | str, entry: ModelConfig) -> Path:
    """A local folder if there is one of that name, else a repository of the hub."""
    if Path(place).is_dir():
        return Path(place)
    if Path(place).is_absolute():
        raise ModelError(f"{place} does not exist; give a folder or a name of the hub, org/name")
    return _hub_folder(str(place), None, _wanted(entry))


def _check_model_folder(folder: Path) -> ModelFolders:
    """Where the model of a folder is; a checkpoint, or a run with one, stands for its model."""
    if not folder.exists():
        raise ModelError(f"{folder} does not exist; give a folder written by save_pretrained")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give one written by save_pretrained")
    folders = model_folders(folder)
    if not (folders.model / "config.json").is_file():
        raise ModelError(
            f"{folders.model} is not a model folder (no config.json); give one written by"
            " save_pretrained"
        )
    if folders.adapter is not None:
        _check_adapter_folder(folders.adapter)
    return folders


def _verify(folders: ModelFolders) -> None:
    """Check what is read against the manifest that it is in, if it is in one."""
    if folders.checkpoint is not None:
        verify_model(folders.checkpoint)
    if has_manifest(folders.model):
        verify_manifest(folders.model)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_MARKS)


def _check_tokenizer_folder(folder: Path) -> None:
    if not _has_tokenizer(folder):
        raise ModelError(
            f"{folder} has no tokenizer; save one there or name one with the key tokenizer"
        )


def _check_adapter_folder(folder: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"adapter {folder} has no {name}; give a folder written by peft")


def _check_plain_adapter(folder: Path) -> None:
    """Refuse what peft would read in part and say nothing."""
    if (folder / ENDS_FILE).is_file():
        raise ModelError(
            f"adapter {folder} comes with an embedding of its own; give the checkpoint it is in as"
            " the model, without the key adapter"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy or download it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is damaged (no keys and values); copy or download it again")
    return config


def _check_weights(folder: Path) -> None:
    """Open each safetensors file's header, which a truncated or overwritten file fails."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} has no .safetensors weights; pickled weights are not loaded")
    for file in files:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is damaged ({error}); copy or download it again") from error


def _describe(folders: ModelFolders, config: dict[str, Any], stored_dtype: str) -> str:
    """What the stored weights are: from our manifest, else from config.json."""
    if folders.checkpoint is not None:
        return str(checkpoint_facts(folders.checkpoint).get("weights", "unknown"))
    if has_manifest(folders.model):
        return str(read_facts(folders.model).get("weights", "unknown"))
    method = (config.get("quantization_config") or {}).get("quant_method")
    return f"{method}, {stored_dtype}" if method else stored_dtype


def _stored_dtype(folder: Path, config: dict[str, Any]) -> str:
    """The dtype in config.json (also as torch_dtype, also nested), else that of the weights."""
    nested = config.get("text_config") or {}
    places = (config, nested)
    found = (place.get(key) for place in places for key in ("dtype", "torch_dtype"))
    return next((str(dtype) for dtype in found if dtype), None) or _dtype_in_weights(folder)


def _dtype_in_weights(folder: Path) -> str:
    """The dtype of the first floating-point tensor; old configurations such as gpt2's name none."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="np") as tensors:
            stored = (tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118
            known = next((_DTYPES[dtype] for dtype in stored if dtype in _DTYPES), None)
        if known is not None:
            return known
    return "unknown dtype"


def _wanted(entry: ModelConfig) -> list[str]:
    return [*_HUB_FILES, *(_HUB_CODE if entry.trust_remote_code else [])]


def _hub_folder(repository: str, revision: str | None, wanted: list[str]) -> Path:
    """The local snapshot of a hub repository, downloaded unless it is there."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub import errors as hub_errors

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except (hub_errors.GatedRepoError, hub_errors.LocalTokenNotFoundError) as error:
        raise ModelError(_needs_login(repository)) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"hub:{repository} does not exist or is private; check the name, or log in with"
            " hf auth login or HF_TOKEN"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        hint = "give a branch, tag or commit of its hub page"
        raise ModelError(f"hub:{repository} has no revision {revision!r}; {hint}") from error
    except hub_errors.HFValidationError as error:
        raise ModelError(f"hub:{repository} is not a name of the form org/name") from error
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled) as error:
        off = constants.HF_HUB_OFFLINE
        state = "the hub is switched off (HF_HUB_OFFLINE)" if off else "the hub cannot be reached"
        raise ModelError(
            f"hub:{repository} is not in the local cache and {state}; go online, or give"
            " path:FOLDER"
        ) from error
    except hub_errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ModelError(_needs_login(repository)) from error
        raise ModelError(
            f"hub:{repository} cannot be fetched (HTTP status {status}); try again later"
        ) from error


def _needs_login(repository: str) -> str:
    return (
        f"hub:{repository} is gated or private; accept its terms on its hub page, then log in with"
        " hf auth login or set HF_TOKEN"
    )
