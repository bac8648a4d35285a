"""Figures of hand-made choices, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.errors import ConfigError
from suite.pipelines import fidelity_answers
from suite.pipelines.fidelity_answers import TaskRuns, compare_tasks
from suite.records import MetricScore, RunRecord, TaskScores
from suite.results.choices import Choices

N = 12


def run(model: str, label: str) -> RunRecord:
    scores = (MetricScore("acc", "none", 0.5, None, True),)
    task = TaskScores(label, scores, N, 0, "1")
    return RunRecord(model, label, task, "", {}, 0.0, "", None)


def choices(probabilities: list[list[float]], correct: list[int], first: int = 0) -> Choices:
    keys = np.array([f"{first + place:02d}".encode() for place in range(len(correct))])
    # Log-likelihoods need not be normalised.
    rows = tuple(np.log(np.array(row)) - 3.0 for row in probabilities)
    return Choices(keys, rows, np.array(correct, np.int64))


@pytest.fixture
def found(monkeypatch):
    """Two tasks; the second one's runs share only some items, and generation has no options."""
    teacher = [[0.7, 0.2, 0.1]] * N
    student = [[0.6, 0.3, 0.1]] * (N - 3) + [[0.2, 0.7, 0.1]] * 3
    before = [[0.1, 0.2, 0.7]] * N
    right = [0] * N
    made = {
        ("teacher", "a"): choices(teacher, right),
        ("student", "a"): choices(student, right),
        ("before", "a"): choices(before, right),
        ("teacher", "b"): choices([[0.5, 0.5]] * 4, [1, 1, -1, 0]),
        ("student", "b"): choices([[0.4, 0.6]] * 4, [1, -1, 0, 0], first=1),
        ("before", "b"): choices([[0.9, 0.1]] * 4, [1, 1, -1, 0]),
    }

    def read(record: RunRecord, filter_name: str) -> Choices | None:
        assert filter_name == "none"
        return made.get((record.model, record.label))

    monkeypatch.setattr(fidelity_answers, "read_choices", read)
    return [
        TaskRuns(label, {role: run(role, label) for role in ("teacher", "before", "student")})
        for label in ("a", "b", "generated")
    ]


def test_shares_are_counted_over_the_items_that_all_models_have(found):
    compared = compare_tasks(found)
    first, second = compared.tasks
    assert (first.num_items, second.num_items, compared.overall.num_items) == (12, 3, 15)
    assert first.own["teacher"].accuracy.value == 1
    assert first.own["student"].accuracy.value == 9 / 12
    assert first.own["before"].accuracy.value == 0
    assert first.versus_teacher["student"].agreement.value == 9 / 12
    # The last item's right option is the first, the one before has none that is known.
    assert second.own["student"].accuracy.value == 1 / 2
    assert second.own["student"].accuracy.n == 2
    assert compared.notes == ("generated is left out: its items have no options to compare.",)


def test_probabilities_are_those_of_the_options(found):
    figures = compare_tasks(found).tasks[0]
    assert figures.own["teacher"].brier_score.value == pytest.approx(0.3**2 + 0.2**2 + 0.1**2)
    assert figures.own["teacher"].calibration_error.value == pytest.approx(0.3)

    def loyalty(p: list[float], q: list[float]) -> float:
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        bits = sum(
            a * math.log2(a / m) / 2 for side in (p, q) for a, m in zip(side, middle, strict=True)
        )
        return 1 - math.sqrt(bits)

    expected = 9 * loyalty([0.7, 0.2, 0.1], [0.6, 0.3, 0.1])
    expected += 3 * loyalty([0.7, 0.2, 0.1], [0.2, 0.7, 0.1])
    found_loyalty = figures.versus_teacher["student"].probability_loyalty.value
    assert found_loyalty == pytest.approx(expected / 12)


def test_options_are_ranked_within_items_and_margins_over_items(found):
    figures = compare_tasks(found).tasks[0]
    assert figures.versus_teacher["student"].option_correlation.value == pytest.approx(
        (9 * 1.0 + 3 * 0.5) / 12
    )
    # The teacher's margins are all alike.
    margins = figures.versus_teacher["student"].margin_correlation
    assert margins.value is None
    assert margins.reason == "one model gives every item the same score"


def test_the_gap_that_training_closed_is_a_share_of_accuracy(found):
    compared = compare_tasks(found)
    recovered = compared.tasks[0].versus_teacher["student"].recovered
    assert recovered is None or recovered.value in (None, pytest.approx(9 / 12))
    assert compared.tasks[0].versus_teacher["before"].recovered is None


def test_without_any_options_there_is_nothing_to_compare(found):
    with pytest.raises(ConfigError) as error:
        compare_tasks(found[2:])
    assert str(error.value) == (
        "--task generated: its items have no options to compare; give a task with multiple choice"
    )


def test_items_without_finite_likelihoods_are_counted_in_a_note(found, monkeypatch):
    read = fidelity_answers.read_choices
    monkeypatch.setattr(
        fidelity_answers,
        "read_choices",
        lambda record, name: (
            replace(read(record, name), num_unusable=2)
            if (record.model, record.label) == ("student", "a")
            else read(record, name)
        ),
    )
    notes = compare_tasks(found).notes
    assert notes[0] == "a: 2 of the items of student have no finite likelihoods and are left out."
