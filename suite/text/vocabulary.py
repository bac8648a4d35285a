"""The bytes of every entry of a vocabulary, read from the tokenizer's own parts.

Two families are known, and together they cover nearly all open models:

* byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM): an entry is written in an alphabet of 256 printable
  characters, one for each byte;
* SentencePiece style (Llama 2, Mistral, Gemma; BPE or Unigram): an entry is plain text in which a
  mark stands for a space, and `<0xNN>` for a byte that no other entry covers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from suite.errors import TextError
from suite.text.encoding import Role

# What these parts do to a text, as the end of the sentence "its ... ".
_LOSSY_NORMALIZERS = {
    "BertNormalizer": "cleans text and may lower-case it or strip its accents",
    "Lowercase": "lower-cases text",
    "NFD": "decomposes characters",
    "NFKC": "replaces compatibility characters",
    "NFKD": "replaces compatibility characters",
    "Nmt": "drops control characters",
    "Precompiled": "replaces characters by a table of its own, as NFKC does",
    "Strip": "strips white space",
    "StripAccents": "strips accents",
}
_LOSSY_PRE_TOKENIZERS = ("BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit")
_BYTE_ENTRY = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Scheme:
    """How a tokenizer writes bytes into its entries.

    Attributes:
        is_byte_level: Entries are written in GPT-2's alphabet.
        space_mark: The character that stands for a space, if there is one.
        has_byte_fallback: Entries `<0xNN>` stand for one byte.
        normal_form: The Unicode normal form it applies to a text first.
    """

    is_byte_level: bool
    space_mark: str | None
    has_byte_fallback: bool
    normal_form: Literal["NFC"] | None


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Every entry of a vocabulary of V entries.

    Attributes:
        token_bytes: The bytes an entry stands for; none for special and dead ones. [V]
        special: The strings of the special tokens, by id.
        roles: uint8 [V], values of `Role`.
        is_dead: bool [V], no bytes can be told: an id without entry, or one outside the alphabet.
        is_added: bool [V], found in a text before all others, and splits it.
    """

    token_bytes: tuple[bytes, ...]
    special: dict[int, str]
    roles: NDArray[np.uint8]
    is_dead: NDArray[np.bool_]
    is_added: NDArray[np.bool_]
    is_fallback: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of ids, dead ones included."""
        return len(self.token_bytes)

    @cached_property
    def byte_lengths(self) -> NDArray[np.int32]:
        """Bytes of each entry, int32 [V]."""
        return np.fromiter(map(len, self.token_bytes), np.int32, len(self.token_bytes))

    @cached_property
    def _flat(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of all entries behind each other; where each entry's begin, [V]."""
        lengths = self.byte_lengths.astype(np.int64)
        return np.frombuffer(b"".join(self.token_bytes), np.uint8), np.cumsum(lengths) - lengths

    def join(self, ids: NDArray[np.int32]) -> bytes:
        """The bytes of a row of tokens; gathered by index, which beats joining small objects."""
        flat, starts = self._flat
        lengths = self.byte_lengths[ids]
        behind = np.cumsum(lengths, dtype=np.int64)
        place = np.repeat(starts[ids] - (behind - lengths), lengths)
        place += np.arange(len(place))
        return bytes(flat[place])

    @cached_property
    def id_of_bytes(self) -> dict[bytes, int]:
        """The entry for a byte string: the ordinary one before an added one, a `<0xNN>` last."""
        rank = self.is_fallback * 2 + self.is_added
        best_last = np.lexsort((-np.arange(len(self)), -rank))
        ids = {self.token_bytes[token]: int(token) for token in best_last}
        ids.pop(b"", None)
        return ids

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Finds the strings of special tokens in a text, the longest at a place first."""
        strings = sorted(self.special.values(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, strings)) or r"(?!)")

    def ids_with_role(self, role: Role) -> tuple[int, ...]:
        """The special tokens of one role, by rising id."""
        return tuple(int(token) for token in np.flatnonzero(self.roles == role))


def read_scheme(backend: Any, name: str) -> Scheme:
    """How a tokenizer of the tokenizers library writes bytes.

    Raises:
        TextError: A part of it loses text, so that bytes cannot be told from tokens.
    """
    normalizers = list(_parts(backend.normalizer, "normalizers"))
    splitters = list(_parts(backend.pre_tokenizer, "pretokenizers"))
    model = _read_model(backend.model, name)
    marks = [_normalizer_mark(part, name) for part in normalizers]
    marks += [_splitter_mark(part, name) for part in splitters]
    kinds = {part["type"] for part in (*normalizers, *splitters)}
    return Scheme(
        is_byte_level="ByteLevel" in kinds,
        space_mark=next((mark for mark in marks if mark), None),
        has_byte_fallback=bool(model.get("byte_fallback")),
        normal_form="NFC" if "NFC" in kinds else None,
    )


def read_vocabulary(backend: Any, scheme: Scheme, roles: dict[int, Role]) -> Vocabulary:
    """The bytes of every entry; `roles` names the special tokens among them."""
    entries = backend.get_vocab(with_added_tokens=True)
    added = backend.get_added_tokens_decoder()
    size = max(entries.values(), default=-1) + 1
    token_bytes = [b""] * size
    role_of = np.zeros(size, np.uint8)
    is_added, is_fallback = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    for token, number in entries.items():
        if number in roles:
            continue
        byte = _BYTE_ENTRY.fullmatch(token) if scheme.has_byte_fallback else None
        if byte is not None:
            is_fallback[number] = True
            token_bytes[number] = bytes([int(byte[1], 16)])
        elif scheme.is_byte_level and number not in added:
            token_bytes[number] = _from_alphabet(token)
        else:
            token_bytes[number] = _plain(token, scheme.space_mark)
    special = {number: role for number, role in sorted(roles.items()) if number < size}
    role_of[list(special)] = [int(role) for role in special.values()]
    is_added[list(added)] = True
    strings = {number: token for token, number in entries.items() if number in special}
    is_dead = (role_of == Role.REGULAR) & np.array([not entry for entry in token_bytes], np.bool_)
    return Vocabulary(
        token_bytes=tuple(token_bytes),
        special={number: strings[number] for number in special if number in strings},
        roles=role_of,
        is_dead=is_dead,
        is_added=is_added,
        is_fallback=is_fallback,
    )


def byte_alphabet() -> str:
    """GPT-2's alphabet: the character at place b stands for byte b.

    Printable Latin-1 stands for itself; the other bytes take the characters from U+0100 on, in
    order, so that no entry holds white space or control characters.
    """
    others = iter(range(0x100, 0x200))
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


# To Latin-1, whose code points are bytes; what is no letter of the alphabet cannot be encoded.
_TO_LATIN = {code: "\uffff" for code in range(256)} | {
    ord(letter): chr(byte) for byte, letter in enumerate(byte_alphabet())
}


def _from_alphabet(token: str) -> bytes:
    """The bytes of an entry of byte-level BPE; none where it holds another character."""
    try:
        return token.translate(_TO_LATIN).encode("latin-1")
    except UnicodeEncodeError:
        return b""


def _plain(token: str, space_mark: str | None) -> bytes:
    return (token.replace(space_mark, " ") if space_mark else token).encode()


def _parts(part: Any, key: str) -> list[dict[str, Any]]:
    """A normaliser or pre-tokenizer as a flat list of its steps."""
    if part is None:
        return []
    return _flatten(json.loads(part.__getstate__()), key)


def _flatten(step: dict[str, Any], key: str) -> list[dict[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner for child in step[key] for inner in _flatten(child, key)]


def _normalizer_mark(part: dict[str, Any], name: str) -> str | None:
    """The space mark a normaliser brings in, if any; refuses one that loses text."""
    kind = part["type"]
    if kind == "Replace":
        pattern, content = part["pattern"], part["content"]
        if pattern == {"String": " "} and len(content) == 1:
            return str(content)
        (replaced,) = pattern.values()
        what = f"replaces {replaced!r} by {content!r}"
        raise _refusal(name, "normaliser", kind, what)
    if kind not in ("NFC", "Prepend", "ByteLevel"):
        what = _LOSSY_NORMALIZERS.get(kind, "is not known to keep text")
        raise _refusal(name, "normaliser", kind, what)
    return None


def _splitter_mark(part: dict[str, Any], name: str) -> str | None:
    """The space mark a pre-tokenizer brings in, if any; refuses one that loses text."""
    kind = part["type"]
    if kind in _LOSSY_PRE_TOKENIZERS or part.get("behavior") == "Removed":
        raise _refusal(name, "pre-tokenizer", kind, "drops the text between words")
    return str(part["replacement"]) if kind == "Metaspace" else None


def _read_model(model: Any, name: str) -> dict[str, Any]:
    """The model's settings that matter here."""
    kind = type(model).__name__
    if kind == "Unigram":
        # The class shows only some of its settings.
        return {"byte_fallback": json.loads(model.__getstate__()).get("byte_fallback", False)}
    if kind != "BPE":
        raise _refusal(name, "model", kind, "marks or drops the borders of words")
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        raise _refusal(name, "model", kind, "marks the borders of words")
    if model.dropout:
        raise _refusal(name, "model", kind, "drops merges at random")
    return {"byte_fallback": model.byte_fallback}


def _refusal(name: str, part: str, kind: str, what: str) -> TextError:
    return TextError(
        f"{name}: its {part} {kind} {what}, so tokens do not tell the bytes of a text;"
        " choose another tokenizer"
    )
