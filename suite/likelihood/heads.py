"""A model's head: what turns final hidden states into logits.

Legend: T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.errors import ModelError
from suite.likelihood.log_probs import DEFAULT_OPTIONS
from suite.likelihood.options import LogProbOptions
from suite.models.trunk import (
    evaluating,
    hidden_states,
    probe_ids,
    relative_difference,
    rounding,
    trunk_of,
)
from suite.text.vocabulary import Vocabulary

_CHECKED_TOKENS = 8

# How far rebuilt logits may be from the model's own, in units of `rounding`: with scale and cap,
# a logit is rounded up to four times.
_NUM_ROUNDINGS = 4


@dataclass(frozen=True, eq=False)
class OutputHead:
    """Logits are softcap(weight @ (scale * hidden) + bias).

    Attributes:
        weight: [V, D], the model's own parameter, not a copy: gradients reach it.
        scale: Multiplied onto the hidden states.
        options: Vocabulary size, soft-cap and bias, and how log-probabilities are computed.
    """

    weight: Tensor
    scale: float
    options: LogProbOptions


def head_of(
    model: Any,
    vocab_size: int | None = None,
    *,
    name: str,
    options: LogProbOptions = DEFAULT_OPTIONS,
) -> OutputHead:
    """Read a model's head, and check that it makes the model's logits.

    Names in configurations do not settle it: Granite divides by `logits_scaling`, HyperCLOVA X
    multiplies by it, MPT ignores its `logit_scale`. So the model is run on a few tokens, and the
    scale is the one that rebuilds its logits.

    Args:
        model: A causal language model, plain or wrapped by peft.
        vocab_size: Entries the tokenizer has; None for all rows of the head.
        name: What messages call the model.
        options: For its implementation and block size.

    Raises:
        ModelError: The head has too few rows, or no known head makes the model's logits.
    """
    weight, bias = _parameters(model, name)
    num_rows = len(weight)
    if vocab_size is not None and vocab_size > num_rows:
        raise ModelError(
            f"{name}: the tokenizer has {vocab_size} entries, the model's output embedding only"
            f" {num_rows} rows; choose the tokenizer that the model was trained with"
        )
    config = model.config.get_text_config()
    options = replace(options, vocab_size=vocab_size, bias=bias, softcap=_softcap(config))
    heads = [OutputHead(weight, scale, options) for scale in _scales(config)]
    head, difference, dtype = _closest(model, heads)
    if math.isnan(difference):
        raise ModelError(
            f"{name}: the logits of {type(model).__name__} are not numbers (NaN) in"
            f" {str(dtype).removeprefix('torch.')}; try dtype: float32, or check its weights"
        )
    if not difference <= _NUM_ROUNDINGS * rounding(dtype):
        raise ModelError(
            f"{name}: the logits of {type(model).__name__} differ by {difference:.0%} from its"
            " final states times its output embedding, with the scale, bias and soft-cap it is"
            " known to have; choose another model"
        )
    return head


def num_entries(vocabulary: Vocabulary, model: Any, *, name: str) -> int:
    """How many of a tokenizer's entries a model can read and predict.

    Special tokens at the end may be beyond the model's rows: Gemma 3's text models have none for
    the image token of their tokenizer. A text without images has none of these tokens.

    Args:
        vocabulary: The tokenizer's.
        model: A causal language model.
        name: What messages call the model.

    Raises:
        ModelError: Regular tokens have no row.
    """
    num_rows = len(_parameters(model, name)[0])
    num_without = int(np.count_nonzero(vocabulary.byte_lengths[num_rows:]))
    if num_without:
        raise ModelError(
            f"{name}: {num_without} tokens of the tokenizer have no row in the model's output"
            f" embedding of {num_rows}; choose the tokenizer that the model was trained with"
        )
    return min(len(vocabulary), num_rows)


def _parameters(model: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the output embedding."""
    module = model.get_output_embeddings()
    if hasattr(module, "base_layer"):
        raise ModelError(
            f"{name}: the output embedding has an adapter on it, which its weight alone does not"
            " show; train it in full (modules_to_save) instead"
        )
    weight = getattr(module, "weight", None)
    if weight is None or weight.dim() != 2 or not weight.is_floating_point():
        raise ModelError(
            f"{name}: the output embedding of {type(model).__name__} is {type(module).__name__},"
            " not a plain matrix of numbers; choose a causal language model, and load it with its"
            " output embedding not quantised"
        )
    return weight, getattr(module, "bias", None)


def _scales(config: Any) -> list[float]:
    """What the hidden states may be multiplied by, also 1, because a model may ignore a setting."""
    keys = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
    values = [getattr(config, key, None) for key in keys]
    named = [float(value) for value in values if isinstance(value, int | float) and value]
    return [*named, *(1 / value for value in named), 1.0]


def _softcap(config: Any) -> float | None:
    keys = ("final_logit_softcapping", "logits_soft_cap")
    return next((cap for key in keys if (cap := getattr(config, key, None))), None)


def _closest(model: Any, heads: list[OutputHead]) -> tuple[OutputHead, float, torch.dtype]:
    """The head that rebuilds the model's logits best, how far off it is, and the dtype."""
    ids = probe_ids(model, _CHECKED_TOKENS)
    positions = torch.arange(_CHECKED_TOKENS, device=ids.device)[None]
    # Rows beyond the tokenizer's size are of no concern: some models leave them out.
    entries = slice(heads[0].options.vocab_size)
    with evaluating(model), torch.no_grad():
        states = hidden_states(trunk_of(model), ids, positions)
        expected = model(input_ids=ids, position_ids=positions, use_cache=False).logits[
            ..., entries
        ]
        differences = [
            relative_difference(_logits(states, head)[..., entries], expected) for head in heads
        ]
    difference, place = min((value, place) for place, value in enumerate(differences))
    return heads[place], difference, states.dtype


def _logits(states: Tensor, head: OutputHead) -> Tensor:
    logits = torch.nn.functional.linear(states * head.scale, head.weight, head.options.bias).float()
    cap = head.options.softcap
    return logits if cap is None else cap * torch.tanh(logits / cap)
