"""A folder's `manifest.json`: what made it, and the SHA-256 of each file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from suite.errors import ModelError

FILE_NAME = "manifest.json"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write the manifest of a finished folder; `facts` says how it was made.

    Files of folders inside are in it, too, by their path with slashes.
    """
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    files = {name: file_sha256(folder / name) for name in names if name != FILE_NAME}
    text = json.dumps({"facts": facts, "files": files}, indent=2, ensure_ascii=False)
    (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def has_manifest(folder: Path) -> bool:
    """Whether there is a manifest of ours; other programs write files of that name, too."""
    try:
        data = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and {"facts", "files"} <= data.keys()


def read_facts(folder: Path) -> dict[str, Any]:
    """What the manifest says about how the folder was made."""
    facts: dict[str, Any] = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))["facts"]
    return facts


def read_checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, by name, as the manifest has them."""
    return dict(json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))["files"])


def verify_manifest(folder: Path) -> None:
    """Check every file against the manifest.

    Raises:
        ModelError: The manifest is missing or unreadable, or names the first file that differs.
    """
    difference = find_difference(folder)
    if difference is not None:
        raise ModelError(
            f"{difference}; copy the folder again, or delete its {FILE_NAME} if the change is meant"
        )


def find_difference(folder: Path, *, within: str = "") -> str | None:
    """The first file that is not as the manifest has it, as a clause.

    Args:
        folder: With a manifest.
        within: Look only at the files of this folder inside it.

    Raises:
        ModelError: The manifest is missing or unreadable.
    """
    path = folder / FILE_NAME
    try:
        files = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: no readable manifest ({error})") from error
    for name, expected in files.items():
        if within and not name.startswith(f"{within}/"):
            continue
        if not (folder / name).is_file():
            return f"{folder / name} is missing but listed in {FILE_NAME}"
        if file_sha256(folder / name) != expected:
            return f"{folder / name} differs from its checksum in {FILE_NAME}"
    return None
