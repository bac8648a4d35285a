"""What a comparison is able to find: power, smallest effect found, items needed.

The exact McNemar test looks at the discordant items alone. Among n items N ~ Bin(n, theta) are
discordant, and of these Bin(N, (1 + d / theta) / 2) speak for a true difference of size d. Power
is summed over all N and over the rejection region of each; only rejections in the true direction
count as finding the difference.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

# Probability of numbers of discordant items that the sum over N leaves out.
LEFT_OUT = 1e-9
CACHED_CALLS = 65_536

# Numbers of discordant items, their probabilities, and from how many one way on is rejected.
Region = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def power_exact(n: int, theta: float, d: float, *, alpha: float) -> float:
    """Probability that the two-sided exact McNemar test finds a true difference of size d.

    Args:
        n: Paired items.
        theta: Probability that an item is discordant, at least d.
        d: True difference, P(one way) - P(other way), 0 or more.
        alpha: The test's two-sided level.

    Raises:
        ValueError: a combination that no distribution of items has.
    """
    if not 0 <= d <= theta <= 1:
        raise ValueError(f"0 <= d <= theta <= 1 is needed, got d = {d} and theta = {theta}")
    if theta == 0:
        return 0.0
    return _power(*_region(n, theta, alpha), (1 + d / theta) / 2)


@lru_cache(maxsize=CACHED_CALLS)
def mde_exact(n: int, discordant_share: float, *, alpha: float, power: float = 0.8) -> float | None:
    """The smallest true |d| that the two-sided exact McNemar test finds with this power.

    The discordant share is that under this difference, so with an observed one the answer holds if
    the models go on disagreeing as often as they did. A drop of an accuracy above one half brings
    new disagreement, which costs some power: at 20 % instead of 17 %, 80 % become 73 %. A
    difference larger than the share needs more discordant items: theta is the larger of the two.

    None where n items are too few for the test to reject at this level at all, or for
    the power even if the models differ on every item.

    Args:
        n: Paired items.
        discordant_share: Share of items on which exactly one of the two models is right.
        alpha: The level actually spent on this test, two-sided.
        power: The probability of finding it.

    Raises:
        ValueError: a share outside 0-1, a level outside the open interval, or a power that the
            test has without any difference.
    """
    if not (0 <= discordant_share <= 1 and 0 < alpha < 1 and alpha / 2 < power < 1):
        raise ValueError(
            f"a share of 0-1, a level strictly between 0 and 1 and a power between half the level "
            f"and 1 are needed, got {discordant_share}, {alpha} and {power}"
        )
    if discordant_share > 0:
        region = _region(n, discordant_share, alpha)
        if _power(*region, 1.0) >= power:
            normal = mde_normal(math.sqrt(discordant_share / n), alpha=alpha, power=power)
            guess = (normal or 0.0) / discordant_share / 2
            return 2 * discordant_share * _excess(region, power, guess)
    # Beyond the share every discordant item points the same way, so the test rejects from the
    # smallest number on that it can reject with.
    smallest = _smallest_rejectable(alpha)
    if smallest > n:
        return None
    return float(special.betaincinv(smallest, n - smallest + 1, power))


def mde_normal(
    stderr: float, *, alpha: float, power: float = 0.8, df: float | None = None
) -> float | None:
    """The smallest true |difference| that a two-sided test of a mean finds with this power.

    (z_{1 - alpha/2} + z_power) x SE (Miller 2024, arXiv 2411.00640, section 5); with degrees of
    freedom the t test's own, from the noncentral t distribution. None without a spread.

    Args:
        stderr: Standard error of the (paired) difference.
        alpha: The level actually spent on this test, two-sided.
        power: The probability of finding it.
        df: Degrees of freedom of the t test; None for the normal approximation.
    """
    if not (math.isfinite(stderr) and stderr > 0):
        return None
    normal = float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
    if df is None:
        return normal * stderr
    critical = -float(special.stdtrit(df, alpha / 2))
    high = critical + max(normal, 1.0)
    while special.nctdtr(df, high, critical) > 1 - power:
        high *= 2
    shift = optimize.brentq(
        lambda nc: special.nctdtr(df, nc, critical) - (1 - power), 0.0, high, xtol=1e-12
    )
    return float(shift) * stderr


def required_items(
    difference: float, discordant_share: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """The number of items from which the exact test finds this difference with this power.

    Found by bisection: power is treated as growing with the number of items.

    Args:
        difference: True difference, more than 0.
        discordant_share: Share of items on which exactly one of the two models is right; raised to
            the difference where it is smaller.
        alpha: The test's two-sided level.
        power: The probability of finding it.

    Raises:
        ValueError: a difference outside 0-1.
    """
    if not 0 < difference <= 1:
        raise ValueError(f"a difference above 0 and at most 1 is needed, got {difference}")
    theta = max(discordant_share, difference)

    def is_enough(n: int) -> bool:
        return power_exact(n, theta, difference, alpha=alpha) >= power

    high = 1
    while not is_enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _excess(region: Region, power: float, guess: float) -> float:
    """By how much one way's share of the discordant items exceeds 1/2 at this power."""

    @cache
    def missing(excess: float) -> float:
        return _power(*region, 0.5 + excess) - power

    low, high = 0.0, 0.5
    # The exact test needs a few per cent more than the normal approximation.
    for near in (guess, 1.05 * guess):
        if low < near < high:
            low, high = (near, high) if missing(near) < 0 else (low, near)
    return float(optimize.brentq(missing, low, high, xtol=1e-10))


def _region(n: int, theta: float, alpha: float) -> Region:
    """Without numbers too small to reject with, and without the improbable ones."""
    # Bernstein's inequality: outside lies less than LEFT_OUT.
    exponent = math.log(2 / LEFT_OUT)
    reach = exponent / 3 + math.sqrt(exponent**2 / 9 + 2 * exponent * n * theta * (1 - theta))
    first = max(math.floor(n * theta - reach), _smallest_rejectable(alpha))
    last = min(math.ceil(n * theta + reach), n)
    numbers = np.arange(first, last + 1, dtype=np.float64)
    log_weights = (
        special.gammaln(n + 1)
        - special.gammaln(numbers + 1)
        - special.gammaln(n - numbers + 1)
        + special.xlogy(numbers, theta)
        + special.xlog1py(n - numbers, -theta)
    )
    return numbers, np.exp(log_weights), _critical(numbers, alpha)


def _critical(numbers: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The smallest w with 2 P(Bin(N, 1/2) >= w) < alpha, for each N that has one."""
    guess = np.ceil(numbers / 2 + special.ndtri(1 - alpha / 2) * np.sqrt(numbers) / 2 + 0.5)
    critical = np.clip(guess, 1, numbers)
    while (is_short := 2 * _tail(critical, numbers, 0.5) >= alpha).any():
        critical += is_short
    while (is_long := 2 * _tail(critical - 1, numbers, 0.5) < alpha).any():
        critical -= is_long
    return np.asarray(critical, dtype=np.float64)


def _smallest_rejectable(alpha: float) -> int:
    """The smallest N whose most extreme outcome, of probability 2 / 2^N, is rejected."""
    smallest = max(1, math.floor(1 - math.log2(alpha)))
    while 2 * 0.5**smallest >= alpha:
        smallest += 1
    return smallest


def _power(
    numbers: NDArray[np.float64],
    weights: NDArray[np.float64],
    critical: NDArray[np.float64],
    share: float,
) -> float:
    return float(weights @ _tail(critical, numbers, share))


def _tail(
    at_least: NDArray[np.float64], numbers: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """P(Bin(N, share) >= w) for w of at least 1, elementwise."""
    result: NDArray[np.float64] = special.betainc(at_least, numbers - at_least + 1, share)
    return result
