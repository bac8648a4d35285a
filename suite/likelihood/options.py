"""How log-probabilities are computed, and what they are.

Legend: T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from suite.errors import ConfigError

Implementation = Literal["auto", "plain", "blockwise", "triton"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LogProbOptions:
    """Settings of `token_log_probs`.

    Attributes:
        vocab_size: Entries the tokenizer has; rows of the head beyond them are never read and get
            no gradient. None for all rows.
        softcap: Logits x become softcap * tanh(x / softcap); None for no cap.
        bias: [V], added to the logits before the cap; it gets its gradient, too.
        block_size: Entries of the vocabulary in a block of logits; None chooses by the number of
            tokens. Of no concern to `plain`.
        implementation: `plain` holds all logits, `blockwise` and `triton` one block; `auto` is
            `triton` on CUDA where it is installed, else `blockwise`.
    """

    vocab_size: int | None = None
    softcap: float | None = None
    bias: Tensor | None = None
    block_size: int | None = None
    implementation: Implementation = "auto"

    def __post_init__(self) -> None:
        if self.softcap is not None and not self.softcap > 0:
            raise ConfigError(f"softcap is {self.softcap}, must be above 0; None for no cap")
        if self.block_size is not None and self.block_size < 1:
            raise ConfigError(f"block_size is {self.block_size}, must be at least 1")


@dataclass(frozen=True, eq=False)
class TokenLogProbs:
    """Natural log-probabilities, float32 (float64 for float64 inputs).

    Attributes:
        token: [T] or [B, T], of each token.
        boundary: Same shape, of all entries that start a new pre-token; None if not asked for.
    """

    token: Tensor
    boundary: Tensor | None
