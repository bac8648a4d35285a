"""One trunk for teacher and student: the student's without its adapters is the source model's.

Only embedding and head are kept twice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from suite.align.boundaries import boundary_start_mask
from suite.distill.teacher import LiveTeacher
from suite.likelihood.heads import OutputHead, head_of, num_entries
from suite.likelihood.log_probs import DEFAULT_OPTIONS
from suite.likelihood.options import LogProbOptions
from suite.models.trunk import check_isolation, evaluating, trunk_of
from suite.text.tokenizers import OpenedTokenizer


@dataclass(frozen=True, eq=False)
class OriginalEnds:
    """What a transplant replaces, copied from the source model; tied matrices are one here, too.

    Attributes:
        embedding: Token ids -> states, with whatever scale the model has there.
        head: Its weight and bias carry no gradient.
        tokenizer: The source model's.
    """

    embedding: nn.Embedding
    head: OutputHead
    tokenizer: OpenedTokenizer

    def to(self, device: Any) -> OriginalEnds:
        """The same on a device; the embedding is moved in place."""
        weight, bias = self.head.weight, self.head.options.bias
        is_tied = weight is self.embedding.weight
        embedding = self.embedding.to(device)
        options = replace(self.head.options, bias=None if bias is None else bias.to(device))
        head = replace(
            self.head, weight=embedding.weight if is_tied else weight.to(device), options=options
        )
        return replace(self, embedding=embedding, head=head)


def original_ends(
    source: Any,
    tokenizer: OpenedTokenizer,
    *,
    name: str,
    options: LogProbOptions = DEFAULT_OPTIONS,
) -> OriginalEnds:
    """Copy embedding and head of a model before it gets others; the model may then be changed.

    Args:
        source: A causal language model of transformers, as it was published.
        tokenizer: Its tokenizer.
        name: What messages call it.
        options: For its implementation and block size.

    Raises:
        ModelError: The tokenizer is not the model's, or its logits are made in an unknown way.
    """
    head = head_of(
        source, num_entries(tokenizer.vocabulary, source, name=name), name=name, options=options
    )
    embedding = source.get_input_embeddings()
    is_tied = head.weight is embedding.weight
    embedding = copy.deepcopy(embedding).requires_grad_(False)
    bias = head.options.bias
    kept = replace(
        head,
        weight=embedding.weight if is_tied else head.weight.detach().clone(),
        options=replace(head.options, bias=None if bias is None else bias.detach().clone()),
    )
    return OriginalEnds(embedding, kept, tokenizer)


def shared_trunk_teacher(
    model: Any,
    ends: OriginalEnds,
    *,
    name: str,
    packing: Literal["isolated", "concatenated", "none"],
    wants_hidden: bool = False,
) -> LiveTeacher:
    """The source model as a teacher, out of the student that is trained from it.

    Its signals are those of `live_teacher` for the source model in the student's dtype, to the last
    bit, however far the student is trained: its trunk's own weights are frozen. The student's modes
    are as before behind each signal.

    Args:
        model: The student, from `add_adapters`, on its device.
        ends: Of the source model; moved to that device.
        name: What messages call it.
        packing: How rows are packed.
        wants_hidden: Signals carry the final hidden states, too.

    Raises:
        ModelError: The model does not keep the documents of isolated rows apart.
    """
    if packing == "isolated":
        check_isolation(model, name)
    ends = ends.to(model.get_input_embeddings().weight.device)
    head = ends.head
    mask = boundary_start_mask(ends.tokenizer.vocabulary)[: head.options.vocab_size]
    trunk = _SourceTrunk(model, ends.embedding)
    return LiveTeacher(trunk, head, mask.to(head.weight.device), wants_hidden)


class _SourceTrunk:
    """Called like the source model's trunk, which it is for the time of a call."""

    def __init__(self, model: Any, embedding: nn.Embedding) -> None:
        self._model = model
        self._embedding = embedding

    def __call__(self, **inputs: Any) -> Any:
        trunk = trunk_of(self._model)
        with evaluating(self._model), self._model.disable_adapter(), self._exchanged(trunk):
            return trunk(**inputs)

    @contextmanager
    def _exchanged(self, trunk: Any) -> Iterator[None]:
        """The trunk with the original embedding: ids take the very way they take in the source."""
        own = trunk.get_input_embeddings()
        trunk.set_input_embeddings(self._embedding)
        try:
            yield
        finally:
            trunk.set_input_embeddings(own)
