"""What a method of composing rows gets, and what it gives back.

Legend: V old ids, C composed tokens, N shared tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.text.tokenizers import OpenedTokenizer
from suite.transplant.vocabulary import VocabularyPlan

Part = Literal["input", "output"]
# Called with the steps done and their number.
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class DonorRows:
    """The embeddings of the model that owns the new tokenizer.

    Attributes:
        input: [V of the donor, D of the donor].
        output: The same tensor where the donor ties them.
    """

    input: Tensor
    output: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Composition:
    """The rows to compose, and what they can be composed from.

    Attributes:
        old: The model's own tokenizer.
        plan: The new vocabulary.
        donor: Only for methods that need one.
        k: Shared tokens that a new one is made of.
        seed: For random rows.
        on_step: Told how far the work is.
    """

    old: OpenedTokenizer
    plan: VocabularyPlan
    donor: DonorRows | None = None
    k: int = 64
    seed: int = 0
    on_step: OnStep = lambda done, total: None


class Compose(Protocol):
    """Composes rows of one of the two embeddings."""

    def __call__(self, rows: Tensor, part: Part) -> Tensor:
        """Compose.

        Args:
            rows: float32 [V, D], the old embedding; the output's bias may be one more column.
            part: Which embedding it is; tied ones are `input`.

        Returns:
            float32 [C, D].
        """


# A method looks at the tokens once, and then composes the rows of one or two embeddings.
Method = Callable[[Composition], Compose]


def regular_ids(tokenizer: OpenedTokenizer) -> NDArray[np.int64]:
    """The ids of entries that stand for bytes, int64."""
    return np.flatnonzero(tokenizer.vocabulary.byte_lengths).astype(np.int64)


def mean_row(rows: Tensor, old: OpenedTokenizer) -> Tensor:
    """The mean over all regular tokens, [D]; `rows` is [V, D].

    As a token's output row it takes at most 1/V of the probability: its logit is the mean of the
    logits, which is at most the logarithm of their mean exponential.
    """
    return rows[torch.from_numpy(regular_ids(old))].mean(dim=0)
