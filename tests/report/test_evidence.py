"""What a table says is what its items show, computed again from the formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from handscored import MODELS, accuracy, binary, cell, documents, hand_scored, hand_table, means
from scipy import stats
from statsmodels.stats.multitest import multipletests

from suite.records import MetricScore, ModelRow, Table
from suite.report.evidence import TableEvidence, gather_evidence
from suite.report.evidence_notes import evidence_notes
from suite.report.pairs import ColumnPairs, EvidenceOptions, Resamples, exact_p_value
from suite.report.paper_rows import Roles, paper_table, with_evidence
from suite.results.scored import Scored


def binomial_p(first: list[float], second: list[float]) -> float:
    more = sum(a > b for a, b in zip(first, second, strict=True))
    less = sum(a < b for a, b in zip(first, second, strict=True))
    return 1.0 if more + less == 0 else stats.binomtest(more, more + less, 0.5).pvalue


def quiz_of(rights: dict[str, list[float]], *sections: str) -> tuple[Table, TableEvidence]:
    """A table of one 0/1 task; the first model is the reference."""
    names = list(rights)
    where = sections or ("original",) * len(names)
    models = [
        ModelRow(name, "w", is_reference=name == names[0], section=section)
        for name, section in zip(names, where, strict=True)
    ]
    scored = {
        (name, "quiz"): cell(name, "quiz", means(values), accuracy(values))
        for name, values in rights.items()
    }
    return hand_table(scored, models)


def first_right(count: int, n: int = 100) -> list[float]:
    return [float(i < count) for i in range(n)]


def test_differences_are_tested_exactly_and_corrected_over_the_whole_table() -> None:
    scored = {key: one for key, one in hand_scored().items() if key[1] == "quiz"}
    _, evidence = hand_table(scored)
    others = [model.name for model in MODELS if not model.is_reference]
    p_values = [binomial_p(binary(name), binary("teacher")) for name in others]
    adjusted = multipletests(p_values, method="holm")[1]
    for name, p_value, p_adjusted in zip(others, p_values, adjusted, strict=True):
        found = evidence.cells[name, "quiz"]
        assert found.versus_reference is not None
        assert found.versus_reference.p_value == pytest.approx(p_value, rel=1e-12)
        assert found.versus_reference.p_adjusted == pytest.approx(p_adjusted, rel=1e-12)
        assert found.is_significant == (p_adjusted <= 0.05)
    assert evidence.versus is not None
    assert evidence.versus.num_tests == len(others)


@pytest.mark.parametrize(("more", "less"), [(0, 0), (1, 0), (3, 9), (9, 3), (20, 20), (7, 60)])
def test_the_kept_exact_test_is_the_binomial_one(more: int, less: int) -> None:
    expected = 1.0 if more + less == 0 else stats.binomtest(more, more + less, 0.5).pvalue
    assert exact_p_value(more, less) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "ranks"),
    [
        ((90, 60, 30), ("best", "second", None)),
        ((90, 60, 58), ("best", None, None)),
        ((90, 88, 30), (None, None, None)),
        ((30, 60, 90), (None, "second", "best")),
        ((90, 30), ("best", None)),
        ((90,), (None,)),
        ((70, 70), (None, None)),
    ],
)
def test_a_rank_needs_a_test_against_every_row_below(
    counts: tuple[int, ...], ranks: tuple[str | None, ...]
) -> None:
    rights = {f"m{i}": first_right(count) for i, count in enumerate(counts)}
    _, evidence = quiz_of(rights)
    assert tuple(evidence.cells[name, "quiz"].rank for name in rights) == ranks


def test_ranks_are_corrected_over_all_pairs_of_their_block() -> None:
    # Ten discordant items all one way: p = 0.002, which three pairs leave and sixty-six do not.
    few = {f"m{i}": first_right(50 - 10 * i) for i in range(3)}
    many = few | {f"n{i}": first_right(30 - i) for i in range(9)}
    assert quiz_of(few)[1].cells["m0", "quiz"].rank == "best"
    assert quiz_of(many)[1].cells["m0", "quiz"].rank is None


def test_sections_are_ranked_apart_and_controls_not_at_all() -> None:
    rights = {name: first_right(count) for name, count in zip("abcdef", (90, 50) * 3, strict=True)}
    _, evidence = quiz_of(rights, *["original"] * 2, *["transferred"] * 2, *["controls"] * 2)
    found = {name: evidence.cells[name, "quiz"].rank for name in rights}
    assert found == {"a": "best", "b": None, "c": "best", "d": None, "e": None, "f": None}


def test_less_is_best_where_lower_is_better() -> None:
    sizes = [100.0] * 40
    score = MetricScore("bits_per_byte", "none", None, None, higher_is_better=False)
    scored = {}
    for name, nats in (("worse", 0.9), ("better", 0.6)):
        items = documents([size * (nats + 0.01 * (i % 3)) for i, size in enumerate(sizes)], sizes)
        value = -float(items.values.sum()) / sum(sizes) / math.log(2)
        scored[name, "novels"] = cell(name, "novels", items, replace(score, value=value))
    noisy = scored["worse", "novels"].items
    assert noisy is not None
    noisy.values[::2] -= 1.0
    _, evidence = hand_table(scored, [ModelRow("worse", "w"), ModelRow("better", "w")])
    assert evidence.cells["better", "novels"].rank == "best"
    assert evidence.cells["worse", "novels"].rank is None


def test_scores_of_rows_computed_from_samples_do_not_compete() -> None:
    rights = {"a": first_right(90), "b": first_right(50), "any member": first_right(99)}
    models = [ModelRow(name, "w") for name in rights]
    scored = {
        (name, "quiz"): cell(name, "quiz", means(values), accuracy(values))
        for name, values in rights.items()
    }
    last = scored["any member", "quiz"]
    scored["any member", "quiz"] = replace(last, record=replace(last.record, file=None), items=None)
    _, evidence = hand_table(scored, models)
    assert evidence.cells["a", "quiz"].rank == "best"
    assert evidence.cells["any member", "quiz"].rank is None


def test_runs_that_were_measured_differently_are_neither_compared_nor_ranked() -> None:
    right, wrong = first_right(90), first_right(20)
    scored = {
        ("a", "quiz"): cell("a", "quiz", means(right), accuracy(right)),
        ("b", "quiz"): cell(
            "b", "quiz", means(wrong), accuracy(wrong), conditions={"protocol": "paper"}
        ),
    }
    models = [ModelRow("a", "w", is_reference=True), ModelRow("b", "w")]
    table, evidence = hand_table(scored, models)
    assert evidence.cells["b", "quiz"].versus_reference is None
    assert evidence.cells["a", "quiz"].rank is None
    notes = evidence_notes(table, evidence)
    assert any("protocol" in note and "b is not compared with a on quiz" in note for note in notes)
    shown = with_evidence(table, evidence)
    assert shown.rows[1].cells[0].note == "not comparable with a"


def test_aggregates_alone_are_compared_unpaired_and_the_note_says_so() -> None:
    table, evidence = hand_table()
    comparison = evidence.cells["student 3", "closed"].versus_reference
    assert comparison is not None
    assert not comparison.paired
    assert "closed: 5 models unpaired with teacher" in " ".join(evidence_notes(table, evidence))


def test_the_smallest_difference_is_given_at_the_level_that_holm_leaves() -> None:
    rights = {"a": first_right(60), "b": first_right(58), "c": first_right(57)}
    _, evidence = quiz_of(rights)
    assert evidence.versus is not None
    found = evidence.versus.comparisons["b", "quiz"]
    pairs = evidence.columns["quiz"]
    at_half = pairs.compare("b", "a", level=1 - 0.05 / 2)
    at_whole = pairs.compare("b", "a")
    assert not isinstance(at_half, str)
    assert not isinstance(at_whole, str)
    assert found.mde == at_half.mde
    assert (found.mde or 0) > (at_whole.mde or 1)


def test_the_average_is_stratified_over_its_tasks() -> None:
    _, evidence = hand_table({k: v for k, v in hand_scored().items() if k[1] in {"quiz", "graded"}})
    right = np.array(binary("student 3"))
    grades = np.array([0.25 * (i % 4) * (0.5 + 0.5 * value) for i, value in enumerate(right)])
    parts = [right.var(ddof=1) / 80, grades.var(ddof=1) / 80]
    error = 0.5 * math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(part**2 / 79 for part in parts)
    estimate = evidence.averages["student 3"].estimate
    assert estimate is not None
    assert estimate.value == pytest.approx((right.mean() + grades.mean()) / 2)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(2 * stats.t.ppf(0.975, df) * error)


def test_ratios_ranked_from_shared_replicates_get_the_p_values_of_single_comparisons() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 200, 30).astype(float)
    score = MetricScore("bits_per_byte", "none", 1.0, None, higher_is_better=False)
    scored: dict[str, Scored] = {}
    for name, more in (("a", 0.0), ("b", 0.02), ("c", 0.2)):
        nats = sizes * (0.7 + more + 0.05 * rng.random(30))
        scored[name] = cell(name, "novels", documents(nats.tolist(), sizes.tolist()), score)
    options = EvidenceOptions(num_resamples=1_000)
    pairs = ColumnPairs("novels", scored, options, Resamples(options))
    for (first, second), p_value in pairs.p_values(list(scored)).items():
        comparison = pairs.compare(first, second)
        assert not isinstance(comparison, str)
        assert comparison.p_value == p_value


def test_the_share_recovered_is_that_of_the_gap() -> None:
    table, evidence = hand_table()
    styled = paper_table(table, evidence, Roles("teacher", "start_1"))
    rows = {(row.model.name, row.kind): row for row in styled.rows}
    right = {name: sum(binary(name)) for name in ("teacher", "start_1", "student <b>")}
    share = (right["student <b>"] - right["start_1"]) / (right["teacher"] - right["start_1"])
    found = rows["student <b>: %", "recovered"].cells[0]
    assert found.value == pytest.approx(share)
    assert found.evidence is not None
    assert found.evidence.estimate is not None
    assert found.evidence.estimate.low is not None
    difference = rows["student <b>: Δ", "delta"].cells[0].value
    assert difference == pytest.approx((right["student <b>"] - right["teacher"]) / 80)


def test_a_table_without_a_reference_has_intervals_but_no_differences() -> None:
    models = [replace(model, is_reference=False) for model in MODELS]
    table, _ = hand_table()
    evidence = gather_evidence(hand_scored(), models, table.columns, EvidenceOptions())
    assert evidence.versus is None
    assert all(one.versus_reference is None for one in evidence.cells.values())
    estimate = evidence.cells["teacher", "quiz"].estimate
    assert estimate is not None
    interval = stats.binomtest(72, 80).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))


def test_one_task_under_two_labels_adds_nothing_to_the_average() -> None:
    models = [ModelRow("base", "w", is_reference=True), ModelRow("new", "w")]
    rights = {"base": first_right(40), "new": first_right(60)}
    scored = {
        (name, label): cell(name, label, means(values), accuracy(values))
        for name, values in rights.items()
        for label in ("quiz", "quiz again")
    }
    scored = {
        key: replace(one, record=replace(one.record, task=replace(one.record.task, task="quiz")))
        for key, one in scored.items()
    }
    _, evidence = hand_table(scored, models)
    found = evidence.averages["new"].versus_reference
    assert found is not None
    assert found.difference.high is not None
    differences = [1.0] * 20 + [0.0] * 80
    stderr = np.std(differences, ddof=1) / 10
    width = float(stats.t.ppf(0.975, 99) * stderr)
    assert found.difference.high - 0.2 == pytest.approx(width, rel=1e-6)
