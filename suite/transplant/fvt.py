"""Fast vocabulary transfer: a new token is the mean of the old tokens that spell it.

Gee et al. 2022 (arXiv 2402.09977), on byte strings.

Legend: C composed tokens, P pieces of all of them, D hidden size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.errors import TextError
from suite.text.tokenizers import OpenedTokenizer
from suite.transplant.contract import Compose, Composition, Part

# What Python's surrogateescape makes of a byte that is not UTF-8.
_STRAY_BYTE = re.compile("[\udc80-\udcff]")
_NO_TOKEN = -1


def fvt(composition: Composition) -> Compose:
    """The mean of the old rows of a token's pieces (see `split_tokens`).

    A byte without a token of its own has the mean of the rows of all single bytes.
    """
    old = composition.old
    pieces = split_tokens(old, composition.plan.composed_bytes)
    counts = np.array([len(piece) for piece in pieces], np.int64)
    starts = torch.from_numpy(np.cumsum(counts) - counts)
    flat = np.concatenate([np.empty(0, np.int32), *pieces]).astype(np.int64)
    single = [n for entry, n in old.vocabulary.id_of_bytes.items() if len(entry) == 1]

    def compose(rows: Tensor, part: Part) -> Tensor:
        with_unknown = torch.cat([rows, rows[single].mean(dim=0, keepdim=True)])
        places = torch.from_numpy(np.where(flat == _NO_TOKEN, len(rows), flat))
        return torch.nn.functional.embedding_bag(places, with_unknown, starts, mode="mean")

    return compose


def split_tokens(old: OpenedTokenizer, tokens: Sequence[bytes]) -> list[NDArray[np.int32]]:
    """Split each token's bytes into old tokens.

    Bytes that are UTF-8 are read as the old tokenizer reads them within a text, without a dummy
    space before them; what is not UTF-8, and what it cannot read, splits into single bytes.

    Args:
        old: The tokenizer to split with.
        tokens: Byte strings, none empty.

    Returns:
        For each token the old ids, int32; -1 for a byte without a token of its own.
    """
    reader = _without_dummy_space(old)
    parts = [_parts(token) for token in tokens]
    texts = [part for own in parts for part in own if isinstance(part, str)]
    read = reader.encode_each(texts)

    def pieces(part: str | bytes) -> Iterator[int]:
        if isinstance(part, str):
            encoding = next(read)
            if not isinstance(encoding, TextError):
                yield from encoding.ids.tolist()
                return
            part = part.encode()
        yield from (old.vocabulary.id_of_bytes.get(bytes([b]), _NO_TOKEN) for b in part)

    return [np.array([n for part in own for n in pieces(part)], np.int32) for own in parts]


def _parts(token: bytes) -> list[str | bytes]:
    """A token's bytes as runs of text, and single bytes that are no UTF-8."""
    text = token.decode("utf-8", "surrogateescape")
    parts: list[str | bytes] = []
    place = 0
    for match in _STRAY_BYTE.finditer(text):
        parts += [text[place : match.start()], match[0].encode("utf-8", "surrogateescape")]
        place = match.end()
    parts.append(text[place:])
    return [part for part in parts if part]


def _without_dummy_space(tokenizer: OpenedTokenizer) -> OpenedTokenizer:
    """The tokenizer, but reading a text as if other text stood before it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.hf.backend_tokenizer.to_str())
    changed = state | {
        "normalizer": _without_prefix(state["normalizer"]),
        "pre_tokenizer": _without_prefix(state["pre_tokenizer"]),
    }
    if changed == state:
        return tokenizer
    backend = Tokenizer.from_str(json.dumps(changed))
    return replace(tokenizer, hf=PreTrainedTokenizerFast(tokenizer_object=backend))


def _without_prefix(step: Any) -> Any:
    """A normaliser or pre-tokenizer that puts nothing before a text."""
    if step is None:
        return None
    for key in ("normalizers", "pretokenizers"):
        if key in step:
            inner = [_without_prefix(child) for child in step[key]]
            return step | {key: [child for child in inner if child is not None]}
    if step["type"] == "Prepend":
        return None
    if step["type"] == "Metaspace":
        return step | {"prepend_scheme": "never"}
    return step | {"add_prefix_space": False} if "add_prefix_space" in step else step
