"""The `manifest.json` of a stored teacher: what it is valid for, its settings, its shards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from suite.config import Config, PositiveInt, parse_config
from suite.errors import CacheError, ConfigError
from suite.files import write_atomically

MANIFEST_NAME = "manifest.json"
# The rows of a shard that is not full yet.
UNFINISHED_NAME = "unfinished.safetensors"
_FORMAT = "suite teacher cache"

# What a fingerprint is of, in messages.
_LABELS = {
    "text": "text",
    "order": "order of reading",
    "rows": "cutting of rows",
    "boundary": "boundary set",
    "weights": "teacher",
    "tokenizer": "tokenizer",
    "normal_form": "normal form",
    "template": "chat template",
    "dtype": "dtype",
}


class ShardEntry(Config):
    """A finished shard: its file's SHA-256 (hex), its rows and their tokens."""

    file: Annotated[str, Field(pattern=r"^signal-\d{5,}\.safetensors$")]
    sha256: str
    rows: PositiveInt
    tokens: PositiveInt


class CacheSettings(Config):
    """How numbers are computed and laid out; a run that goes on keeps to it.

    Attributes:
        batch_tokens: Most tokens a batch, padding included; the last bits depend on it.
        shard_tokens: A shard ends behind the row that reaches it.
    """

    batch_tokens: PositiveInt
    shard_tokens: PositiveInt


class CacheManifest(Config):
    """What a folder with a stored teacher is.

    Attributes:
        format: Tells it from other programs' manifests.
        version: Of the format.
        complete: All rows are in it.
        fingerprints: What it is valid for, see `teacher_fingerprints`.
        settings: Of no concern to who reads it.
        made_from: How it was made, for people.
        shards: In the order of rows.
    """

    format: str = _FORMAT
    version: Literal[1] = 1
    complete: bool = False
    fingerprints: Mapping[str, str]
    settings: CacheSettings
    made_from: Mapping[str, str]
    shards: tuple[ShardEntry, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards."""
        return sum(shard.tokens for shard in self.shards)


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"signal-{number:05d}.safetensors"


def read_manifest(folder: Path) -> CacheManifest | None:
    """The manifest of a stored teacher; None if there is no file of that name.

    Raises:
        CacheError: It is something else, or damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise CacheError(f"{path}: damaged ({error}); make the cache anew") from error
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise CacheError(f"{path}: not the manifest of a teacher cache; give another folder")
    try:
        return parse_config(CacheManifest, data, str(path))
    except ConfigError as error:
        raise CacheError(f"{error}; make the cache anew") from error


def write_manifest(folder: Path, manifest: CacheManifest) -> None:
    """Write the manifest, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")


def check_fingerprints(
    folder: Path, stored: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    """Compare what a cache is valid for with what it is to be used for.

    Args:
        folder: For the message.
        stored: Of the cache.
        expected: Of its use; only what is in it is compared.

    Raises:
        CacheError: Names the first thing that differs, with both values.
    """
    for name, value in expected.items():
        found = stored.get(name, "unknown")
        if found != value:
            raise CacheError(
                f"{folder}: the cache was made for another {_LABELS.get(name, name)}"
                f" ({shorten(found)!r}, here {shorten(value)!r}); give what it was made with, or"
                " make another one"
            )


def shorten(value: str) -> str:
    """A fingerprint for people: of a hash, its first digits."""
    return value[:12] if re.fullmatch(r"[0-9a-f]{64}", value) else value
