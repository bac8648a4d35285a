"""The files of measurements: rows, and the machine and versions they were taken with."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suite.errors import ConfigError
from suite.files import write_atomically
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions


def open_folder(folder: Path) -> Path:
    """Make a folder for measurements; called before a long one starts.

    Raises:
        ConfigError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One that was there before may be closed to us.
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def write_record(path: Path, rows: Sequence[Any], *, device: str = "cpu") -> Path:
    """Write measurements as JSON, one object a row (a dataclass); returns the path.

    Raises:
        ConfigError: The folder cannot be written.
    """
    data = {
        "hardware": describe_hardware(device),
        "versions": versions(),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    open_folder(path.parent)
    try:
        write_atomically(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    return path


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"cannot write to {folder} ({reason}); give another --output")
