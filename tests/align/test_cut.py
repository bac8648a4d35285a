"""Where rows end: compared with plain loops over the rule, on token rows of every odd shape."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from trained_tokenizers import opened

from suite.align.cut import PackConfig, Piece, cut_rows
from suite.text.encoding import Encoding, Role

BEGIN_ID = 1000
DUMMY = " dummy"
WHITE = b" \t\n\r\v\f"
# A token is a byte string, a dummy space or the role of a special token.
Token = bytes | str | Role

PIECES = [b"a", b"bc", b" ", b" d", b"\n", b" \n", b"e f", b"\t", b"\xc3", b"\xa9", b"ghijklmno"]
TOKENS = st.sampled_from([*PIECES, DUMMY, Role.BEGIN, Role.HEADER, Role.END_OF_TURN])
DOCUMENTS = st.lists(st.lists(TOKENS, max_size=12), max_size=4)
CONFIGS = st.builds(
    PackConfig,
    length=st.integers(2, 9),
    max_bytes=st.one_of(st.none(), st.integers(1, 16)),
    packing=st.sampled_from(["isolated", "concatenated", "none"]),
    keep_whole=st.booleans(),
)


def encoding(*tokens: Token) -> Encoding:
    """An encoding that consists of the given tokens; id `BEGIN_ID` is the begin token."""
    lengths = [len(token) if isinstance(token, bytes) else 0 for token in tokens]
    stops = np.cumsum(lengths, dtype=np.int32)
    ids = [BEGIN_ID if token is Role.BEGIN else len(str(token)) for token in tokens]
    roles = [int(token) if isinstance(token, Role) else 0 for token in tokens]
    return Encoding(
        text=b"".join(token for token in tokens if isinstance(token, bytes)),
        ids=np.array(ids, np.int32),
        byte_spans=np.stack([stops - np.array(lengths, np.int32), stops], axis=1),
        roles=np.array(roles, np.uint8),
    )


def rows_of(
    documents: Sequence[Sequence[Token]], config: PackConfig, begin_id: int | None = BEGIN_ID
) -> list[tuple[Piece, ...]]:
    return list(cut_rows((encoding(*document) for document in documents), begin_id, config))


def tokens_of(rows: Sequence[tuple[Piece, ...]]) -> list[list[tuple[int, int, int]]]:
    return [[(piece.document, piece.start, piece.stop) for piece in row] for row in rows]


def num_bytes(tokens: Sequence[Token]) -> int:
    return sum(len(token) for token in tokens if isinstance(token, bytes))


def ends_well(tokens: Sequence[Token], place: int) -> bool:
    """White space comes next, behind a byte that is none; a dummy space counts as what it leads."""
    if place == len(tokens):
        return True
    if isinstance(tokens[place], Role) or tokens[place - 1] == DUMMY:
        return False
    before = b"".join(token for token in tokens[:place] if isinstance(token, bytes))
    text = b"".join(token for token in tokens if isinstance(token, bytes))
    behind = text[len(before) :]
    return bool(before and behind) and behind[0] in WHITE and before[-1] not in WHITE


def expected_rows(
    documents: Sequence[Sequence[Token]], config: PackConfig, begin_id: int | None
) -> Iterator[list[Piece]]:
    """The rule, one candidate end after the other."""
    most_bytes = config.max_bytes or 8 * config.length
    row: list[Piece] = []
    used_tokens = used_bytes = 0
    for number, tokens in enumerate(documents):
        start = 0
        while start < len(tokens):
            prefix = begin_id is not None and tokens[start] is not Role.BEGIN
            fitting = [
                stop
                for stop in range(start + 1, len(tokens) + 1)
                if used_tokens + prefix + stop - start <= config.length
                and used_bytes + num_bytes(tokens[start:stop]) <= most_bytes
            ]
            good = [stop for stop in fitting if ends_well(tokens, stop)]
            is_whole = len(tokens) in fitting
            if row and (not good or (config.keep_whole and not is_whole)):
                yield row
                row, used_tokens, used_bytes = [], 0, 0
                continue
            stop = max(good or fitting or [start + 1])
            row.append(Piece(number, start, stop, prefix, stop == len(tokens)))
            used_tokens += prefix + stop - start
            used_bytes += num_bytes(tokens[start:stop])
            start = stop
            if stop < len(tokens) or config.packing == "none":
                yield row
                row, used_tokens, used_bytes = [], 0, 0
    if row:
        yield row


@settings(max_examples=600)
@given(DOCUMENTS, CONFIGS, st.sampled_from([None, BEGIN_ID]))
def test_rows_are_those_of_the_rule_in_plain_loops(documents, config, begin_id):
    expected = [tuple(row) for row in expected_rows(documents, config, begin_id)]
    assert rows_of(documents, config, begin_id) == expected


@settings(max_examples=300)
@given(DOCUMENTS, CONFIGS, st.sampled_from([None, BEGIN_ID]))
def test_only_a_row_of_a_single_token_exceeds_a_limit(documents, config, begin_id):
    for row in rows_of(documents, config, begin_id):
        size = sum(num_bytes(documents[p.document][p.start : p.stop]) for p in row)
        is_one_token = len(row) == 1 and row[0].stop - row[0].start == 1
        assert sum(piece.num_tokens for piece in row) <= config.length
        assert size <= config.byte_limit or is_one_token


@settings(max_examples=300)
@given(DOCUMENTS, CONFIGS)
def test_the_pieces_hold_every_token_once_and_in_order(documents, config):
    pieces = [piece for row in rows_of(documents, config) for piece in row]
    held = [(p.document, token) for p in pieces for token in range(p.start, p.stop)]
    assert held == [(d, t) for d, tokens in enumerate(documents) for t in range(len(tokens))]
    assert [p.is_last for p in pieces] == [p.stop == len(documents[p.document]) for p in pieces]


@settings(max_examples=300)
@given(DOCUMENTS, CONFIGS)
def test_a_piece_ends_badly_only_alone_in_a_full_row_without_a_better_place(documents, config):
    rows = rows_of(documents, config)
    for row in rows:
        for piece in row:
            tokens = documents[piece.document]
            if ends_well(tokens, piece.stop):
                continue
            one_more = num_bytes(tokens[piece.start : piece.stop + 1]) > config.byte_limit
            assert len(row) == 1
            assert one_more or piece.num_tokens == config.length
            assert not any(ends_well(tokens, place) for place in range(piece.start + 1, piece.stop))


@settings(max_examples=300)
@given(DOCUMENTS, CONFIGS, st.sampled_from([None, BEGIN_ID]))
def test_going_on_behind_any_row_gives_the_rows_that_come_next(documents, config, begin_id):
    encodings = [encoding(*document) for document in documents]
    rows = list(cut_rows(encodings, begin_id, config))
    for place, row in enumerate(rows):
        last = row[-1]
        first, token = (last.document + 1, 0) if last.is_last else (last.document, last.stop)
        rest = list(cut_rows(encodings[first:], begin_id, config, first_token=token))
        moved = [
            tuple(Piece(p.document - first, p.start, p.stop, p.has_prefix, p.is_last) for p in row)
            for row in rows[place + 1 :]
        ]
        assert rest == moved


def test_a_row_ends_before_the_last_white_space_within_its_tokens():
    document = [b"a", b" b", b" c", b"d", b"e", b" f"]
    rows = rows_of([document], PackConfig(length=6))
    assert tokens_of(rows_of([document], PackConfig(length=5))) == [[(0, 0, 2)], [(0, 2, 6)]]
    assert tokens_of(rows) == [[(0, 0, 5)], [(0, 5, 6)]]
    assert all(piece.has_prefix for row in rows for piece in row)


def test_white_space_behind_white_space_is_no_place_to_end():
    document = [b"a", b" ", b" ", b"\n", b"b"]
    assert tokens_of(rows_of([document], PackConfig(length=4), None)) == [[(0, 0, 1)], [(0, 1, 5)]]


def test_white_space_inside_a_token_is_no_place_to_end():
    document = [b"a", b"b c", b"d", b"e"]
    assert tokens_of(rows_of([document], PackConfig(length=3), None)) == [[(0, 0, 3)], [(0, 3, 4)]]


def test_a_token_of_which_only_the_first_byte_is_white_may_begin_a_row():
    rows = rows_of([[b"\xc3", b"\xa9", b"\r\nx", b"y"]], PackConfig(length=3), None)
    assert tokens_of(rows) == [[(0, 0, 2)], [(0, 2, 4)]]


def test_the_byte_limit_cuts_as_the_token_limit_does():
    document = [b"abc", b" d", b"efg"]
    config = PackConfig(length=9, max_bytes=7)
    assert tokens_of(rows_of([document], config)) == [[(0, 0, 1)], [(0, 1, 3)]]
    assert tokens_of(rows_of([document], PackConfig(length=9, max_bytes=8))) == [[(0, 0, 3)]]


def test_a_token_too_long_for_any_row_has_a_row_of_its_own():
    config = PackConfig(length=9, max_bytes=3)
    rows = rows_of([[b"a"], [b"ghijklmno"], [b"b", b"ghijklmno", b"c"]], config)
    assert tokens_of(rows) == [
        [(0, 0, 1)],
        [(1, 0, 1)],
        [(2, 0, 1)],
        [(2, 1, 2)],
        [(2, 2, 3)],
    ]


def test_a_turn_ends_before_the_white_space_behind_it_and_keeps_its_end_token():
    turn = [b"a", Role.END_OF_TURN, b"\n", Role.HEADER, b"b"]
    assert tokens_of(rows_of([turn], PackConfig(length=4))) == [[(0, 0, 2)], [(0, 2, 5)]]


def test_a_dummy_space_goes_with_the_white_space_behind_it():
    turn = [b"a", Role.END_OF_TURN, DUMMY, b"\n", b"b", b"c"]
    assert tokens_of(rows_of([turn], PackConfig(length=5))) == [[(0, 0, 2)], [(0, 2, 6)]]


def test_a_begin_token_comes_before_every_piece_that_does_not_begin_with_it():
    documents = [[Role.BEGIN, b"a", b" b", b"c"], [b"d"]]
    config = PackConfig(length=3)
    assert [[p.has_prefix for p in row] for row in rows_of(documents, config)] == [
        [False],
        [True],
        [True],
    ]
    assert [[p.num_tokens for p in row] for row in rows_of(documents, config)] == [[2], [3], [2]]


def test_without_a_begin_token_no_piece_has_one():
    rows = rows_of([[b"a", b" b"], [b"c"]], PackConfig(length=3), None)
    assert rows == [(Piece(0, 0, 2, False, True), Piece(1, 0, 1, False, True))]


def test_the_shortest_rows_hold_a_begin_token_and_one_more():
    rows = rows_of([[b"a", b"b"], [b"c"]], PackConfig(length=2))
    assert tokens_of(rows) == [[(0, 0, 1)], [(0, 1, 2)], [(1, 0, 1)]]


def test_documents_share_a_row_until_one_has_no_good_end_in_it():
    documents = [[b"a"], [b"b", b" c"], [b"d", b"e", b"f"]]
    assert tokens_of(rows_of(documents, PackConfig(length=7))) == [
        [(0, 0, 1), (1, 0, 2)],
        [(2, 0, 3)],
    ]


def test_documents_do_not_share_a_row_without_packing():
    rows = rows_of([[b"a"], [b"b"], [b"c", b" d", b" e"]], PackConfig(length=3, packing="none"))
    assert tokens_of(rows) == [[(0, 0, 1)], [(1, 0, 1)], [(2, 0, 2)], [(2, 2, 3)]]


def test_a_document_that_fits_into_a_row_is_kept_whole_if_asked():
    documents = [[b"a", b"b"], [b"c", b" d", b" e"], [b"f", b" g", b" h", b" i", b" j"]]
    cut = rows_of(documents, PackConfig(length=5), None)
    whole = rows_of(documents, PackConfig(length=5, keep_whole=True), None)
    assert tokens_of(cut) == [[(0, 0, 2), (1, 0, 3)], [(2, 0, 5)]]
    assert tokens_of(whole) == [[(0, 0, 2), (1, 0, 3)], [(2, 0, 5)]]
    cut = rows_of(documents, PackConfig(length=4), None)
    whole = rows_of(documents, PackConfig(length=4, keep_whole=True), None)
    assert tokens_of(cut) == [[(0, 0, 2), (1, 0, 2)], [(1, 2, 3), (2, 0, 3)], [(2, 3, 5)]]
    assert tokens_of(whole) == [[(0, 0, 2)], [(1, 0, 3)], [(2, 0, 4)], [(2, 4, 5)]]


@pytest.mark.parametrize("packing", ["isolated", "concatenated", "none"])
def test_empty_documents_are_in_no_row_but_keep_their_number(packing):
    rows = rows_of([[], [b"a"], [], [b"b"], []], PackConfig(length=2, packing=packing))
    assert tokens_of(rows) == [[(1, 0, 1)], [(3, 0, 1)]]
    assert rows_of([[], []], PackConfig(packing=packing)) == []
    assert rows_of([], PackConfig(packing=packing)) == []


def test_documents_are_read_only_as_far_as_a_row_needs():
    documents = iter([encoding(b"a", b" b", b" c")] * 100)
    rows = cut_rows(documents, BEGIN_ID, PackConfig(length=9))
    assert tokens_of([next(rows)]) == [[(0, 0, 3), (1, 0, 3)]]
    assert len(list(documents)) == 97


@pytest.mark.parametrize("family", ["byte-level", "unigram", "bytes:marked"])
def test_the_rows_of_a_real_text_begin_with_white_space(family):
    tokenizer = opened(family)
    found = tokenizer.encode("One two three,\n\tfour five six -- seven eight.\n" * 5)
    rows = list(cut_rows([found], tokenizer.begin_id, PackConfig(length=24, max_bytes=40)))
    texts = [found.text[slice(*found.byte_spans[[p.start, p.stop - 1], [0, 1]])] for (p,) in rows]
    assert b"".join(texts) == found.text
    assert len(texts) > 5
    for before, behind in pairwise(texts):
        assert behind[0] in WHITE
        assert before[-1] not in WHITE


def test_the_work_for_a_row_does_not_grow_with_its_document():
    size = 2_000_000
    stops = np.arange(4, size + 1, 4, dtype=np.int32)
    document = Encoding(
        text=b"abc " * (size // 4),
        ids=np.zeros(len(stops), np.int32),
        byte_spans=np.stack([stops - 4, stops], axis=1),
        roles=np.zeros(len(stops), np.uint8),
    )
    rows = cut_rows([document], BEGIN_ID, PackConfig(length=512))
    next(rows)
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        num_rows = 1 + sum(1 for _ in rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert num_rows == -(-len(stops) // 511)
    # Whatever looks at the whole document allocates at least one byte for each of its tokens.
    assert peak - held < len(stops) / 10


@pytest.mark.parametrize("setting", [{"length": 1}, {"max_bytes": 0}, {"packing": "dense"}])
def test_limits_that_no_row_can_keep_are_refused(setting):
    with pytest.raises(ValidationError):
        PackConfig(**setting)


def test_the_byte_limit_is_eight_times_the_length_by_default():
    assert PackConfig(length=100).byte_limit == 800
    assert PackConfig(length=100, max_bytes=7).byte_limit == 7
