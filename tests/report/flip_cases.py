"""Runs written by hand whose items are right or wrong, and a page of three of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np

from suite.records import (
    Cell,
    Column,
    Comparison,
    Estimate,
    Evidence,
    MetricScore,
    ModelRow,
    Row,
    RunRecord,
    Sample,
    Table,
    TaskScores,
)
from suite.report.page_flips import ItemSource
from suite.results.item_scores import ItemScores
from suite.results.item_table import ItemTable
from suite.results.scored import Scored

ATTACK = "<script>alert(1)</script></script>"
TASKS = ("choices", "sums")
REFERENCE, STUDENT, MIXTURE = "teacher", "student_1", "mixture"


def scored_run(model: str, values: Sequence[float], label: str = "choices") -> Scored:
    """A run whose i-th item has the key `key<i>` of three digits and the i-th value."""
    n = len(values)
    keys = np.array([f"key{i:03}" for i in range(n)], dtype="S36")
    order = np.argsort(keys)
    numbers = np.array(values, dtype=np.float64)[order]
    score = MetricScore("acc", "none", float(numbers.mean()), None, True)
    table = ItemTable(
        task=label,
        filter="none",
        keys=keys[order],
        doc_ids=np.arange(n)[order],
        prompts=np.array([b"p"] * n, dtype="S32"),
        metrics={"acc": numbers},
        weights={},
        answers=np.where(numbers == 1, b"right", f"wrong {model}".encode()).astype("S32"),
        confidence=np.where(numbers == 1, 0.9, 0.4),
    )
    items = ItemScores(
        keys=keys[order],
        values=numbers,
        aggregation="mean",
        higher_is_better=True,
        strata=np.zeros(n, dtype=np.int64),
        stratum_weights=np.ones(1),
    )
    scores = TaskScores(label, (score,), n, 0, "1.0")
    place = f"runs/{model}/{label}.json"
    record = RunRecord(
        model, label, scores, "hash", {}, 12.5, "2 CPU cores", place, conditions={"shots": 0}
    )
    return Scored(record, score, items, None, (table,))


def runs(num_items: int = 60) -> dict[tuple[str, str], Scored]:
    """Three models on two tasks; about a third of the answers differ."""
    rng = np.random.default_rng(0)
    return {
        (model, task): scored_run(model, (rng.random(num_items) < share).astype(float), task)
        for task in TASKS
        for model, share in ((REFERENCE, 0.8), (STUDENT, 0.5), (MIXTURE, 0.7))
    }


def table_of(scored: Mapping[tuple[str, str], Scored]) -> Table:
    """The table of `runs` with evidence, in two sections."""
    columns = tuple(
        Column(task, task, "acc", "none", True, True, len(items), 0, "1.0")
        for task in TASKS
        for items in [scored[REFERENCE, task].items]
        if items is not None
    )
    rows = []
    for model, section in ((REFERENCE, "original"), (STUDENT, "original"), (MIXTURE, "ensembles")):
        cells = tuple(_cell(scored, model, task) for task in TASKS)
        average = sum(cell.value or 0 for cell in cells) / len(cells)
        name = ModelRow(model, "float32", model == REFERENCE, section)
        rows.append(Row(name, cells, average))
    return Table("Flips", columns, tuple(rows), TASKS, provenance={"Seed": "0"})


def _cell(scored: Mapping[tuple[str, str], Scored], model: str, task: str) -> Cell:
    value = scored[model, task].score.value or 0.0
    estimate = Estimate(value, value - 0.1, value + 0.1, 0.95, 60, "Wilson")
    if model == REFERENCE:
        return Cell(value, 0.05, evidence=Evidence(estimate, None, "best"))
    distance = value - (scored[REFERENCE, task].score.value or 0.0)
    difference = Estimate(distance, distance - 0.1, distance + 0.1, 0.95, 60, "exact")
    comparison = Comparison(difference, 0.012, "exact McNemar", True, 5, 20, 0.11, 0.04)
    return Cell(value, 0.05, evidence=Evidence(estimate, comparison, None, True))


def source(text: str = "plain") -> ItemSource:
    """Texts named after their keys, every third of them with `text` in it; no features."""

    def texts(record: RunRecord, filter_name: str) -> Iterator[tuple[bytes, Sample]]:
        for i in range(record.task.num_items or 0):
            prompt = f"{text} {i}" if i % 3 == 0 else f"prompt {'x' * i} of {record.label}"
            answer = f"{record.model} says {i} {text}"
            yield (
                f"key{i:03}".encode(),
                Sample(record.model, record.label, prompt, f"target {i} {text}", answer, None),
            )

    def features(record: RunRecord) -> dict[bytes, dict[str, int]]:
        return {}

    def chosen(run: Scored, keys: Set[bytes]) -> dict[bytes, Sample]:
        found = texts(run.record, run.score.filter)
        return {key: sample for key, sample in found if key in keys}

    return ItemSource(texts, chosen, features)
