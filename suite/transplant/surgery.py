"""New embeddings for a model: rows by a plan, and the ids in its settings.

Legend: V old rows, W new rows, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from suite.errors import ModelError
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer
from suite.transplant.contract import Compose, Part, mean_row
from suite.transplant.vocabulary import VocabularyPlan


def replace_embeddings(
    model: Any, plan: VocabularyPlan, compose: Compose, old: OpenedTokenizer, *, untie: bool = False
) -> None:
    """Give a model the rows of a plan, in place.

    Copied rows are equal to the last bit; composed ones are rounded to the model's dtype. Unused
    rows are the mean row, which takes next to no probability.

    Args:
        model: A causal language model; tied embeddings stay tied.
        plan: The new vocabulary.
        compose: Makes the composed rows.
        old: The model's tokenizer until now.
        untie: Give tied embeddings two matrices, at first equal.

    Raises:
        ModelError: The model has other embeddings by token beside these two.
    """
    _check_alone(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head.weight is embedding.weight
    bias = None if is_tied else getattr(head, "bias", None)
    with torch.no_grad():
        rows = _new_rows(embedding.weight, plan, compose, "input", old)
        output, new_bias = rows, None
        if not is_tied:
            columns = [head.weight] if bias is None else [head.weight, bias[:, None]]
            output = _new_rows(torch.cat(columns, dim=1), plan, compose, "output", old)
            if bias is not None:
                output, new_bias = output[:, :-1], output[:, -1]
        # Its own filling of new rows takes minutes and is overwritten.
        model.resize_token_embeddings(plan.num_rows, mean_resizing=False)
        head = model.get_output_embeddings()
        model.get_input_embeddings().weight.copy_(rows)
        if is_tied and untie:
            untie_embeddings(model)
        elif not is_tied:
            head.weight.copy_(output)
        if new_bias is not None:
            head.bias.copy_(new_bias)


def untie_embeddings(model: Any) -> None:
    """Give a model's tied embeddings two matrices, at first equal, in place."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is not embedding.weight:
        return
    head.weight = torch.nn.Parameter(embedding.weight.detach().clone())
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _new_rows(
    weight: Tensor, plan: VocabularyPlan, compose: Compose, part: Part, old: OpenedTokenizer
) -> Tensor:
    """[V, D] -> [W, D], both of the model's dtype."""
    wide = weight.float()
    rows = mean_row(wide, old).to(weight.dtype).repeat(plan.num_rows, 1)
    source = torch.from_numpy(plan.copied_from).long()
    rows[source >= 0] = weight[source[source >= 0]]
    if len(plan.composed):
        rows[torch.from_numpy(plan.composed)] = compose(wide, part).to(weight.dtype)
    return rows


def _check_alone(model: Any) -> None:
    if getattr(model.config.get_text_config(), "vocab_size_per_layer_input", None):
        raise ModelError(
            f"{type(model).__name__} has further embeddings by token in its layers, which cannot be"
            " transplanted; choose another model"
        )


def renumber_settings(
    model: Any, plan: VocabularyPlan, new: OpenedTokenizer, *, keeps_special: bool
) -> None:
    """Put the new ids of special tokens into a model's configuration and generation settings.

    Args:
        model: After `replace_embeddings`.
        plan: The new vocabulary.
        new: The new tokenizer.
        keeps_special: The old special tokens are all there; otherwise begin, end and padding are
            what the new tokenizer names.
    """
    source = plan.copied_from.tolist()
    special = reversed(list(new.vocabulary.special))
    new_id = {source[number]: number for number in special if source[number] >= 0}
    named: dict[str, int | None] = {}
    if not keeps_special:
        hf = new.hf
        named = {
            "bos_token_id": hf.bos_token_id,
            "eos_token_id": hf.eos_token_id,
            "pad_token_id": hf.pad_token_id,
        }
    turn_ends = list(new.vocabulary.ids_with_role(Role.END_OF_TURN))

    def renumbered(key: str, value: Any) -> Any:
        if isinstance(value, list) and key in named:
            # Several end tokens: that of texts, and those of turns.
            return sorted({number for number in (named[key], *turn_ends) if number is not None})
        if isinstance(value, list):
            return [new_id[number] for number in value if number in new_id]
        return named.get(key, new_id.get(value))

    found = (model.config, model.config.get_text_config(), model.generation_config)
    # A text model's configuration is its own text configuration.
    for settings in {id(one): one for one in found}.values():
        _renumber(settings, renumbered)


def _renumber(settings: Any, renumbered: Callable[[str, Any], Any]) -> None:
    for key, value in list(vars(settings).items()):
        if key.endswith("_token_id") and value is not None:
            setattr(settings, key, renumbered(key, value))
