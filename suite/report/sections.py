"""Which block of a table a model stands in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby

from suite.errors import ConfigError, near_names
from suite.records import Row, RunRecord, Table

SECTIONS = ("original", "transferred", "ensembles", "controls")

# How the weights of a transplanted model and of a trained checkpoint are described.
TRANSFERRED = re.compile(r"\btokens of .+ by \w|\b(?:transfer|distill) by ")


def section_of(record: RunRecord, weights: str) -> str:
    """The section that a run's own record tells; `weights` is its description of the weights.

    Runs of other programs are originals: nothing in their files says how a model was made.
    """
    scored = record.identity.get("model")
    if record.weights is not None or (isinstance(scored, Mapping) and "members" in scored):
        return "ensembles"
    if TRANSFERRED.search(weights):
        return "transferred"
    return "original"


def read_groups(pairs: Iterable[tuple[str, str]], models: Iterable[str]) -> dict[str, str]:
    """The sections a user gives, by model.

    Raises:
        ConfigError: There is no such model or section.
    """
    known = list(models)
    groups = {}
    for model, section in pairs:
        if model not in known:
            raise ConfigError(f"--group: no model '{model}'; {near_names(model, known)}")
        if section not in SECTIONS:
            raise ConfigError(
                f"--group {model}: no section '{section}'; known: {', '.join(SECTIONS)}"
            )
        groups[model] = section
    return groups


def by_section(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows in the order of `SECTIONS`, within a section in their own."""
    places = {section: place for place, section in enumerate(SECTIONS)}
    return tuple(sorted(rows, key=lambda row: places.get(row.model.section, len(SECTIONS))))


def blocks(table: Table) -> list[tuple[str, tuple[Row, ...]]]:
    """A table's rows by section, each with its heading; a table of one block has no heading."""
    found = [
        (section, tuple(rows))
        for section, rows in groupby(table.rows, key=lambda row: row.model.section)
    ]
    return found if len(found) > 1 else [("", table.rows)]
