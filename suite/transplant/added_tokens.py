"""Special tokens of a teacher for a student that is to answer in the teacher's chat format.

Legend: V rows, D hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from suite.errors import ConfigError
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer, open_tokenizer
from suite.transplant.contract import mean_row


def with_special_tokens(
    student: OpenedTokenizer, teacher: OpenedTokenizer, tokens: Sequence[str]
) -> OpenedTokenizer:
    """The student's tokenizer with more special tokens, behind its own, and the teacher's template.

    Args:
        student: Keeps its own special tokens.
        teacher: Owns the added ones.
        tokens: Their strings.

    Raises:
        ConfigError: One of them is no special token of the teacher, or the student has it.
        TextError: The tokenizer with them cannot be read exactly.
    """
    from tokenizers import AddedToken

    theirs = set(teacher.vocabulary.special.values())
    own = set(student.hf.get_vocab())
    for token in tokens:
        if token not in theirs:
            raise ConfigError(
                f"added_special_tokens: {token} is no special token of {teacher.name}; leave it out"
            )
        if token in own:
            raise ConfigError(
                f"added_special_tokens: {student.name} has {token} already; leave it out"
            )
    made = copy.deepcopy(student.hf)
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    made.chat_template = teacher.hf.chat_template
    return open_tokenizer(made, name=student.name)


def add_embeddings(model: Any, old: OpenedTokenizer, new: OpenedTokenizer) -> None:
    """Give a model rows for added special tokens, in place: each the mean of its regular rows.

    An added token that ends a turn also ends a generation.

    Args:
        model: A causal language model; tied embeddings stay tied.
        old: Its tokenizer until now.
        new: From `with_special_tokens`.
    """
    added = [number for number in new.vocabulary.special if number not in old.vocabulary.special]
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    matrices = [embedding] if head.weight is embedding.weight else [embedding, head]
    means = [mean_row(part.weight.detach().float(), old) for part in matrices]
    is_tied = len(matrices) == 1
    # Its own filling of new rows takes minutes and is overwritten.
    num_rows = max(len(embedding.weight), len(new.vocabulary))
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    with torch.no_grad():
        for part, mean in zip([embedding] if is_tied else [embedding, head], means, strict=True):
            part.weight[added] = mean.to(part.weight.dtype)
    ends = {n for n in added if new.vocabulary.roles[n] in (Role.END, Role.END_OF_TURN)}
    before = model.generation_config.eos_token_id
    before = before if isinstance(before, list) else [] if before is None else [before]
    model.generation_config.eos_token_id = sorted({*before, *ends})
