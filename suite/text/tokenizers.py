"""Open a Hugging Face fast tokenizer so that every token knows its bytes.

Exactness is checked, not assumed: an encoding is returned only if its regular tokens' bytes,
joined, are the text's UTF-8 bytes.

Legend: T tokens of one text, V vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from suite.errors import TextError
from suite.text.bytelevel import (
    encode_bytes_and_special,
    encode_bytes_each,
    is_byte_vocabulary,
)
from suite.text.encoding import Encoding, Role, byte_spans, split_encodings
from suite.text.roles import find_roles
from suite.text.vocabulary import Vocabulary, read_scheme, read_vocabulary


@dataclass(frozen=True, eq=False)
class OpenedTokenizer:
    """A tokenizer, and the bytes and roles of its entries.

    Attributes:
        name: What messages call it.
        hf: The Hugging Face fast tokenizer it was opened from.
        vocabulary: The bytes and the role of every id.
        begin_id: What every training row begins with: the token that the tokenizer puts before a
            text; otherwise its begin token, otherwise its end token (lm-eval's prefix token).
        adds_begin: The tokenizer itself puts `begin_id` before a text.
        normal_form: The Unicode normal form it applies to a text first, `NFC` or none.
        is_byte_level: Its regular tokens are the 256 bytes.
        strips: Some special token takes in the white space around it.
    """

    name: str
    hf: Any
    vocabulary: Vocabulary
    begin_id: int | None
    adds_begin: bool
    normal_form: Literal["NFC"] | None
    is_byte_level: bool
    strips: bool

    def encode(self, text: str, *, parse_special: bool = False) -> Encoding:
        """Tokenise a text, without begin token.

        Args:
            text: Any text; a tokenizer with a normal form reads it in that form.
            parse_special: Read the strings of special tokens as these tokens, as a rendered chat
                needs it. By default they are text like any other.

        Raises:
            TextError: The tokens do not stand for the text; says at which byte.
        """
        (encoding,) = self.encode_each([text], parse_special=parse_special)
        if isinstance(encoding, TextError):
            raise encoding
        return encoding

    def encode_each(
        self, texts: Sequence[str], *, parse_special: bool = False
    ) -> Iterator[Encoding | TextError]:
        """As `encode` for many texts at once; one that is refused yields the reason instead."""
        if self.normal_form is not None:
            texts = [unicodedata.normalize(self.normal_form, text) for text in texts]
        reasons = [_unreadable(text) for text in texts]
        readable = [text for text, reason in zip(texts, reasons, strict=True) if reason is None]
        encodings = self._read_each(readable, parse_special)
        for reason in reasons:
            yield next(encodings) if reason is None else reason

    def _read_each(
        self, texts: Sequence[str], parse_special: bool
    ) -> Iterator[Encoding | TextError]:
        if self.is_byte_level and not parse_special:
            yield from encode_bytes_each([text.encode() for text in texts])
            return
        if self.is_byte_level and not self.strips:
            yield from (encode_bytes_and_special(text, self.vocabulary) for text in texts)
            return
        backend = self.hf.backend_tokenizer
        _read_whole(backend, parse_special=parse_special)
        if parse_special:
            batch = [backend.encode(text, add_special_tokens=False) for text in texts]
        else:
            # Tells no offsets, which takes half the time for some tokenizers.
            batch = backend.encode_batch_fast(texts, add_special_tokens=False)
            all_ids = [found.ids for found in batch]
            checked = self._checked_at_once([text.encode() for text in texts], all_ids)
            if checked is not None:
                yield from checked
                return
        read = self._parsed if parse_special else self._plain
        for text, found in zip(texts, batch, strict=True):
            try:
                yield read(text, found)
            except TextError as error:
                yield error

    def _checked_at_once(
        self, texts: list[bytes], all_ids: list[list[int]]
    ) -> Iterator[Encoding] | None:
        """The encodings of many texts; None if any of them needs a closer look."""
        ids = np.array(list(chain.from_iterable(all_ids)), np.int32)
        if self.vocabulary.join(ids) != b"".join(texts):
            return None
        lengths = self.vocabulary.byte_lengths[ids]
        if not lengths.all():
            return None
        counts = [len(own) for own in all_ids]
        num_bytes = np.concatenate([[0], np.cumsum(lengths)])[np.cumsum(counts)]
        if not np.array_equal(num_bytes, np.cumsum([len(text) for text in texts])):
            return None
        return split_encodings(texts, counts, ids, lengths)

    def _plain(self, text: str, found: Any) -> Encoding:
        """The encoding of a text without special tokens."""
        data, ids = text.encode(), found.ids
        lengths = self._lengths(ids, data, 0)
        return Encoding(
            data, np.array(ids, np.int32), byte_spans(lengths), np.zeros(len(ids), np.uint8)
        )

    def _parsed(self, text: str, found: Any) -> Encoding:
        """The encoding of a text whose special tokens were read as such."""
        # The library makes these lists anew each time that it is asked.
        all_ids, offsets = found.ids, found.offsets
        ids = np.array(all_ids, np.int32)
        roles = self.vocabulary.roles[ids]
        places = np.flatnonzero(roles)
        lengths = np.zeros(len(ids), np.int32)
        pieces, first, char, byte = [], 0, 0, 0
        for place in (*places, len(ids)):
            is_end = place == len(ids)
            start, stop = (len(text), len(text)) if is_end else offsets[place]
            piece = text[char:start].encode()
            lengths[first:place] = self._lengths(all_ids[first:place], piece, byte)
            byte += len(piece)
            # A model's own unknown token stands for text that it could not read.
            if not is_end and text[start:stop].strip() != self.vocabulary.special[ids[place]]:
                raise self._refusal(text.encode(), byte)
            byte += len(text[start:stop].encode())
            pieces.append(piece)
            first, char = place + 1, stop
        return Encoding(b"".join(pieces), ids, byte_spans(lengths), roles)

    def _lengths(self, ids: Sequence[int], data: bytes, base: int) -> NDArray[np.int32]:
        """Bytes of `data` that each regular token covers, int32 [T]; dummy spaces cover none.

        Args:
            ids: The tokens.
            data: Bytes of a text, or of its part between two special tokens.
            base: Where `data` begins, for the message.

        Raises:
            TextError: The tokens' bytes are not the text's.
        """
        token_bytes = self.vocabulary.token_bytes
        lengths = self.vocabulary.byte_lengths[np.array(ids, np.int32)]
        if lengths.all() and b"".join(map(token_bytes.__getitem__, ids)) == data:
            return lengths
        # A token without bytes stands for what was not read, even where that is a dummy space.
        num_read = int(np.append(lengths, 0).argmin())
        # A dummy space can stand before each part that added tokens cut out of the text.
        is_added = self.vocabulary.is_added[np.array(ids, np.int32)]
        starts = np.flatnonzero(is_added | np.concatenate([[True], is_added[:-1]]))
        position = 0
        for start, stop in pairwise((*starts[starts < num_read], num_read)):
            run = b"".join(map(token_bytes.__getitem__, ids[start:stop]))
            bare = run.removeprefix(b" ")
            if not data.startswith(run, position):
                if not data.startswith(bare, position):
                    rest = data[position : position + len(run)]
                    same = max(_common_prefix(run, rest), _common_prefix(bare, rest))
                    raise self._refusal(data, position + same, base)
                lengths[start] -= 1
                run = bare
            position += len(run)
        if num_read < len(ids) or position != len(data):
            raise self._refusal(data, position, base)
        return lengths

    def _refusal(self, data: bytes, place: int, base: int = 0) -> TextError:
        # A character is named whole, wherever in it the byte is.
        while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
            place, base = place - 1, base + 1
        rest = data[place : place + 4].decode(errors="replace")
        what = f"{rest[0]!r} (U+{ord(rest[0]):04X})" if rest else "its end"
        return TextError(
            f"{self.name} cannot read byte {base + place} of the text, {what}: its tokens stand for"
            " other bytes; leave this text out or choose another tokenizer"
        )


def open_tokenizer(
    hf: Any, *, name: str, roles: Mapping[str, Role] | None = None
) -> OpenedTokenizer:
    """Learn the bytes and roles of a tokenizer's entries.

    Args:
        hf: A Hugging Face fast tokenizer. It is used, not copied.
        name: What messages call it.
        roles: Roles of special tokens by their string, where those found are wrong.

    Raises:
        TextError: A slow tokenizer, or one that loses text; says which part of it does.
        ConfigError: `roles` names a token that does not exist.
    """
    if not getattr(hf, "is_fast", False):
        raise TextError(
            f"{name}: {type(hf).__name__} is a slow tokenizer, which does not tell its parts;"
            " choose one with a tokenizer.json"
        )
    backend = hf.backend_tokenizer
    _read_whole(backend, parse_special=True)
    scheme = read_scheme(backend, name)
    vocabulary = read_vocabulary(backend, scheme, find_roles(hf, roles or {}, name))
    added = _added_before(backend)
    begin_ids = [added, hf.bos_token_id, hf.eos_token_id]
    return OpenedTokenizer(
        name=name,
        hf=hf,
        vocabulary=vocabulary,
        begin_id=next((number for number in begin_ids if number is not None), None),
        adds_begin=added is not None,
        normal_form=scheme.normal_form,
        is_byte_level=is_byte_vocabulary(vocabulary),
        strips=any(
            token.lstrip or token.rstrip or token.single_word
            for token in backend.get_added_tokens_decoder().values()
        ),
    )


@dataclass(frozen=True)
class SharedText:
    """A text as all of several tokenizers read it.

    `num_changed` counts the characters that the normal form replaced; a text in which it only
    changed the order of combining marks counts as one.
    """

    text: str
    num_changed: int


def shared_text(text: str, tokenizers: Iterable[OpenedTokenizer]) -> SharedText:
    """The text in the normal form that any of the tokenizers needs, the same for all of them."""
    form = next((known.normal_form for known in tokenizers if known.normal_form), None)
    if form is None or unicodedata.is_normalized(form, text):
        return SharedText(text, 0)
    normal = unicodedata.normalize(form, text)
    return SharedText(normal, max(1, (Counter(text) - Counter(normal)).total()))


def _read_whole(backend: Any, *, parse_special: bool) -> None:
    """Let a tokenizer read all of a text, whatever its file or the last call of it has set."""
    backend.encode_special_tokens = not parse_special
    backend.no_truncation()
    backend.no_padding()


def _added_before(backend: Any) -> int | None:
    """The special token that the tokenizer puts before a text."""
    plain = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a", add_special_tokens=True).ids
    return int(whole[0]) if whole[: len(plain)] != plain else None


def _unreadable(text: str) -> TextError | None:
    """Why a text has no UTF-8 bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return TextError(
            f"character {error.start} of the text is a lone surrogate, which UTF-8 cannot hold;"
            " mend this text or leave it out"
        )
    return None


def _common_prefix(a: bytes, b: bytes) -> int:
    """Number of leading bytes that are equal."""
    size = min(len(a), len(b))
    differs = np.frombuffer(a, np.uint8, size) != np.frombuffer(b, np.uint8, size)
    return int(differs.argmax()) if differs.any() else size
