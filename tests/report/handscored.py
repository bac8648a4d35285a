"""Six models on four tasks with their items, written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from suite.records import MetricScore, ModelRow, RunRecord, Table, TaskScores
from suite.report.evidence import TableEvidence, gather_evidence
from suite.report.pairs import EvidenceOptions
from suite.report.tables import ColumnSpec, build_table
from suite.results.item_scores import ItemScores
from suite.results.scored import Scored

MODELS = (
    ModelRow("teacher", "bfloat16", is_reference=True, section="original"),
    ModelRow("start_1", "bfloat16", section="original"),
    ModelRow("student <b>", "float32, transfer by alm", section="transferred"),
    ModelRow("student & co", "float32, transfer by sft", section="transferred"),
    ModelRow("student 3", "float32, transfer by mined", section="transferred"),
    ModelRow("mixture", "mean_probs of 2", section="ensembles"),
    ModelRow("chance", "random", section="controls"),
)

# Of 80 items, the first so many are right (and of the rest every so-manieth).
RIGHT = {
    "teacher": (70, 4),
    "start_1": (30, 8),
    "student <b>": (66, 7),
    "student & co": (45, 9),
    "student 3": (22, 11),
    "mixture": (71, 5),
    "chance": (20, 5),
}


def keys(n: int) -> np.ndarray:
    return np.array([f"{i:032x}".encode() for i in range(n)], dtype="S36")


def means(values: Sequence[float], **more: object) -> ItemScores:
    """Items of one task whose score is their mean."""
    array = np.asarray(values, dtype=np.float64)
    zeros = np.zeros(len(array), dtype=np.int64)
    return ItemScores(keys(len(array)), array, "mean", True, zeros, np.ones(1), **more)  # type: ignore[arg-type]


def documents(nats: Sequence[float], num_bytes: Sequence[float]) -> ItemScores:
    """Documents of a bits-per-byte task."""
    zeros = np.zeros(len(nats), dtype=np.int64)
    return ItemScores(
        keys(len(nats)),
        -np.asarray(nats),
        "bits_per_byte",
        False,
        zeros,
        np.ones(1),
        np.asarray(num_bytes, dtype=np.float64),
    )


def cell(
    model: str,
    label: str,
    items: ItemScores | None,
    score: MetricScore,
    *,
    conditions: Mapping[str, object] | None = None,
) -> Scored:
    n = 80 if items is None else len(items)
    task = TaskScores(label, (score,), n, 0, "1.0")
    record = RunRecord(
        model, label, task, "key", {}, 1.0, "2 CPU cores", f"{model}/{label}.json",
        conditions={"protocol": "lm-eval", **(conditions or {})},
    )  # fmt: skip
    reason = "it has no samples file" if items is None else None
    return Scored(record, score, items, reason)


def binary(model: str) -> list[float]:
    first, step = RIGHT[model]
    return [float(i < first or i % step == 0) for i in range(80)]


def accuracy(values: Sequence[float]) -> MetricScore:
    mean = sum(values) / len(values)
    stderr = math.sqrt(mean * (1 - mean) / (len(values) - 1))
    return MetricScore("acc", "none", mean, stderr, higher_is_better=True)


def hand_scored() -> dict[tuple[str, str], Scored]:
    """`quiz` has 0/1 items, `graded` numbers, `novels` documents, `closed` aggregates alone."""
    found = {}
    for place, model in enumerate(MODELS):
        name = model.name
        right = binary(name)
        found[name, "quiz"] = cell(name, "quiz", means(right), accuracy(right))
        grades = [0.25 * (i % 4) * (0.5 + 0.5 * value) for i, value in enumerate(right)]
        graded = MetricScore("f1", "none", sum(grades) / 80, 0.03, higher_is_better=True)
        found[name, "graded"] = cell(name, "graded", means(grades), graded)
        sizes = [100.0 + 10 * i for i in range(24)]
        nats = [
            size * (0.7 + 0.01 * place + 0.01 * (i * (place + 2) % 7))
            for i, size in enumerate(sizes)
        ]
        bits = sum(nats) / sum(sizes) / math.log(2)
        score = MetricScore("bits_per_byte", "none", bits, None, higher_is_better=False)
        found[name, "novels"] = cell(name, "novels", documents(nats, sizes), score)
        if name != "mixture":
            found[name, "closed"] = cell(name, "closed", None, accuracy(right))
    return found


def hand_table(
    scored: Mapping[tuple[str, str], Scored] | None = None, models: Sequence[ModelRow] = MODELS
) -> tuple[Table, TableEvidence]:
    """The table of scores and what its items allow to say."""
    scored = hand_scored() if scored is None else scored
    labels = dict.fromkeys(label for _, label in scored)
    table = build_table(
        title="Hand-made_scores & 100 %",
        models=models,
        columns_spec=[ColumnSpec(label, label) for label in labels],
        runs=[one.record for one in scored.values()],
        failures=(),
        provenance={"Report": "by hand"},
    )
    options = EvidenceOptions(num_resamples=1_000)
    return table, gather_evidence(scored, models, table.columns, options)
