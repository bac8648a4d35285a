"""A report as JSON for other programs: unrounded values, nothing left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from suite.records import Failure, Table

SCHEMA_VERSION = 1


def render_json(table: Table, failures: Sequence[Failure], run_files: Sequence[str]) -> str:
    """The table with its provenance, the failed pairs and the files the scores came from.

    A value that is not known is null. A reader refuses a `schema_version` it does not know.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "table": asdict(table),
        "failures": [asdict(failure) for failure in failures],
        "run_files": list(run_files),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
