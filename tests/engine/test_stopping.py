from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.engine.stopping import GrowingText, cut_text, first_stop


def characters(outcomes: Sequence[int]) -> str:
    """Every outcome is a character."""
    return "".join(map(chr, outcomes))


def some_bytes(outcomes: Sequence[int]) -> str:
    """Every outcome is a byte."""
    return bytes(outcomes).decode(errors="replace")


def write(growing: GrowingText, outcomes: Sequence[int]) -> int:
    """Add outcomes until the text is over; how many were added."""
    for count, outcome in enumerate(outcomes, start=1):
        if growing.add(outcome):
            return count
    return len(outcomes)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ("two",), "one "),
        ("one two two", ("two",), "one "),
        ("one two", ("two",), "one "),
        ("two", ("two",), ""),
        ("one", ("two",), "one"),
        ("one", (), "one"),
        ("a\n\nb\nc", ("\n", "\n\n"), "a"),
        ("b then a", ("a", "b"), ""),
        ("tw two", ("two",), "tw "),
    ],
)
def test_a_text_is_cut_before_its_first_stop_string(
    text: str, stop: tuple[str, ...], expected: str
) -> None:
    assert cut_text(text, stop, None) == expected


@pytest.mark.parametrize("stop", [("bc", "abcd"), ("abcd", "bc")])
def test_of_overlapping_stop_strings_the_one_that_is_complete_first_counts(
    stop: tuple[str, ...],
) -> None:
    assert first_stop("abcd", stop) == 1


@pytest.mark.parametrize("stop", [("Q:", "\nQ:"), ("\nQ:", "Q:")])
def test_of_stop_strings_complete_at_one_character_the_longest_counts(
    stop: tuple[str, ...],
) -> None:
    assert first_stop("A\nQ:", stop) == 1


@given(
    text=st.text("abc", max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
    ends=st.sets(st.integers(1, 11)),
)
def test_the_cut_does_not_depend_on_how_the_text_is_split_into_tokens(
    text: str, stop: list[str], ends: set[int]
) -> None:
    borders = [0, *sorted(end for end in ends if end < len(text)), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    whole = GrowingText(lambda outcomes: "".join(pieces[o] for o in outcomes), stop)
    single = GrowingText(characters, stop)

    write(whole, range(len(pieces)))
    write(single, list(map(ord, text)))

    assert whole.cut() == single.cut()


def test_a_text_is_over_with_the_token_that_completes_a_stop_string() -> None:
    pieces = ["one", " t", "w", "o thr", "ee"]
    growing = GrowingText(lambda outcomes: "".join(pieces[o] for o in outcomes), ("two",))

    assert write(growing, range(5)) == 4
    assert growing.cut() == ("one ", True)
    assert growing.outcomes == [0, 1, 2, 3]


def test_half_a_character_is_no_stop_string() -> None:
    growing = GrowingText(some_bytes, ("\ufffd",))

    written = "é€𝄞.".encode()

    assert write(growing, written) == len(written)
    assert growing.cut() == ("é€𝄞.", False)


def test_bytes_that_are_no_character_stay_replaced_and_hide_nothing() -> None:
    growing = GrowingText(some_bytes, ("!",))

    assert write(growing, b"a\xff\xfeb!c") == 5
    assert growing.cut() == ("a\ufffd\ufffdb", True)


def test_a_stop_string_of_several_bytes_a_character_is_found() -> None:
    growing = GrowingText(some_bytes, ("。",))

    assert write(growing, "好。好".encode()) == 6
    assert growing.cut() == ("好", True)


@pytest.mark.parametrize(
    ("max_bytes", "text", "num_written"),
    # Two bytes of a character look like one until the third is there.
    [
        (1, "", 1),
        (2, "é", 2),
        (3, "é", 3),
        (4, "é", 5),
        (5, "é€", 5),
        (6, "é€a", 6),
        (9, "é€ab", 7),
    ],
)
def test_bytes_are_cut_on_a_character_boundary(max_bytes: int, text: str, num_written: int) -> None:
    growing = GrowingText(some_bytes, (), max_bytes)

    assert write(growing, "é€ab".encode()) == num_written
    assert growing.cut() == (text, False)


def test_bytes_that_never_become_a_character_count() -> None:
    growing = GrowingText(some_bytes, (), 5)

    assert write(growing, b"\xff" * 9) == 5


def test_a_stop_string_beyond_the_bytes_is_not_found() -> None:
    assert cut_text("abcd##", ("##",), 5) == "abcd#"
    assert cut_text("abcd##", ("##",), 6) == "abcd"


@given(
    text=st.text("ab€\n", min_size=1, max_size=150),
    stop=st.lists(st.text("ab€\n", min_size=2, max_size=4), max_size=2),
    max_bytes=st.none() | st.integers(1, 200),
)
def test_a_growing_text_ends_where_the_whole_text_is_cut(
    text: str, stop: list[str], max_bytes: int | None
) -> None:
    growing = GrowingText(some_bytes, stop, max_bytes)

    count = write(growing, text.encode())

    assert growing.cut()[0] == cut_text(text, stop, max_bytes)
    # No byte more than needed: the text before the last one was not over.
    before = GrowingText(some_bytes, stop, max_bytes)
    assert not any([before.add(byte) for byte in text.encode()[: count - 1]])


def test_decoding_that_depends_on_what_stands_before_is_followed() -> None:
    """As decoders that write no space before the first word of what they are given."""

    def decode(outcomes: Sequence[int]) -> str:
        return " ".join(f"w{outcome}" for outcome in outcomes)

    growing = GrowingText(decode, ("w77 w78",))

    assert write(growing, range(200)) == 79
    assert growing.cut() == (decode(range(77)) + " ", True)


def test_each_step_decodes_no_more_than_a_few_outcomes() -> None:
    sizes = []

    def decode(outcomes: Sequence[int]) -> str:
        sizes.append(len(outcomes))
        return characters(outcomes)

    growing = GrowingText(decode, ("#",))
    write(growing, [ord("a")] * 500)

    assert max(sizes) <= 32
    assert len(sizes) < 540


def test_without_stop_strings_nothing_is_decoded_before_the_end() -> None:
    sizes = []

    def decode(outcomes: Sequence[int]) -> str:
        sizes.append(len(outcomes))
        return characters(outcomes)

    growing = GrowingText(decode)
    write(growing, [ord("a")] * 500)

    assert sizes == []
    assert growing.cut() == ("a" * 500, False)
