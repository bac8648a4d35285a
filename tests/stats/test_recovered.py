"""Shares of the teacher's gap and score, with one resample for all models."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from suite.errors import NotComparableError
from suite.results.item_scores import Aggregation, ItemScores
from suite.stats.recovered import gap_recovered, share_of_teacher
from suite.stats.resamples import resample_counts

N = 200
RNG = np.random.default_rng(7)
DIFFICULTY = RNG.random(N)
COUNTS = resample_counts(N, 999, 0)


def items_of(
    values: NDArray[np.float64],
    aggregation: Aggregation = "mean",
    weights: NDArray[np.float64] | None = None,
    strata: NDArray[np.int64] | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> ItemScores:
    n = len(values)
    strata = np.zeros(n, dtype=np.int64) if strata is None else strata
    return ItemScores(
        keys=np.array([f"{i:06d}".encode() for i in range(n)]),
        values=np.asarray(values, dtype=np.float64),
        aggregation=aggregation,
        higher_is_better=True,
        strata=strata,
        stratum_weights=np.full(int(strata.max()) + 1, 1 / (int(strata.max()) + 1)),
        weights=weights,
        clusters=clusters,
    )


def answers(ability: float, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return (rng.random(N) < np.clip(ability + 0.5 - DIFFICULTY, 0, 1)).astype(np.float64)


START, STUDENT, TEACHER = answers(0.1, 1), answers(0.4, 2), answers(0.6, 3)


def loops_interval(
    above: list[tuple[NDArray[np.float64], int]],
    below: list[tuple[NDArray[np.float64], int]],
) -> tuple[float, float]:
    """Order statistics of the ratio of signed sums, one resample at a time."""
    ratios = []
    for drawn in COUNTS:
        top = sum(sign * sum(c * v for c, v in zip(drawn, row, strict=True)) for row, sign in above)
        low = sum(sign * sum(c * v for c, v in zip(drawn, row, strict=True)) for row, sign in below)
        ratios.append(float(top) / float(low))
    ratios.sort()
    # With 23 of 999 beyond 0 the p-value is 2 x 24 / 1,000, the largest below 1 - 0.951.
    return ratios[23], ratios[-24]


def test_the_recovered_gap_is_a_ratio_of_resampled_differences() -> None:
    found = gap_recovered(
        items_of(STUDENT), items_of(TEACHER), items_of(START), COUNTS, level=0.951
    )
    gap = TEACHER.mean() - START.mean()
    assert found.value == pytest.approx((STUDENT.mean() - START.mean()) / gap, rel=1e-12)
    expected = loops_interval([(STUDENT, 1), (START, -1)], [(TEACHER, 1), (START, -1)])
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert (found.n, found.level) == (N, 0.951)
    assert found.method == "bootstrap over items (999 resamples)"


def test_the_share_of_the_teacher_is_a_ratio_of_scores() -> None:
    found = share_of_teacher(items_of(STUDENT), items_of(TEACHER), COUNTS, level=0.951)
    assert found.value == pytest.approx(STUDENT.sum() / TEACHER.sum(), rel=1e-12)
    expected = loops_interval([(STUDENT, 1)], [(TEACHER, 1)])
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("student", "share"), [(TEACHER, 1.0), (START, 0.0)])
def test_an_end_of_the_gap_is_met_in_every_resample(
    student: NDArray[np.float64], share: float
) -> None:
    found = gap_recovered(items_of(student), items_of(TEACHER), items_of(START), COUNTS)
    assert found.value == share
    assert found.low is None
    assert found.reason == "all resamples give the same value"


def test_a_metric_turned_round_recovers_the_same_share() -> None:
    plain = gap_recovered(items_of(STUDENT), items_of(TEACHER), items_of(START), COUNTS)
    turned = [items_of(1 - values) for values in (STUDENT, TEACHER, START)]
    errors = gap_recovered(*turned, COUNTS)
    assert errors.value == pytest.approx(plain.value, rel=1e-12)
    assert (errors.low, errors.high) == pytest.approx((plain.low, plain.high), rel=1e-9)


def test_a_gap_that_may_be_none_has_no_share() -> None:
    teacher = START.copy()
    teacher[:3] = 1 - teacher[:3]
    found = gap_recovered(items_of(STUDENT), items_of(teacher), items_of(START), COUNTS)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason is not None
    assert found.reason.startswith("the gap to the teacher cannot be told from 0: its interval is ")


def test_the_same_model_as_teacher_and_start_has_no_gap() -> None:
    found = gap_recovered(items_of(STUDENT), items_of(START), items_of(START), COUNTS)
    assert found.value is None
    assert found.reason == (
        "the gap to the teacher has no interval: all resamples give the same value"
    )


def test_a_teacher_that_is_never_right_has_no_share() -> None:
    found = share_of_teacher(items_of(STUDENT), items_of(np.zeros(N)), COUNTS)
    assert found.value is None
    assert found.reason == (
        "the teacher's score has no interval: all resamples give the same value"
    )


def test_ratio_metrics_are_recovered_from_their_documents() -> None:
    rng = np.random.default_rng(5)
    num_bytes = rng.integers(50, 200, size=N).astype(np.float64)
    nats = [-num_bytes * rng.normal(rate, 0.05, size=N) for rate in (0.7, 0.6, 1.0)]
    student, teacher, start = (items_of(v, "bits_per_byte", num_bytes) for v in nats)
    found = gap_recovered(student, teacher, start, COUNTS)
    rates = [-v.sum() / num_bytes.sum() for v in nats]
    assert found.value == pytest.approx((rates[0] - rates[2]) / (rates[1] - rates[2]), rel=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high < found.low + 0.1
    assert found.method == "bootstrap over documents (999 resamples)"


def test_strata_count_with_their_weights() -> None:
    strata = (np.arange(N) >= 150).astype(np.int64)
    models = [items_of(v, strata=strata) for v in (STUDENT, TEACHER, START)]
    found = gap_recovered(*models, resample_counts(N, 499, 1, strata=strata))
    means = [(v[:150].mean() + v[150:].mean()) / 2 for v in (STUDENT, TEACHER, START)]
    assert found.value == pytest.approx((means[0] - means[2]) / (means[1] - means[2]), rel=1e-12)


def test_few_clusters_give_no_share() -> None:
    clusters = np.arange(N) % 5
    models = [items_of(v, clusters=clusters) for v in (STUDENT, TEACHER, START)]
    found = gap_recovered(*models, resample_counts(N, 99, 1, clusters))
    assert (found.value, found.n) == (None, 5)
    assert found.reason == "5 clusters are too few for an interval: at least 10 are needed"


def test_a_gap_that_some_resamples_lose_still_has_limits() -> None:
    # Six items for the teacher and none against it: a resample that draws none of the six has no
    # gap at all (probability 0.25 %, so within what the interval leaves outside).
    start = np.zeros(N)
    teacher, student = start.copy(), start.copy()
    teacher[:6], student[:3] = 1, 1
    counts = resample_counts(N, 1_999, 2)
    assert bool((counts[:, :6].sum(axis=1) == 0).any())
    found = gap_recovered(items_of(student), items_of(teacher), items_of(start), counts)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_other_items_are_refused() -> None:
    with pytest.raises(NotComparableError):
        share_of_teacher(items_of(STUDENT), items_of(TEACHER[:-1]), COUNTS)
