"""Bytes as tokens: a byte-level tokenizer, and what n-gram embeddings need to know of each byte.

Ids 0-255 are the bytes; special tokens follow. The Hugging Face tokenizer made here is for use
outside the suite, and for chats; inside it bytes become ids by numpy alone.

Legend: n bytes of a text or a piece of it, in rows or alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from suite.errors import ConfigError, TextError, near_names
from suite.text.encoding import Encoding, Role, byte_spans, split_encodings
from suite.text.suffix_trie import NO_BYTE, SuffixTrie
from suite.text.vocabulary import Vocabulary, byte_alphabet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from suite.text.tokenizers import OpenedTokenizer

NUM_BYTES = 256

_SINGLE_BYTES = tuple(bytes([byte]) for byte in range(NUM_BYTES))
# How makers of vocabularies call the numbered entries that they keep for later.
_RESERVED = re.compile(
    r"(unused|reserved|place.?holder|dummy|control|special|extra)\D*\d", re.IGNORECASE
)


def is_byte_vocabulary(vocabulary: Vocabulary) -> bool:
    """Whether ids 0-255 are the bytes in order, and no further id stands for bytes."""
    token_bytes = vocabulary.token_bytes
    return token_bytes[:NUM_BYTES] == _SINGLE_BYTES and not any(token_bytes[NUM_BYTES:])


def encode_bytes_each(texts: Sequence[bytes]) -> Iterator[Encoding]:
    """Texts as a byte-level tokenizer reads them: one regular token for each byte."""
    ids = np.frombuffer(b"".join(texts), np.uint8).astype(np.int32)
    counts = [len(text) for text in texts]
    return split_encodings(texts, counts, ids, np.ones(len(ids), np.int32))


def encode_bytes_and_special(text: str, vocabulary: Vocabulary) -> Encoding:
    """A text as a byte-level tokenizer reads it whose special tokens take no white space."""
    number_of = {string: number for number, string in vocabulary.special.items()}
    pieces, ids, place = [], [], 0
    for match in vocabulary.special_pattern.finditer(text):
        pieces.append(text[place : match.start()].encode())
        ids += [np.frombuffer(pieces[-1], np.uint8), [number_of[match[0]]]]
        place = match.end()
    pieces.append(text[place:].encode())
    joined = np.concatenate([*ids, np.frombuffer(pieces[-1], np.uint8)]).astype(np.int32)
    spans = byte_spans((joined < NUM_BYTES).astype(np.int32))
    return Encoding(b"".join(pieces), joined, spans, vocabulary.roles[joined])


def byte_tokenizer(
    tokenizer: OpenedTokenizer, *, keep: Collection[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens and the chat template of another one.

    Ids 0-255 are the bytes; the kept special tokens follow in the order of their old ids. All are
    kept but those that nothing names or uses: role `OTHER`, neither an attribute of the tokenizer
    (`mask_token`) nor in its chat template, and numbered like a reserved entry (`<unused17>`,
    `<|reserved_special_token_3|>`).

    Saved by `save_pretrained` it is an ordinary fast tokenizer, which `AutoTokenizer` opens without
    custom code. For a few types of model, Qwen2 among them, transformers insists on a class that
    reads text in Unicode's normal form C; beside their `config.json` other text comes back in that
    form, as it does from the models' own tokenizers.

    Args:
        tokenizer: Where special tokens, begin token and chat template come from.
        keep: Special tokens to keep although nothing uses them.

    Raises:
        ConfigError: `keep` names a token that the tokenizer does not have as a special one.
        TextError: A special token is written like a byte.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    hf, special = tokenizer.hf, _kept_special(tokenizer, keep)
    # Without merges a word of any length is read in linear time, so a text need not be split.
    letters = {letter: byte for byte, letter in enumerate(byte_alphabet())}
    backend = Tokenizer(models.BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    source = {token.content: token for token in hf.added_tokens_decoder.values()}
    backend.add_special_tokens(
        [
            AddedToken(
                token,
                special=True,
                normalized=False,
                lstrip=token in source and source[token].lstrip,
                rstrip=token in source and source[token].rstrip,
            )
            for token in special
        ]
    )
    if tokenizer.adds_begin and tokenizer.begin_id is not None:
        begin = tokenizer.vocabulary.special[tokenizer.begin_id]
        backend.post_processor = _begin_adder(begin, NUM_BYTES + special.index(begin))
    kept = set(special)
    named = {name: token for name, token in hf.special_tokens_map.items() if token in kept}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **named,
        extra_special_tokens=[token for token in hf.extra_special_tokens if token in kept],
        padding_side=hf.padding_side,
        model_input_names=hf.model_input_names,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = hf.chat_template
    return made


def _kept_special(tokenizer: OpenedTokenizer, keep: Collection[str]) -> list[str]:
    """The strings of the special tokens that a byte-level tokenizer takes over, by rising id."""
    vocabulary, hf = tokenizer.vocabulary, tokenizer.hf
    for token in keep:
        if token not in vocabulary.special.values():
            known = near_names(token, vocabulary.special.values())
            raise ConfigError(f"{tokenizer.name}: no special token {token!r} to keep; {known}")
    templates = hf.chat_template or ""
    if isinstance(templates, dict):
        templates = " ".join(templates.values())
    named = {*hf.special_tokens_map.values(), *keep}
    kept = [
        token
        for number, token in sorted(vocabulary.special.items())
        if vocabulary.roles[number] != Role.OTHER
        or token in named
        or token in templates
        or not _RESERVED.search(token)
    ]
    for token in kept:
        if token in set(byte_alphabet()):
            raise TextError(
                f"{tokenizer.name}: its special token {token!r} is also how a byte-level tokenizer"
                " writes a byte; give this token the role regular"
            )
    return kept


def _begin_adder(token: str, number: int) -> Any:
    """The step that puts a begin token before a text, and before each of a pair."""
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=[token, "$A"],
        pair=[token, "$A", f"{token}:1", "$B:1"],
        special_tokens=[(token, number)],
    )


def longest_suffix_ids(
    byte_ids: ArrayLike, trie: SuffixTrie, history: ArrayLike | None = None
) -> NDArray[np.int32]:
    """For every byte the longest entry of a vocabulary that ends there.

    What is no byte - a special token (ids from 256 on) or padding - gets -1, and no entry reaches
    across it, so neither documents nor padding in one row touch each other as long as each document
    begins with a special token. Which embedding a special token gets is left to the caller.

    Args:
        byte_ids: Ids of a byte-level tokenizer, or -1; integers [n] or [..., n], each row for
            itself.
        trie: The vocabulary's entries.
        history: The ids just before, of each row; at least the last `trie.history_length` of them
            (see `next_history`), or all if there are fewer. None at the start.

    Returns:
        Ids of the trie's entries, -1 where none ends; int32, the shape of `byte_ids`. A text in
        pieces gives the same as the whole text.
    """
    ids = np.asarray(byte_ids)
    before = _last(ids[..., :0] if history is None else np.asarray(history), trie.history_length)
    first = 1 + before.shape[-1]
    # Each row begins with a symbol that no entry holds, so rows can follow one another.
    symbols = np.full((*ids.shape[:-1], first + ids.shape[-1]), NO_BYTE, np.int16)
    for place, values in ((symbols[..., 1:first], before), (symbols[..., first:], ids)):
        is_byte = (values >= 0) & (values < NUM_BYTES)
        np.copyto(place, values, where=is_byte, casting="unsafe")
    return trie.lookup(symbols.ravel()).reshape(symbols.shape)[..., first:]


def next_history(
    byte_ids: ArrayLike, trie: SuffixTrie, history: ArrayLike | None = None
) -> NDArray[np.int32]:
    """What `longest_suffix_ids` needs to know of these ids when the next ones come.

    Returns:
        The last `trie.history_length` ids, or all if there are fewer; int32 [..., <= that].
    """
    ids = np.asarray(byte_ids, np.int32)
    if history is not None:
        ids = np.concatenate([np.asarray(history, np.int32), ids], axis=-1)
    return _last(ids, trie.history_length)


def _last(ids: NDArray[Any], count: int) -> NDArray[Any]:
    return ids[..., max(ids.shape[-1] - count, 0) :]
