from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trained_tokenizers import FAMILIES, opened

from suite.align.completions import in_completions
from suite.text.chat import encode_chat
from suite.text.corpus import Message
from suite.text.encoding import Encoding, Role, byte_spans

ENDS = (Role.END, Role.END_OF_TURN)
REGULAR = Role.REGULAR


def encoding(text: bytes, tokens: list[tuple[int, Role]]) -> Encoding:
    """Tokens by the bytes they cover and their role."""
    assert sum(length for length, _ in tokens) == len(text)
    lengths = np.array([length for length, _ in tokens], np.int32)
    roles = np.array([role for _, role in tokens], np.uint8)
    return Encoding(text, np.arange(len(tokens), dtype=np.int32), byte_spans(lengths), roles)


def spans(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.int32).reshape(-1, 2)


def by_loops(encoding: Encoding, completions: np.ndarray) -> list[bool]:
    """Each token against each completion."""
    tokens = list(zip(encoding.byte_spans.tolist(), encoding.roles.tolist(), strict=True))
    ends = [start for (start, _), role in tokens if role in ENDS]
    moved = []
    for start, stop in completions.tolist():
        behind = next((end for end in ends if end >= stop), None)
        is_white = behind is not None and not encoding.text[stop:behind].strip()
        moved.append((start, behind if is_white else stop))
    found = []
    for (start, stop), role in tokens:
        if role in ENDS:
            found.append(any(start == last for _, last in moved))
        elif role == REGULAR:
            found.append(any(a <= start < b and stop <= b for a, b in moved))
        else:
            found.append(False)
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[Encoding, np.ndarray]:
    """A text of words and white space, any tokens, rising completions."""
    tokens = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.just(REGULAR))
            | st.tuples(st.just(0), st.sampled_from(list(Role))),
            max_size=12,
        )
    )
    size = sum(length for length, _ in tokens)
    text = bytes(draw(st.lists(st.sampled_from(b"ab \n"), min_size=size, max_size=size)))
    places = sorted(draw(st.lists(st.integers(0, size), max_size=6)))
    chosen = [pair for place, pair in enumerate(pairwise(places)) if place % 2 == 0]
    return encoding(text, tokens), spans(*chosen)


@given(case=cases())
@example(case=(encoding(b"", []), spans((0, 0))))
@example(case=(encoding(b"a b", [(1, REGULAR), (0, Role.END), (2, REGULAR)]), spans((0, 1))))
def test_tokens_count_as_a_plain_loop_says(case: tuple[Encoding, np.ndarray]) -> None:
    found = in_completions(*case)
    assert found.dtype == np.bool_
    assert found.tolist() == by_loops(*case)


def test_without_completions_all_counts_and_with_none_nothing() -> None:
    text = encoding(b"ab", [(0, Role.BEGIN), (2, REGULAR), (0, Role.END)])
    assert in_completions(text, None).tolist() == [True] * 3
    assert in_completions(text, spans()).tolist() == [False] * 3
    empty = encoding(b"", [])
    assert in_completions(empty, None).tolist() == []
    assert in_completions(empty, spans((0, 0))).tolist() == []


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ((0, 6), [1, 1, 1]),
        ((2, 6), [0, 1, 1]),
        ((1, 6), [0, 1, 1]),
        ((0, 5), [1, 1, 0]),
        ((3, 3), [0, 0, 0]),
        ((0, 0), [0, 0, 0]),
        ((6, 6), [0, 0, 0]),
    ],
)
def test_a_token_over_the_border_of_a_completion_does_not_count(
    completion: tuple[int, int], expected: list[int]
) -> None:
    text = encoding(b"abcdef", [(2, REGULAR)] * 3)
    assert in_completions(text, spans(completion)).tolist() == [bool(value) for value in expected]


@pytest.mark.parametrize("role", [role for role in Role if role != REGULAR])
def test_of_the_special_tokens_only_one_that_ends_a_completion_counts(role: Role) -> None:
    text = encoding(b"ab", [(0, role), (1, REGULAR), (0, role), (1, REGULAR), (0, role)])
    found = in_completions(text, spans((1, 2))).tolist()
    assert found == [False, False, False, True, role in ENDS]


def test_white_space_before_the_end_token_belongs_to_the_completion() -> None:
    tokens = [(1, REGULAR), (1, REGULAR), (1, REGULAR), (0, Role.END_OF_TURN), (1, REGULAR)]
    assert in_completions(encoding(b"ab\n\n", tokens), spans((1, 2))).tolist() == [
        *(False, True, True, True, False)
    ]
    assert in_completions(encoding(b"abcd", tokens), spans((1, 2))).tolist() == [
        *(False, True, False, False, False)
    ]
    without_end = [(1, REGULAR)] * 4
    assert in_completions(encoding(b"ab\n\n", without_end), spans((1, 2))).tolist() == [
        *(False, True, False, False)
    ]


def test_a_dummy_space_counts_with_the_completion_that_it_begins() -> None:
    text = encoding(b"abc", [(0, REGULAR), (1, REGULAR), (0, REGULAR), (2, REGULAR), (0, REGULAR)])
    assert in_completions(text, spans((1, 3))).tolist() == [False, False, True, True, False]
    assert in_completions(text, spans((0, 1))).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("family", [*FAMILIES, "bytes:byte-level"])
def test_an_assistants_words_and_their_ends_count(family: str) -> None:
    tokenizer = opened(family)
    messages = [
        Message("system", "No."),
        Message("user", "1 + 1?"),
        Message("assistant", "It is 2.  \n"),
        Message("user", ""),
        Message("assistant", ""),
        Message("user", "Ja?"),
        Message("assistant", "é 日本"),
    ]
    chat = encode_chat(tokenizer, messages)
    counted = in_completions(chat.encoding, chat.completion_spans)
    written = []
    for number, (start, stop) in zip(
        chat.encoding.ids[counted].tolist(),
        chat.encoding.byte_spans[counted].tolist(),
        strict=True,
    ):
        special = tokenizer.vocabulary.special.get(number)
        written.append(special.encode() if special else chat.encoding.text[start:stop])
    whole = b"".join(written).decode()
    assert whole == "It is 2.  \n<|stop|><|stop|>é 日本<|stop|>"
