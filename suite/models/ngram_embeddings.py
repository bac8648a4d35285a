"""Byte-level models that keep the old subword embeddings at their input (arXiv 2503.20083).

At each byte the old embedding of the longest old token that ends there is added to the byte's own;
special tokens add their own old embedding. A model's scale of embeddings (Gemma's sqrt(D)) applies
to the sum. The old embeddings are a buffer: they are not trained.

Legend: B rows, T tokens, D hidden size, R old embeddings, h tokens of history.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suite.errors import ConfigError, ModelError
from suite.models.ngram_lookup import NOTHING, NgramTable, table_of
from suite.models.trunk import evaluating, probe_ids, relative_difference, rounding, trunk_of
from suite.text.tokenizers import OpenedTokenizer

_CHECKED_TOKENS = 8


class NgramInput(nn.Module):
    """The old embeddings, and what puts them before a trunk.

    Attributes:
        table: Which old embedding each token gets.
        rows: [R, D].
    """

    rows: Tensor

    def __init__(self, table: NgramTable, rows: Tensor) -> None:
        """Take a table and its embeddings."""
        super().__init__()
        self.table = table
        self.register_buffer("rows", rows)

    def replace_ids(
        self, trunk: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A hook before a trunk's forward: embeddings in place of ids.

        Beside what the trunk takes, it may be given `ngram_history`, int64 [B, h], the tokens
        before these, `NOTHING` where there were none; without it texts begin here.

        Raises:
            ModelError: Tokens are read behind a cache without their history, or there are no ids.
        """
        kwargs = dict(kwargs)
        if args:
            ids, args = args[0], (None, *args[1:])
        else:
            ids = kwargs.pop("input_ids", None)
        history = kwargs.pop("ngram_history", None)
        cache = kwargs.get("past_key_values")
        if ids is None:
            raise ModelError(
                "a model with n-gram embeddings reads tokens, not embeddings; give input_ids"
            )
        if history is None and cache is not None and cache.get_seq_length():
            raise ModelError(
                "a model with n-gram embeddings needs the bytes before those it reads behind a"
                " cache; generate with this package's engine"
            )
        places = self._places(ids, kwargs.get("position_ids"), history)
        embedding = trunk.get_input_embeddings()
        added = nn.functional.embedding(places.clamp(min=0), self.rows)
        added = added.masked_fill((places == NOTHING)[..., None], 0)
        kwargs["inputs_embeds"] = embedding(ids) + added * _scale(embedding, added.dtype)
        return args, kwargs

    def _places(self, ids: Tensor, positions: Tensor | None, history: Tensor | None) -> Tensor:
        """Numbers of old embeddings, int64 [B, T] on the device of `ids`."""
        begins = np.zeros(ids.shape, np.bool_)
        if positions is not None:
            begins[:] = (positions == 0).numpy(force=True)
        if history is None:
            history = torch.empty(len(ids), 0, dtype=torch.int64)
        found = self.table.rows(ids.numpy(force=True), begins, history.numpy(force=True))
        return torch.from_numpy(found).to(ids.device)


class NgramCausalLM(nn.Module):
    """A byte-level causal language model of transformers with n-gram input embeddings.

    Attributes:
        model: The byte-level model; its trunk adds the old embeddings wherever it is called.
        ngram: The old embeddings.
    """

    def __init__(self, model: Any, table: NgramTable, rows: Tensor) -> None:
        """Give a model its old embeddings.

        Args:
            model: A causal language model of transformers; it belongs to this one from now on.
            table: Which old embedding each token gets.
            rows: [R, D], rounded to the model's dtype.

        Raises:
            ModelError: Sizes differ, or the model does not read embeddings as it reads tokens.
        """
        super().__init__()
        _check_sizes(model, table, rows)
        _check_reads_embeddings(model)
        embedding = model.get_input_embeddings().weight
        self.model = model
        self.ngram = NgramInput(table, rows.to(embedding.device, embedding.dtype))
        trunk_of(model).register_forward_pre_hook(self.ngram.replace_ids, with_kwargs=True)

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        """As the byte-level model's forward; `position_ids` of 0 begin a document."""
        return self.model(input_ids=input_ids, **options)

    @property
    def config(self) -> Any:
        """The byte-level model's configuration."""
        return self.model.config

    @property
    def generation_config(self) -> Any:
        """The byte-level model's settings for generation."""
        return self.model.generation_config

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def name_or_path(self) -> str:
        """Where the model was loaded from."""
        return str(self.model.name_or_path)

    @property
    def is_quantized(self) -> bool:
        """Whether the byte-level model's weights are quantised."""
        return bool(getattr(self.model, "is_quantized", False))

    def get_decoder(self) -> Any:
        """The model without its head."""
        return trunk_of(self.model)

    def get_input_embeddings(self) -> Any:
        """The embedding of bytes and special tokens."""
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """The head."""
        return self.model.get_output_embeddings()

    def num_parameters(self) -> int:
        """Numbers of the model, the old embeddings among them."""
        return int(self.model.num_parameters()) + self.ngram.rows.numel()

    def save_pretrained(
        self, folder: str | Path, state_dict: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a folder that this package opens, and plain transformers refuses.

        Args:
            folder: Created if it is missing.
            state_dict: The weights, where the model's own are cut over processes.
        """
        from suite.models.ngram_folder import save_ngram_model

        save_ngram_model(self, Path(folder), state_dict)


def add_ngram_embeddings(
    model: Any, old: OpenedTokenizer, new: OpenedTokenizer, rows: Tensor
) -> NgramCausalLM:
    """Add the old subword embeddings to the input of a byte-level model.

    Args:
        model: A byte-level causal language model, such as a transplant makes; it is not copied.
        old: The subword tokenizer.
        new: The model's byte-level tokenizer.
        rows: The old input embedding, one row for each old token (more are ignored), [., D].

    Raises:
        ModelError: The tokenizer is not byte-level, sizes differ, or the model does not read
            embeddings as it reads tokens.
    """
    if not new.is_byte_level:
        raise ModelError(
            f"{new.name} is no byte-level tokenizer, which n-gram embeddings need; set"
            " target_tokenizer to bytes"
        )
    table, tokens = table_of(old, new, len(rows))
    chosen = rows.detach()[torch.from_numpy(tokens).to(rows.device)]
    return NgramCausalLM(model, table, chosen)


def sliding_window_of(config: Any) -> int | None:
    """Tokens that layers with a sliding window see, by a model's configuration; None without."""
    window: int | None = getattr(config.get_text_config(), "sliding_window", None)
    return window


def widen_sliding_window(model: Any, size: int) -> None:
    """Let the layers with a sliding window see more tokens, in place.

    A window is counted in tokens: over bytes it shrinks to as many bytes.

    Args:
        model: A causal language model.
        size: Tokens, at least as many as now.

    Raises:
        ConfigError: It has no sliding window, or a wider one.
    """
    now = sliding_window_of(model.config)
    if now is None:
        raise ConfigError(
            f"sliding_window is {size}, but {type(model).__name__} has no layers with a sliding"
            " window; leave it out"
        )
    if size < now:
        raise ConfigError(
            f"sliding_window is {size}, less than the {now} that the model has; give at least {now}"
        )
    model.config.get_text_config().sliding_window = size
    for module in model.modules():
        # Layers without a window say None.
        if isinstance(getattr(module, "sliding_window", None), int):
            module.sliding_window = size


def _scale(embedding: Any, dtype: torch.dtype) -> Tensor | float:
    """What an embedding multiplies its rows by, rounded as it does."""
    scale: Tensor | float = getattr(embedding, "embed_scale", 1.0)
    return scale.to(dtype) if isinstance(scale, Tensor) else scale


def _check_sizes(model: Any, table: NgramTable, rows: Tensor) -> None:
    weight = model.get_input_embeddings().weight
    if rows.shape[1] != weight.shape[1]:
        raise ModelError(
            f"the old embeddings have {rows.shape[1]} numbers each, those of"
            f" {type(model).__name__} {weight.shape[1]}; take those of the model that it was made"
            " of"
        )
    num_needed = max(len(table.entries), int(table.alone.max(initial=NOTHING)) + 1)
    if len(rows) < num_needed:
        raise ModelError(
            f"there are {len(rows)} old embeddings for {num_needed} old tokens; take the tokenizer"
            " that they belong to"
        )


def _check_reads_embeddings(model: Any) -> None:
    """Check that a trunk makes the same of its tokens' embeddings as of the tokens.

    It is tried out, because some scale embeddings only where they look them up themselves, or look
    tokens up a second time in their layers.

    Raises:
        ModelError: It does not.
    """
    trunk, embedding = trunk_of(model), model.get_input_embeddings()
    ids = probe_ids(model, _CHECKED_TOKENS)
    with evaluating(model), torch.no_grad():
        plain = nn.functional.embedding(ids, embedding.weight)
        scaled = plain * _scale(embedding, plain.dtype)
        change = relative_difference(scaled, embedding(ids))
        expected = trunk(input_ids=ids, use_cache=False).last_hidden_state
        found = trunk(inputs_embeds=scaled, use_cache=False).last_hidden_state
        change = max(change, relative_difference(found, expected))
    if not change <= rounding(found.dtype):
        raise ModelError(
            f"{type(model).__name__} makes something else of its tokens' embeddings than of the"
            " tokens, so that none can be added; leave ngram_embeddings out"
        )
