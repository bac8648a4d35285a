from __future__ import annotations

import numpy as np
import pytest
from trained_tokenizers import opened

from suite.align.chunks import align_chunks
from suite.align.coverage import (
    Coverage,
    GroupLengths,
    measure_coverage,
    measure_groups,
    white_space_groups,
)

CHINESE = "中文没有空格，所以一个组会非常长。这是第二句话，它也没有任何空格，直到段落结束为止。"


def test_counts_of_a_chat_with_special_tokens() -> None:
    text = "<|turn|>user\nHi you<|stop|>"
    teacher = opened("byte-level").encode(text, parse_special=True)
    student = opened("bytes:byte-level").encode(text, parse_special=True)
    coverage = measure_coverage(align_chunks(teacher, student), len(teacher.text))
    assert coverage.num_bytes == coverage.num_bytes_in_chunks == len("user\nHi you")
    assert coverage.num_special_chunks == 2
    assert coverage.num_teacher_tokens == coverage.num_chunks == len(teacher) - 2
    assert coverage.num_student_tokens == len("user\nHi you")
    assert coverage.byte_share == 1.0
    assert coverage.teacher_tokens_per_chunk == 1.0
    one_to_one = np.diff(teacher.byte_spans)[:, 0] == 1
    assert coverage.num_one_to_one == one_to_one.sum()


def test_shares_of_nothing_are_undefined_not_zero() -> None:
    nothing = Coverage()
    assert nothing.byte_share is nothing.one_to_one_share is None
    assert nothing.teacher_tokens_per_chunk is nothing.student_tokens_per_chunk is None
    assert GroupLengths().mean_bytes is GroupLengths().per_1000_bytes is None
    assert GroupLengths().warning is None


def test_coverage_of_two_texts_is_the_sum_of_their_counts() -> None:
    one = Coverage(num_bytes=10, num_chunks=4, num_one_to_one=1, num_broken=1)
    two = Coverage(num_bytes=5, num_chunks=4, num_one_to_one=3)
    assert one + two == Coverage(num_bytes=15, num_chunks=8, num_one_to_one=4, num_broken=1)
    assert (one + two).one_to_one_share == 0.5


def test_lengths_of_groups() -> None:
    lengths = measure_groups(np.array([0, 0, 1, -1, 2]), np.array([3, 4, 10, 50, 0]), 70)
    assert lengths == GroupLengths(num_groups=2, num_bytes=17, longest=10, num_text_bytes=70)
    assert lengths.mean_bytes == 8.5
    assert lengths.per_1000_bytes == pytest.approx(2000 / 70)
    both = lengths + GroupLengths(num_groups=1, num_bytes=30, longest=30, num_text_bytes=30)
    assert both == GroupLengths(num_groups=3, num_bytes=47, longest=30, num_text_bytes=100)


def test_groups_closed_at_white_space_hold_one_word_each() -> None:
    text = "The quick\n\nbrown  fox."
    teacher, student = opened("byte-level").encode(text), opened("bytes:byte-level").encode(text)
    alignment = align_chunks(teacher, student)
    groups = white_space_groups(alignment, teacher)
    words = [
        b"".join(teacher.text[slice(*span)] for span in alignment.byte_spans[groups == group])
        for group in range(groups.max() + 1)
    ]
    assert b"".join(words) == text.encode()
    # A group ends before each white byte at which both sides have a boundary.
    assert words[0] == b"The"
    assert all(word[:1].isspace() for word in words[1:])
    assert not any(word.strip().count(b" ") for word in words)


def test_special_tokens_are_groups_of_their_own() -> None:
    text = "a<|stop|>b"
    teacher = opened("byte-level").encode(text, parse_special=True)
    student = opened("bytes:byte-level").encode(text, parse_special=True)
    assert white_space_groups(align_chunks(teacher, student), teacher).tolist() == [0, 1, 2]


def test_a_script_without_spaces_is_covered_and_warned_of() -> None:
    teacher, student = opened("byte-level"), opened("bytes:byte-level")
    pair = teacher.encode(CHINESE), student.encode(CHINESE)
    alignment = align_chunks(*pair)
    assert measure_coverage(alignment, len(pair[0].text)).byte_share == 1.0
    groups = white_space_groups(alignment, pair[0])
    lengths = measure_groups(groups, np.diff(alignment.byte_spans)[:, 0], len(pair[0].text))
    assert lengths.warning == (
        f"a group has {len(CHINESE.encode())} bytes on average (above 64), as in scripts without"
        " spaces: the loss would compare whole sentences; set merge: false"
    )


def test_words_of_usual_length_bring_no_warning() -> None:
    assert GroupLengths(num_groups=1, num_bytes=64, longest=64, num_text_bytes=64).warning is None
