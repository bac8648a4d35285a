"""What tokenisation does to each item: the features by which changed answers can be grouped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ItemFeatures:
    """Counts over the prompt and first answer of one item.

    `num_boundary_splits` counts the item's requests in which one token spans the border between
    prompt and continuation.
    """

    doc_id: int
    doc_hash: str
    num_bytes: int
    num_tokens: int
    num_boundary_splits: int
    num_digits: int
    num_non_ascii: int


def item_features(
    samples: Iterable[dict[str, Any]], encode: Callable[[str], list[int]]
) -> list[dict[str, Any]]:
    """Features of lm-eval's logged samples, one plain dict an item, in the samples' order.

    `encode` maps text to ids without special tokens. An item logged once a filter counts once.
    """
    seen: set[int] = set()
    features = []
    for sample in samples:
        if sample["doc_id"] not in seen:
            seen.add(sample["doc_id"])
            features.append(asdict(_features(sample, encode)))
    return features


def _features(sample: dict[str, Any], encode: Callable[[str], list[int]]) -> ItemFeatures:
    pairs = [_texts(arguments) for arguments in sample["arguments"]]
    text = "".join(pairs[0])
    return ItemFeatures(
        doc_id=sample["doc_id"],
        doc_hash=sample["doc_hash"],
        num_bytes=len(text.encode()),
        num_tokens=len(encode(text)),
        num_boundary_splits=sum(_spans_border(*pair, encode) for pair in pairs if all(pair)),
        num_digits=sum(character.isdigit() for character in text),
        num_non_ascii=sum(not character.isascii() for character in text),
    )


def _texts(arguments: Any) -> tuple[str, str]:
    """Prompt and continuation of one request; generation and rolling have no continuation."""
    first, second = arguments[0], arguments[1] if len(arguments) > 1 else ""
    return first, second if isinstance(second, str) else ""


def _spans_border(context: str, continuation: str, encode: Callable[[str], list[int]]) -> bool:
    """Whether the ids of the context alone are not how the ids of the whole text begin.

    White space that ends a context counts with the continuation, as in lm-eval.
    """
    bare = context.rstrip()
    context_ids = encode(bare)
    return encode(context + continuation)[: len(context_ids)] != context_ids
