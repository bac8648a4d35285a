"""The texts of a few logged items, found without parsing the lines of all others."""

from __future__ import annotations

import json
import re
from collections.abc import Set

import numpy as np

from suite.records import RunRecord, Sample
from suite.results.sample_texts import sample_of
from suite.results.samples_file import SamplesFile, group_key, is_group, open_samples
from suite.results.scored import Scored

# How lm-eval begins a line.
_BEGINNING = re.compile(rb'\{"doc_id": (\d{1,18}),')


def chosen_texts(scored: Scored, keys: Set[bytes]) -> dict[bytes, Sample]:
    """The texts, which are untrusted, of those items of a run that have these keys.

    Damage in the lines of other items is passed over where the lines are in lm-eval's present form.

    Raises:
        RecordError: A file is damaged.
    """
    record, filter_name = scored.record, scored.score.filter
    numbers = _numbers(scored, keys)
    found: dict[bytes, Sample] = {}
    for file in open_samples(record):
        wanted = numbers.get(file.task, {})
        if not wanted:
            continue
        samples = _by_beginning(record, file, filter_name, wanted.keys())
        if samples is None:
            samples = _by_parsing(record, file, filter_name, wanted.keys())
        found |= {wanted[doc_id]: sample for doc_id, sample in samples.items()}
    return found


def _numbers(scored: Scored, keys: Set[bytes]) -> dict[str, dict[int, bytes]]:
    """By single task, the keys of the wanted items by the items' numbers in the task."""
    is_of_group = is_group(scored.record, scored.tables)
    numbers = {}
    for table in scored.tables:
        start = group_key(table.task, b"") if is_of_group else b""
        own = {key.removeprefix(start): key for key in keys if key.startswith(start)}
        wanted = np.array(list(own), dtype=table.keys.dtype)
        rows = np.flatnonzero(np.isin(table.keys, wanted))
        numbers[table.task] = {int(table.doc_ids[row]): own[table.keys[row].item()] for row in rows}
    return numbers


def _by_beginning(
    record: RunRecord, file: SamplesFile, filter_name: str, doc_ids: Set[int]
) -> dict[int, Sample] | None:
    """Samples by number; None where a line is not as expected, so that every one must be parsed."""
    found: dict[int, Sample] = {}
    try:
        with file.path.open("rb") as lines:
            for text in lines:
                beginning = _BEGINNING.match(text)
                if beginning is None:
                    return None
                doc_id = int(beginning[1])
                if doc_id not in doc_ids:
                    continue
                line = json.loads(text)
                if line.get("filter") is None:
                    return None
                if line["filter"] == filter_name:
                    found[doc_id] = sample_of(record, line)
                    if len(found) == len(doc_ids):
                        break
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        # Parsing every line says what is wrong, and where.
        return None
    return found


def _by_parsing(
    record: RunRecord, file: SamplesFile, filter_name: str, doc_ids: Set[int]
) -> dict[int, Sample]:
    found = file.read(
        lambda line: (
            (line["doc_id"], sample_of(record, line)) if line["doc_id"] in doc_ids else None
        ),
        filter_name,
    )
    return dict(one for one in found if one is not None)
