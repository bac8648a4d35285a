from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.text import suffix_trie
from suite.text.encoding import Role
from suite.text.suffix_trie import NO_BYTE, SuffixTrie
from suite.text.vocabulary import Vocabulary


def trie_of(*entries: bytes) -> SuffixTrie:
    """A trie whose ids are the entries' places."""
    return SuffixTrie.build(entries, range(len(entries)))


def longest_by_loops(symbols: Iterable[int], ids: dict[bytes, int]) -> list[int]:
    """For each symbol, try every start from the first on until an entry fits."""
    symbols, found = list(symbols), []
    for stop in range(1, len(symbols) + 1):
        pieces = (symbols[start:stop] for start in range(stop))
        fits = (ids.get(bytes(piece), -1) for piece in pieces if NO_BYTE not in piece)
        found.append(next((number for number in fits if number >= 0), -1))
    return found


def vocabulary_of(
    *entries: bytes,
    special: Iterable[int] = (),
    dead: Iterable[int] = (),
    fallback: Iterable[int] = (),
) -> Vocabulary:
    roles, is_dead, is_fallback = np.zeros((3, len(entries)), np.uint8)
    roles[list(special)] = Role.OTHER
    is_dead[list(dead)] = True
    is_fallback[list(fallback)] = True
    return Vocabulary(
        token_bytes=entries,
        special={number: f"<{number}>" for number in special},
        roles=roles,
        is_dead=is_dead.astype(np.bool_),
        is_added=np.zeros(len(entries), np.bool_),
        is_fallback=is_fallback.astype(np.bool_),
    )


# Few letters, so that entries overlap; from all four words of a node, and both their ends.
LETTERS = [0, 63, 64, 97, 98, 192, 255]
ENTRIES = st.lists(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=6).map(bytes))
SYMBOLS = st.lists(st.sampled_from([*LETTERS, NO_BYTE]), max_size=60)


@given(ENTRIES, SYMBOLS)
def test_every_symbol_gets_what_plain_loops_find(entries: list[bytes], symbols: list[int]) -> None:
    ids = {entry: 7 * place for place, entry in enumerate(entries)}
    trie = SuffixTrie.build(tuple(ids), tuple(ids.values()))
    found = trie.lookup(np.array(symbols, np.int64))
    assert found.dtype == np.int32
    assert found.tolist() == longest_by_loops(symbols, ids)


@given(st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(0, 2**31 - 1)), st.binary())
def test_every_byte_can_stand_everywhere(ids: dict[bytes, int], text: bytes) -> None:
    trie = SuffixTrie.build(tuple(ids), tuple(ids.values()))
    text += b"".join(ids)
    assert trie.lookup(np.frombuffer(text, np.uint8)).tolist() == longest_by_loops(text, ids)


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_entries_may_be_longer_than_a_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    entries = (b"a", b"ba", b"abcba", b"aaaaaaaa")
    text = b"abcbaaaaaaaaabcba"
    monkeypatch.setattr(suffix_trie, "_BLOCK", block)
    found = trie_of(*entries).lookup(np.frombuffer(text, np.uint8))
    assert found.tolist() == longest_by_loops(text, {e: i for i, e in enumerate(entries)})


def test_the_longest_entry_wins_where_several_end() -> None:
    found = trie_of(b"e", b"he", b"the", b" the", b"t").lookup(np.frombuffer(b"the the", np.uint8))
    assert found.tolist() == [4, -1, 2, -1, 4, -1, 3]


def test_a_walk_that_leaves_the_trie_falls_back_on_the_last_entry_it_passed() -> None:
    found = trie_of(b"d", b"abcd").lookup(np.frombuffer(b"xbcd abcd", np.uint8))
    assert found.tolist() == [-1, -1, -1, 0, -1, -1, -1, -1, 1]


def test_no_entry_reaches_across_what_is_no_byte() -> None:
    trie = trie_of(b"a", b"aa", b"aaa", b"aaaa", b"a" * 9)
    symbols = [97, 97, NO_BYTE, 97, 97, 97, NO_BYTE, NO_BYTE, 97]
    found = trie.lookup(np.array(symbols, np.int16))
    assert found.tolist() == [0, 1, -1, 0, 1, 2, -1, -1, 0]


def test_byte_0_below_the_next_node_is_no_child_of_what_is_no_byte() -> None:
    """The bit of a symbol past the last byte would be the first one of the node that follows."""
    trie = trie_of(b"aa", b"\0ba")
    assert trie.lookup(np.array([NO_BYTE, 97, 97])).tolist() == [-1, -1, 0]


def test_without_entries_nothing_is_found() -> None:
    trie = trie_of()
    assert (trie.max_length, trie.history_length) == (0, 0)
    assert trie.lookup(np.frombuffer(b"text", np.uint8)).tolist() == [-1] * 4


def test_single_bytes_need_no_history() -> None:
    trie = trie_of(b"b", b"a")
    assert (trie.max_length, trie.history_length) == (1, 0)
    assert trie.lookup(np.frombuffer(b"abc", np.uint8)).tolist() == [1, 0, -1]


def test_an_empty_text_has_no_symbols() -> None:
    found = trie_of(b"a", b"abc").lookup(np.empty(0, np.uint8))
    assert (found.shape, found.dtype) == ((0,), np.int32)


def test_the_history_is_one_byte_less_than_the_longest_entry() -> None:
    trie = trie_of(b"a", b"abcdef", b"ab")
    assert (trie.max_length, trie.history_length) == (6, 5)


def test_of_a_vocabulary_special_and_dead_entries_take_no_part() -> None:
    vocabulary = vocabulary_of(b"a", b"", b"", b"ba", special=[1], dead=[2])
    found = SuffixTrie.from_vocabulary(vocabulary).lookup(np.frombuffer(b"bab", np.uint8))
    assert found.tolist() == [-1, 3, -1]


def test_the_regular_one_of_two_entries_with_the_same_bytes_takes_part() -> None:
    vocabulary = vocabulary_of(b"a", b"b", b"a", fallback=[0, 1])
    found = SuffixTrie.from_vocabulary(vocabulary).lookup(np.frombuffer(b"ab", np.uint8))
    assert found.tolist() == [2, 1]


def test_memory_grows_with_the_block_not_with_the_text() -> None:
    trie = trie_of(b"a", b"ab", b"abab", b"b" * 40)
    text = np.frombuffer(b"ab" * 1_000_000, np.uint8)
    tracemalloc.start()
    trie.lookup(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The result takes 4 bytes a byte of text.
    assert peak < 4 * len(text) + 16_000_000
