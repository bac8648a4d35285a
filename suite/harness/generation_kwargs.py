"""lm-eval's generation settings as the engine takes them, and reasoning cut off what comes back."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from suite.engine.generation import GenerationSettings
from suite.engine.stopping import cut_text
from suite.errors import ConfigError
from suite.text.bytelevel import NUM_BYTES
from suite.text.vocabulary import Vocabulary

DEFAULT_MAX_TOKENS = 256
# Bytes of a subword token: 256 of them are about 1,100 bytes of English.
BYTES_PER_TOKEN = 4.3

# lm-eval's own name and those of other libraries, in its order.
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_OTHERS = ("until", "do_sample", "temperature", "top_p", "top_k", "seed", "max_gen_bytes")


def grouping_key(kwargs: Mapping[str, Any]) -> str:
    """Equal for requests that can be generated together."""
    return json.dumps(kwargs, sort_keys=True, default=str)


def is_nearly_bytes(vocabulary: Vocabulary) -> bool:
    """Whether ids 0-255 are the bytes, and few further ids stand for bytes."""
    lengths = vocabulary.byte_lengths
    is_start = vocabulary.token_bytes[:NUM_BYTES] == tuple(bytes([b]) for b in range(NUM_BYTES))
    return is_start and int(np.count_nonzero(lengths[NUM_BYTES:])) < NUM_BYTES


def in_bytes(num_tokens: int) -> int:
    """Bytes of so many subword tokens."""
    return math.ceil(num_tokens * BYTES_PER_TOKEN)


def limit_facts(counts_bytes: bool) -> dict[str, float]:
    """How a limit in tokens is read, for the results file, where it is not taken as it is."""
    return {"bytes_per_token_of_limit": BYTES_PER_TOKEN} if counts_bytes else {}


def generation_settings(
    kwargs: Mapping[str, Any], end_strings: Sequence[str], *, counts_bytes: bool = False
) -> GenerationSettings:
    """Read one request's settings as lm-eval means them.

    Tasks limit answers in tokens, and mean subword tokens: of a model over bytes each counts as
    `BYTES_PER_TOKEN` bytes, unless the task has a limit in bytes of its own.

    Sampling is on if `do_sample` is, or by a temperature above 0 where that is not given. The
    seed, unless given, is the one that lm-eval sets torch to.

    Args:
        kwargs: The task's `generation_kwargs`.
        end_strings: The end tokens as text: lm-eval stops where a model spells one.
        counts_bytes: A token of the model is a byte.

    Raises:
        ConfigError: A setting is not known, or its value is of no use.
    """
    _check_known(kwargs)
    temperature = float(kwargs.get("temperature") or 0.0)
    is_sampled = kwargs.get("do_sample")
    if is_sampled is None:
        is_sampled = temperature > 0
    if is_sampled and "temperature" not in kwargs:
        temperature = 1.0
    max_tokens, max_bytes = _limits(kwargs, counts_bytes)
    # At a temperature of 0 the most likely token has all the mass.
    do_sample = bool(is_sampled) and temperature > 0
    seed = kwargs.get("seed")
    return GenerationSettings(
        stop=stop_strings(kwargs, end_strings),
        max_tokens=max_tokens,
        max_bytes=max_bytes,
        do_sample=do_sample,
        temperature=temperature if do_sample else 1.0,
        top_p=float(kwargs.get("top_p") or 1.0),
        top_k=int(kwargs.get("top_k") or 0),
        seed=int(torch.initial_seed() if seed is None else seed),
    )


def _limits(kwargs: Mapping[str, Any], counts_bytes: bool) -> tuple[int, int | None]:
    """The longest answer in the model's tokens and in bytes; None without a limit in bytes."""
    found = next((kwargs[key] for key in _MAX_TOKENS if kwargs.get(key) is not None), None)
    max_tokens = DEFAULT_MAX_TOKENS if found is None else int(found)
    max_bytes = None if kwargs.get("max_gen_bytes") is None else int(kwargs["max_gen_bytes"])
    if not counts_bytes or max_tokens < 1:
        return max_tokens, max_bytes
    limit = in_bytes(max_tokens)
    if max_bytes is not None:
        limit = max_bytes if found is None else min(limit, max_bytes)
    return limit, limit


def random_keys(requests: Sequence[Any]) -> list[int]:
    """Numbers that random ones follow from, by what each request is and how often it came before.

    So neither the other requests nor their order change what is drawn: another process may have
    them, or an earlier run may have answered them.
    """
    keys = []
    seen: Counter[tuple[Any, ...]] = Counter()
    for request in requests:
        name = (request.task_name, request.doc_id, request.idx)
        digest = hashlib.sha256(json.dumps([*name, seen[name]], default=str).encode()).digest()
        keys.append(int.from_bytes(digest[:8], "big"))
        seen[name] += 1
    return keys


def special_stops(hf: Any, stop: Sequence[str], num_entries: int) -> list[int]:
    """A tokenizer's special tokens that spell a stop string.

    Decoding leaves special tokens out, so these strings would not be found in a text.
    """
    added = {number for number, token in hf.added_tokens_decoder.items() if token.special}
    special = (number for number in added | set(hf.all_special_ids) if number < num_entries)
    return [number for number in special if hf.convert_ids_to_tokens(number) in stop]


def stop_strings(kwargs: Mapping[str, Any], end_strings: Sequence[str]) -> tuple[str, ...]:
    """The strings of `until` and the end tokens, without empty ones, which stand everywhere."""
    until = kwargs.get("until") or []
    given = [until] if isinstance(until, str) else until
    return tuple(dict.fromkeys(text for text in (*given, *end_strings) if text))


def cut_reasoning(text: str, end_of_reasoning: str, stop: Sequence[str]) -> str:
    """What follows the last end of reasoning, up to the first stop string behind that."""
    return cut_text(text.split(end_of_reasoning)[-1].lstrip(), stop, None)


def _check_known(kwargs: Mapping[str, Any]) -> None:
    unknown = sorted(set(kwargs) - {*_MAX_TOKENS, *_OTHERS})
    if unknown:
        known = ", ".join(sorted((*_MAX_TOKENS, *_OTHERS)))
        raise ConfigError(
            f"generation settings {', '.join(unknown)} are not known to this backend; leave them"
            f" out of generation_kwargs, or choose backend: hf (known: {known})"
        )
