"""Whether two facts of a measurement differ, and how to say so in a sentence."""

from __future__ import annotations

import json
from typing import Any

# Longer values are cut in sentences.
MAX_VALUE_LENGTH = 60


def differs(first: Any, second: Any) -> bool:
    """Whether two values are known and not the same; what lies inside may be unknown too."""
    if first is None or second is None:
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() != second.keys() or any(differs(first[k], second[k]) for k in first)
    return bool(first != second)


def texts_of(first: Any, second: Any) -> tuple[str, str]:
    """Both values as short texts that are not the same; of two mappings what differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = [name for name in {**first, **second} if _entrydiffers(name, first, second)]
        first, second = ({n: side[n] for n in names if n in side} for side in (first, second))
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (first, second)]
    start = 0
    if max(map(len, texts)) > MAX_VALUE_LENGTH:
        # Long texts are shown from shortly before the place where they begin to differ.
        pairs = zip(*texts, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(map(len, texts)))
        start = max(0, same - MAX_VALUE_LENGTH // 3)
    left, right = (_cut(text, start) for text in texts)
    return left, right


def _entrydiffers(name: str, first: dict[str, Any], second: dict[str, Any]) -> bool:
    return (name in first) != (name in second) or differs(first[name], second[name])


def _cut(text: str, start: int) -> str:
    shown = text[start : start + MAX_VALUE_LENGTH]
    whole = f"{'…' * (start > 0)}{shown}{'…' * (start + len(shown) < len(text))}"
    return " ".join(whole.split()) or "nothing"
