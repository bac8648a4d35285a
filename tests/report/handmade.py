"""Short names for records written by hand."""

from __future__ import annotations

from suite.records import MetricScore, RunRecord, TaskScores


def acc(value: float | None, stderr: float | None = 0.0123456789012345) -> MetricScore:
    return MetricScore("acc", "none", value, stderr, higher_is_better=True)


def bits_per_byte(value: float) -> MetricScore:
    return MetricScore("bits_per_byte", "none", value, None, higher_is_better=False)


def exact_match(filter_name: str, value: float) -> MetricScore:
    return MetricScore("exact_match", filter_name, value, 0.02, higher_is_better=True)


def task_scores(*scores: MetricScore, num_truncated: int | None = 0) -> TaskScores:
    return TaskScores("a_task", scores, 150, 0, "1.0", num_truncated)


def run(model: str, label: str, task: TaskScores) -> RunRecord:
    return RunRecord(model, label, task, "key", {}, 1.5, "2 CPU cores", f"runs/{label}.json")
