"""What a full disk makes libraries raise; there is no one class for it."""

from __future__ import annotations

import os
import re

from suite.errors import SuiteError

# How libraries written in Rust tell the system's error number, in newer and in older versions.
_ERROR_NUMBER = re.compile(r"os error (\d+)|code: (\d+)")


def disk_reason(error: BaseException) -> str | None:
    """What the system says was wrong with a file; None for an error of another kind."""
    if isinstance(error, SuiteError):
        return None
    if isinstance(error, OSError):
        return str(error.strerror or error)
    found = _ERROR_NUMBER.search(str(error))
    return os.strerror(int(found[1] or found[2])) if found else None
