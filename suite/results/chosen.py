"""Which of its options a model chooses, by a metric's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# Metrics that choose by likelihood per unit of an option's length.
LENGTHS: Mapping[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda option: len(option.encode("utf-8", "surrogatepass")),
}


def chosen_option(likelihoods: Sequence[float], options: Sequence[str], metric: str) -> int:
    """The number of the likeliest option, the first of equals.

    Args:
        likelihoods: Summed log-likelihood of each option, in nats; no NaN.
        options: Their texts, without what stands between prompt and option.
        metric: `acc_norm` and `acc_bytes` divide by characters and bytes.
    """
    length = LENGTHS.get(metric)
    if length is None:
        return likelihoods.index(max(likelihoods))
    pairs = zip(likelihoods, options, strict=True)
    scores = [likelihood / max(length(option), 1) for likelihood, option in pairs]
    return scores.index(max(scores))
