"""Hashes that say whether two runs used the same weights and the same tokenizer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from suite.models.manifest import file_sha256, read_checksums

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_WEIGHT_FILES = re.compile(r"(config|generation_config|adapter_config)\.json|.*\.safetensors")


def weights_fingerprint(folder: Path, *, is_verified: bool = False) -> str:
    """SHA-256 over configuration and safetensors files of a model or adapter folder.

    With `is_verified` the folder has just been checked against its manifest, whose checksums are
    taken; files are not read again.
    """
    paths = (path for path in folder.iterdir() if _WEIGHT_FILES.fullmatch(path.name))
    return _digest(paths, read_checksums(folder) if is_verified else {})


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256 over the files that decide how a folder's tokenizer and chat template behave."""
    return _digest(folder / name for name in _TOKENIZER_FILES if (folder / name).is_file())


def code_fingerprint(folder: Path) -> str:
    """SHA-256 over the Python files that a model folder brings, for models that run them."""
    return _digest(folder.glob("*.py"))


def _digest(paths: Iterable[Path], known: Mapping[str, str] = MappingProxyType({})) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = known.get(path.name) or _content_name(path)
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def _content_name(path: Path) -> str:
    """The file's SHA-256, taken from the hub cache's blob name where that is one already."""
    blob = path.resolve().name if path.is_symlink() else ""
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else file_sha256(path)
