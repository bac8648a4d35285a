"""All files of one report, each replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from suite.errors import SuiteError
from suite.records import Failure, Sample, Table
from suite.report.csv_file import render_csv
from suite.report.json_file import render_json
from suite.report.markdown import render_markdown


def write_report(
    table: Table,
    samples: Sequence[Sample],
    failures: Sequence[Failure],
    run_files: Sequence[str],
    folder: Path,
) -> tuple[Path, ...]:
    """Write every format of `table` into `folder` and return the paths written.

    All formats are made before the first is written, so a table that cannot be rendered leaves an
    earlier report as it was.

    Raises:
        SuiteError: The folder cannot be made or written to.
    """
    contents = {
        "table.md": render_markdown(table),
        "table.csv": render_csv(table),
        "results.json": render_json(table, failures, run_files),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_replace(folder / name, text) for name, text in contents.items())
    except OSError as error:
        reason = error.strerror or str(error)
        raise SuiteError(f"cannot write to {folder} ({reason}); give another --output") from error


def _replace(path: Path, text: str) -> Path:
    """Write a file so that a reader sees the old text or the new one, never a part."""
    # The folder must be the same: a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Text of models may hold lone surrogates; the escape keeps them visible, and valid in JSON.
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
