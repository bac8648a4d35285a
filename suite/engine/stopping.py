"""Where a generated text ends: stop strings and a limit in bytes, looked for as it grows."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

# What decoders write for bytes that are no character, or not yet one.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A text is decoded from its last outcomes only; so many at least.
_WINDOW = 16


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the stop string begins at which a text is cut; None if there is none.

    It is the one that is complete first, and of several that are complete at the same character the
    one that begins first: what writing the text character by character finds, whatever its tokens.
    """
    starts = [(text.find(string), len(string)) for string in stop]
    found = [(start + length, start) for start, length in starts if start >= 0]
    return min(found)[1] if found else None


def cut_text(text: str, stop: Sequence[str], max_bytes: int | None) -> str:
    """The text without what follows its first `max_bytes` bytes or its first stop string.

    The limit comes first: a stop string beyond it, or across it, would not have been written. A
    character of which only some bytes are within the limit is left out.
    """
    if max_bytes is not None:
        text = text.encode()[:max_bytes].decode(errors="ignore")
    return text[: first_stop(text, stop)]


def without_unfinished(text: str, ending: bytes) -> str:
    """A decoded text without the character at its end of which only some bytes were generated.

    Args:
        text: What a decoder wrote; for such a character one replacement, or one for each byte.
        ending: The last bytes that were generated, at least 3 if there are so many.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(ending)
    unfinished, _ = decoder.getstate()
    for _ in unfinished:
        text = text.removesuffix(_REPLACEMENT)
    return text


class GrowingText:
    """One generated text, outcome by outcome.

    Only bytes that already are characters count as text: the rest of a character may follow, and a
    stop string must not be found in half of one.

    Attributes:
        outcomes: What was generated so far.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop: Sequence[str] = (),
        max_bytes: int | None = None,
    ) -> None:
        """Begin an empty text.

        Args:
            decode: The text of outcomes.
            stop: Strings that end the text and are not part of it.
            max_bytes: UTF-8 bytes of the longest text.
        """
        self.outcomes: list[int] = []
        self._decode = decode
        self._stop = stop
        self._max_bytes = max_bytes
        # The text of the outcomes before `_start`.
        self._before = ""
        self._start = 0

    def add(self, outcome: int) -> bool:
        """Append an outcome; whether the text ends with it, by a stop string or by its bytes."""
        self.outcomes.append(outcome)
        if not self._stop and self._max_bytes is None:
            return False
        # What the last outcomes suggest is true if it is so in the whole text.
        return self._is_over(self._recent()) and self._is_over(self._decode(self.outcomes))

    def cut(self) -> tuple[str, bool]:
        """The text so far, cut at its end, and whether a stop string cut it."""
        limited = cut_text(self._decode(self.outcomes), (), self._max_bytes)
        text = cut_text(limited, self._stop, None)
        return text, len(text) < len(limited)

    def _is_over(self, text: str) -> bool:
        written = text.rstrip(_REPLACEMENT)
        if self._max_bytes is not None:
            # Each replacement at the end stands for at least one byte.
            num_bytes = len(written.encode()) + len(text) - len(written)
            if num_bytes >= self._max_bytes:
                return True
        return first_stop(written, self._stop) is not None

    def _recent(self) -> str:
        """The whole text, of which only the last outcomes are decoded anew."""
        recent = self.outcomes[self._start :]
        text = self._before + self._decode(recent)
        if len(recent) >= 2 * _WINDOW:
            # Not in the middle of a character, nor where decoding depends on what stands before.
            last = self._decode(recent[-_WINDOW:])
            if text.endswith(last):
                self._before = text[: len(text) - len(last)]
                self._start = len(self.outcomes) - _WINDOW
        return text
