"""Several members' distributions over the same outcomes made into one: the token-level rules.

All in log space. A weight of 0 is a log-weight of -inf and leaves its member out.

Legend: M members, n rows, O outcomes (the last is `other`), T tokens of one text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Tokens of a table of texts.
_BLOCK_TOKENS = 1 << 20


class Rule(Protocol):
    """How the next token's distributions are combined, and what the token then teaches."""

    @property
    def name(self) -> str:
        """As recipes write it."""

    @property
    def is_mixture(self) -> bool:
        """Whether a token's value follows from each member's log-probability of that token."""

    def combine(self, log_probs: Tensor, log_weights: Tensor) -> Tensor:
        """[M, n, O] log-probabilities and [M, n] log-weights -> [n, O] log-probabilities."""

    def update(self, log_weights: Tensor, token_log_probs: Tensor) -> Tensor:
        """[M, n] log-weights after a regular token with these log-probabilities, [M, n]."""


@dataclass(frozen=True)
class TokenMixture:
    """log sum_m w_m p_m(v), with the same weights at every token."""

    name: str = "mean_probs"
    is_mixture: bool = True

    def combine(self, log_probs: Tensor, log_weights: Tensor) -> Tensor:
        """The mixture's log-probabilities, [n, O]."""
        combined = log_probs[0] + log_weights[0, :, None]
        for member in range(1, len(log_probs)):
            weighted = log_probs[member] + log_weights[member, :, None]
            torch.logaddexp(combined, weighted, out=combined)
        return combined

    def update(self, log_weights: Tensor, token_log_probs: Tensor) -> Tensor:
        """Nothing is learnt from a token."""
        return log_weights


@dataclass(frozen=True)
class SequenceMixture(TokenMixture):
    """The mixture of whole texts, token by token: weights follow Bayes' rule."""

    name: str = "sequence_mixture"

    def update(self, log_weights: Tensor, token_log_probs: Tensor) -> Tensor:
        """The posterior after a token; as before where no member could have written it."""
        joint = log_weights + token_log_probs
        evidence = joint.logsumexp(0)
        return torch.where(evidence.isneginf(), log_weights, joint - evidence)


@dataclass(frozen=True)
class TokenLogLinear:
    """log-softmax over the outcomes of sum_m w_m log p_m(v): the normalised geometric mean.

    An outcome that is empty for one member of positive weight is empty.
    """

    name: str = "mean_log_probs"
    is_mixture: bool = False

    def combine(self, log_probs: Tensor, log_weights: Tensor) -> Tensor:
        """The geometric mean's log-probabilities, [n, O]."""
        weights = log_weights.exp()[..., None]
        if (weights == 0).any():  # 0 * -inf is no number.
            log_probs = log_probs.masked_fill(weights == 0, 0)
        total = log_probs[0] * weights[0]
        for member in range(1, len(log_probs)):
            total.addcmul_(log_probs[member], weights[member])
        return total.log_softmax(-1)

    def update(self, log_weights: Tensor, token_log_probs: Tensor) -> Tensor:
        """Nothing is learnt from a token."""
        return log_weights


COMBINERS: dict[str, Rule] = {
    rule.name: rule for rule in (TokenMixture(), TokenLogLinear(), SequenceMixture())
}


def renormalised(log_probs: Tensor) -> Tensor:
    """Without `other`, [..., O] -> [..., O]: the rule of the ALM paper's tables.

    `other` becomes -inf and what is left sums to 1 again.
    """
    kept = log_probs[..., :-1].log_softmax(-1)
    return torch.nn.functional.pad(kept, (0, 1), value=-torch.inf)


def posterior_log_weights(token_log_probs: Tensor, log_weights: Tensor, offsets: Tensor) -> Tensor:
    """The sequence mixture's log-weights before each token of R texts.

    Args:
        token_log_probs: log p_m(token_t | tokens_<t) of all texts, one behind the other, [M, K].
        log_weights: Before the first token of each text, [M, R].
        offsets: Where each text's tokens begin, int64 [R + 1].

    Returns:
        float64 [M, K]; those before a text's first token where no member could have written what
        came since.
    """
    lengths = offsets.diff()
    before = torch.zeros(token_log_probs.shape, dtype=torch.float64)
    # One row a text: what is impossible in one must not spoil the sums of another. Texts of like
    # length share a table, so that it is little more than their tokens.
    by_length = lengths.argsort(descending=True)
    while len(by_length) and lengths[by_length[0]]:
        width = int(lengths[by_length[0]])
        rows, by_length = by_length.tensor_split([max(1, _BLOCK_TOKENS // width)])
        tokens = offsets[rows, None] + torch.arange(width - 1)
        is_token = torch.arange(1, width) < lengths[rows, None]
        values = token_log_probs[:, tokens.where(is_token, 0)].double().where(is_token, 0)
        before[:, tokens[is_token] + 1] = values.cumsum(2)[:, is_token]
    texts = torch.arange(len(lengths)).repeat_interleave(lengths)
    prior = log_weights.double()[:, texts]
    joint = prior + before
    is_possible = joint.isfinite().any(dim=0)
    return torch.where(is_possible, joint.log_softmax(dim=0), prior)
