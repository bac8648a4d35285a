"""Folders that are expensive to make are made once, checked at each use, and shared safely."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from suite.errors import ModelError
from suite.models.disk_errors import disk_reason
from suite.models.manifest import verify_manifest, write_manifest

log = logging.getLogger(__name__)


def cache_root() -> Path:
    """`$SUITE_CACHE`, else the platform's cache folder for `alm-suite`."""
    given = os.environ.get("SUITE_CACHE")
    return Path(given).expanduser() if given else user_cache_path("alm-suite")


def cached_folder(kind: str, key: str, build: Callable[[Path], dict[str, Any]]) -> Path:
    """The folder `<cache>/<kind>/<key>`, built first if it is missing or damaged.

    `build` fills an empty folder and returns facts for its manifest. Of two processes that ask at
    once, one builds and the other waits; a folder appears by one rename, so a killed build leaves
    nothing that could be taken for a finished one.

    Raises:
        ModelError: The cache folder cannot be written.
    """
    parent = cache_root() / kind
    target = parent / key
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parent / f"{key}.lock")
        with lock:
            if target.exists():
                with contextlib.suppress(ModelError):
                    verify_manifest(target)
                    return target
                log.warning("%s is damaged and is made again", target)
                shutil.rmtree(target)
            _build_atomically(parent, key, build)
    # Libraries tell of a full disk in their own ways.
    except Exception as error:
        reason = disk_reason(error)
        if reason is None:
            raise
        hint = "set SUITE_CACHE to a folder that can be written"
        raise ModelError(f"{target}: cannot be written ({reason}); {hint}") from error
    return target


def _build_atomically(parent: Path, key: str, build: Callable[[Path], dict[str, Any]]) -> None:
    """Build in a neighbouring temporary folder, then rename. The caller holds the lock."""
    for leftover in parent.glob(f".{key}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=parent))
    try:
        write_manifest(unfinished, build(unfinished))
        unfinished.chmod(0o755)
        unfinished.rename(parent / key)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
