"""What a checkpoint is known by in a series: its scores, whatever files they stand in.

The same checkpoint scored again gives files with other dates, times and names; a look at it is no
further chance of a false alarm as long as every item's score is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from suite.config import content_hash
from suite.records import RunRecord
from suite.results.item_table import ItemTable

ReadTables = Callable[[RunRecord], Sequence[ItemTable]]


def scores_fingerprint(records: Iterable[RunRecord], read_tables: ReadTables) -> str:
    """SHA-256 (hex) of the scores of a run.

    They are those of every item under every metric and filter, to the last bit; of a task without
    items the aggregates. Neither the model's name nor conditions or dates are among them.

    Args:
        records: The run's tasks, in any order.
        read_tables: The items of a record.

    Raises:
        RecordError: A file is damaged.
    """
    found: set[tuple[str, ...]] = set()
    for record in records:
        tables = read_tables(record)
        for table in tables:
            for metric, values in table.metrics.items():
                digest = hashlib.sha256(table.keys.astype("S36").tobytes())
                digest.update(values.astype("<f8").tobytes())
                if metric in table.weights:
                    digest.update(table.weights[metric].astype("<f8").tobytes())
                found.add(("items", table.task, table.filter, metric, digest.hexdigest()))
        if not tables:
            found |= {
                ("aggregate", record.label, score.filter, score.metric, repr(score.value))
                for score in record.task.scores
            }
    return content_hash(sorted(found))
