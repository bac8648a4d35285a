"""Power and smallest effects against sums over every outcome."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from statsmodels.stats.power import TTestPower

from suite.stats.discordant import exact_interval
from suite.stats.power import mde_exact, mde_normal, power_exact, required_items

GRID = {  # evaluation tables in percentage points, alpha 0.05, by share of items that differ
    250: (4.0, 5.6, 7.9, 9.7),
    500: (2.8, 4.0, 5.6, 6.9),
    1_000: (2.0, 2.8, 4.0, 4.9),
    1_319: (1.7, 2.4, 3.5, 4.2),
    5_000: (0.9, 1.3, 1.8, 2.2),
    10_042: (0.6, 0.9, 1.3, 1.5),
}


def enumerated_power(n: int, theta: float, d: float, alpha: float) -> float:
    """P(exact McNemar rejects towards the true side), over all (better, worse)."""
    p_worse = (theta + d) / 2
    total = 0.0
    for worse in range(n + 1):
        for better in range(n + 1 - worse):
            num = worse + better
            tail = sum(math.comb(num, w) for w in range(worse, num + 1)) / 2**num
            if worse > better and 2 * tail < alpha:
                ways = math.comb(n, num) * math.comb(num, worse)
                neither = (1 - theta) ** (n - num)
                total += ways * p_worse**worse * (theta - p_worse) ** better * neither
    return total


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.3])
@pytest.mark.parametrize(("theta", "d"), [(0.3, 0.1), (0.6, 0.6), (1.0, 0.4), (0.2, 0.0)])
def test_power_is_the_sum_over_all_outcomes(theta: float, d: float, alpha: float) -> None:
    expected = enumerated_power(14, theta, d, alpha)
    # What the truncation leaves out.
    assert power_exact(14, theta, d, alpha=alpha) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 400),
    st.floats(0, 1),
    st.sampled_from([0.05, 0.0304, 0.001, 0.2]),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_the_smallest_effect_is_found_with_just_this_power(
    n: int, share: float, alpha: float, power: float
) -> None:
    mde = mde_exact(n, share, alpha=alpha, power=power)
    if mde is None:
        assert power_exact(n, 1.0, 1.0, alpha=alpha) == 0
        return
    assert power_exact(n, max(share, mde), mde, alpha=alpha) == pytest.approx(power, abs=1e-7)
    smaller = 0.98 * mde
    assert power_exact(n, max(share, smaller), smaller, alpha=alpha) < power


def test_too_few_items_find_nothing() -> None:
    # 2 / 2^5 = 0.0625: five items cannot reject at 5 %, six can.
    assert mde_exact(5, 0.3, alpha=0.05) is None
    assert mde_exact(6, 0.3, alpha=0.05) == pytest.approx(0.8 ** (1 / 6), abs=1e-12)
    assert power_exact(5, 1.0, 1.0, alpha=0.05) == 0


def test_without_disagreement_six_lost_items_are_needed() -> None:
    mde = mde_exact(100, 0.0, alpha=0.05)
    assert mde is not None
    missed = sum(math.comb(100, k) * mde**k * (1 - mde) ** (100 - k) for k in range(6))
    assert 1 - missed == pytest.approx(0.8, abs=1e-10)


@pytest.mark.parametrize("n", GRID)
def test_large_samples_agree_with_the_normal_table(n: int) -> None:
    for share, normal in zip((0.05, 0.1, 0.2, 0.3), GRID[n], strict=True):
        mde = mde_exact(n, share, alpha=0.05)
        assert mde is not None
        # The exact test costs a little more; the table is rounded to 0.1.
        assert normal - 0.06 <= 100 * mde <= 1.05 * normal + 0.06


def test_the_smallest_effect_grows_as_the_level_shrinks() -> None:
    levels = [0.05, 0.02, 0.005, 0.0001]
    mdes = [mde_exact(1_000, 0.2, alpha=alpha) for alpha in levels]
    assert mdes == sorted(mdes, key=lambda mde: mde or 0)
    assert len(set(mdes)) == len(mdes)


def test_power_counts_what_the_interval_excludes() -> None:
    n, theta, d, alpha = 40, 0.5, 0.3, 0.03
    total = 0.0
    for num in range(n + 1):
        for worse in range(num + 1):
            if exact_interval(num - worse, worse, n, level=1 - alpha)[1] < 0:
                ways = math.comb(n, num) * math.comb(num, worse)
                shares = ((theta + d) / 2) ** worse * ((theta - d) / 2) ** (num - worse)
                total += ways * shares * (1 - theta) ** (n - num)
    assert power_exact(n, theta, d, alpha=alpha) == pytest.approx(total, abs=1e-9)


def test_normal_and_t_effects() -> None:
    z = special.ndtri(0.975) + special.ndtri(0.8)
    assert mde_normal(0.01, alpha=0.05) == pytest.approx(0.01 * z, rel=1e-12)
    # 2.80 standard errors (Miller 2024).
    assert mde_normal(1.0, alpha=0.05) == pytest.approx(2.80, abs=0.005)
    assert mde_normal(0.01, alpha=0.05, df=1e7) == pytest.approx(0.01 * z, rel=1e-5)


@pytest.mark.parametrize(
    ("df", "alpha", "power"), [(9, 0.05, 0.8), (40, 0.01, 0.9), (3, 0.001, 0.8)]
)
def test_the_t_effect_is_that_of_statsmodels(df: int, alpha: float, power: float) -> None:
    mde = mde_normal(0.02, alpha=alpha, power=power, df=df)
    assert mde is not None
    n = df + 1
    effect = mde / (0.02 * math.sqrt(n))
    found = TTestPower().power(effect, n, alpha / 2, alternative="larger")
    assert found == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize("stderr", [0.0, math.nan, math.inf])
def test_without_a_spread_there_is_no_smallest_effect(stderr: float) -> None:
    assert mde_normal(stderr, alpha=0.05) is None


def test_required_items_are_the_fewest_that_find_the_difference() -> None:
    n = required_items(0.03, 0.1)
    assert power_exact(n, 0.1, 0.03, alpha=0.05) >= 0.8 > power_exact(n - 1, 0.1, 0.03, alpha=0.05)
    normal = ((special.ndtri(0.975) + special.ndtri(0.8)) / 0.03) ** 2 * (0.1 - 0.03**2)
    assert normal < n < 1.1 * normal
    # Every item lost: as many as the test can reject with.
    assert required_items(1.0, 0.2) == 6


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^0 <= d <= theta <= 1 is needed, got d = 0.3 and theta"):
        power_exact(10, 0.2, 0.3, alpha=0.05)
    with pytest.raises(ValueError, match=r"are needed, got 1.2, 0.05 and 0.8$"):
        mde_exact(10, 1.2, alpha=0.05)
    with pytest.raises(ValueError, match=r"are needed, got 0.2, 0.5 and 0.2$"):
        mde_exact(10, 0.2, alpha=0.5, power=0.2)
    with pytest.raises(ValueError, match=r"^a difference above 0 and at most 1 is needed, got 0$"):
        required_items(0, 0.1)
    assert power_exact(10, 0.0, 0.0, alpha=0.05) == 0


def test_a_second_question_of_the_same_kind_is_free() -> None:
    mde_exact(2_000, 0.1234, alpha=0.05)
    hits = mde_exact.cache_info().hits
    mde_exact(2_000, 0.1234, alpha=0.05)
    assert mde_exact.cache_info().hits == hits + 1
