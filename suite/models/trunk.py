"""A causal language model without its head: token ids -> final hidden states.

Legend: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from suite.errors import ModelError

_CHECKED_TOKENS = 8

# Limits in units of `rounding`. The states of one document behind two others are computed side by
# side: even in bfloat16 they were equal to the last bit in all dense models tried, and moved by one
# unit in mixtures of experts. The weakest leak found, of a recurrent layer, moved them by 12 %,
# where the limit is 3 %.
_BEHIND_ANOTHER = 4
# Alone, the shapes differ, and with them the order of sums: bfloat16 moved real models by 2 %, and
# rounding grows with depth. Documents that were not apart moved by half; the limit is 25 %.
_ALONE = 32


def trunk_of(model: Any) -> Any:
    """The part of a model that ends with the final norm, with its adapters if it has any.

    Args:
        model: A causal language model of transformers, plain or wrapped by peft.
    """
    # Only peft has get_base_model; the adapters' layers are inside what it returns.
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder()


def transformer_blocks(trunk: Any) -> list[Any]:
    """A trunk's blocks: the longest list of modules that it holds itself, empty without one.

    Lists further inside are of a block's experts.
    """
    lists = [module for module in trunk.children() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def hidden_states(trunk: Any, ids: Tensor, position_ids: Tensor) -> Tensor:
    """States after the final norm.

    Positions without attention mask and without cache: this is what makes transformers build the
    mask from the positions, so that a document begins wherever they restart.

    Args:
        trunk: From `trunk_of`.
        ids: int64 [B, T].
        position_ids: int64 [B, T].

    Returns:
        [B, T, D], differentiable.
    """
    output = trunk(input_ids=ids, position_ids=position_ids, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states


def check_isolation(model: Any, name: str) -> None:
    """Check that positions which restart keep the documents of a row apart.

    It is tried out, because no configuration tells: some models build their mask without regard to
    positions, and recurrent layers have no mask.

    Args:
        model: A causal language model.
        name: What messages call it.

    Raises:
        ModelError: A document's states depend on the document before it.
    """
    implementation = getattr(model.config, "_attn_implementation", None) or ""
    if "flash" in implementation:
        # Its kernels find documents in a batch of one row only.
        raise ModelError(
            f"{name}: {implementation} does not keep the documents of a row apart in batches;"
            " load the model with attn_implementation: sdpa, or set packing to none or concatenated"
        )
    trunk = trunk_of(model)
    size = _CHECKED_TOKENS
    first, second, document = probe_ids(model, 3 * size).reshape(3, 1, size)
    rows = torch.cat([torch.cat([first, document], 1), torch.cat([second, document], 1)])
    positions = torch.arange(size, device=rows.device).repeat(2, 2)
    with evaluating(model), torch.no_grad():
        packed = hidden_states(trunk, rows, positions)[:, size:]
        alone = hidden_states(trunk, document, positions[:1, :size])[0]
    unit = rounding(packed.dtype)
    for expected, limit in ((packed[1], _BEHIND_ANOTHER), (alone, _ALONE)):
        change = relative_difference(packed[0], expected)
        # Written so that states which are no numbers are refused, too.
        if not change <= limit * unit:
            raise ModelError(
                f"{name}: {type(trunk).__name__} does not keep the documents of a row apart (the"
                f" one before it changes a document's final states by {change:.0%}); set packing to"
                " none or concatenated, or load the model with another attn_implementation"
            )


def probe_ids(model: Any, num_tokens: int) -> Tensor:
    """Ids from all over a model's vocabulary, to try a model out with; int64 [1, T]."""
    vocab_size: int = model.config.get_text_config().vocab_size
    places = torch.arange(num_tokens, device=model.device)
    return (places * max(1, vocab_size // num_tokens) % vocab_size)[None]


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Euclidean norm of the difference as a share of that of `expected`."""
    found, expected = found.detach().double(), expected.detach().double()
    # Where nothing is expected and nothing found, 0.
    size = expected.norm().clamp(min=torch.finfo(torch.float64).tiny)
    share: float = ((found - expected).norm() / size).item()
    return share


def rounding(dtype: torch.dtype) -> float:
    """The largest relative step of a dtype; of TF32 for float32, whose products may be that."""
    return max(torch.finfo(dtype).eps, 2.0**-10)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run without dropout; every module gets its mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
