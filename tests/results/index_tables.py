"""What tests of the index share: a run's scores, and equality of tables."""

from __future__ import annotations

from typing import Any

from suite.results.item_table import ItemTable

SCORES = {"one": [1, 0, 1, 1], "two": [0, 0, 1]}


def equal_tables(first: tuple[ItemTable, ...], second: tuple[ItemTable, ...]) -> bool:
    return [columns(table) for table in first] == [columns(table) for table in second]


def columns(table: ItemTable) -> list[Any]:
    """Everything in a table, comparable by ==."""
    arrays = [table.keys, table.doc_ids, table.prompts, table.answers, table.confidence]
    arrays += [*table.metrics.values(), *table.weights.values()]
    arrays += [*table.answers_by_length.values()]
    arrays += [] if table.clusters is None else [table.clusters]
    names = (table.task, table.filter, tuple(table.metrics), tuple(table.weights))
    names += (tuple(table.answers_by_length),)
    return [names, *((array.dtype.str, array.tobytes()) for array in arrays)]
