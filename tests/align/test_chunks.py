from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_tokenizers import FAMILIES, opened

from suite.align.chunks import ChunkAlignment, align_all, align_chunks, align_each, align_sides
from suite.align.special import match_roles, text_side
from suite.errors import AlignmentError, TextError
from suite.pipelines.bench.two_pointer import two_pointer_chunks
from suite.text.encoding import Encoding, Role, byte_spans

CASES = json.loads((Path(__file__).parents[1] / "cases" / "alignments.json").read_text("utf-8"))
SIDES = (*FAMILIES, "bytes:byte-level")
PAIRS = [(teacher, student) for teacher in SIDES for student in SIDES]

# What breaks tokenizers: marks, joiners, directions, line ends, runs and edges of white space.
HARD = (
    "e\u0301 n\u0303 \u0301",
    "👩\u200d👩\u200d👧\u200d👦 👍🏽 🇩🇪",
    "שלום \u202eعالم\u202c",
    "a\r\nb\r\n\r\n",
    "x    y\t\t\n\n   z",
    "  leading and trailing  ",
    "\x00\x04\x7f\uffff\U0010ffff",
    "日本語の文章。中文没有空格",
    "3.14159 + 1000",
)
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(HARD),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=12),
    ),
    max_size=5,
).map("".join)


def encoding(tokens: list[Any]) -> Encoding:
    """An encoding from a case: text, hexadecimal bytes, a role, or a text behind a dummy space."""
    pieces, ids, roles = [], [], []
    for token in tokens:
        role = Role[token["role"].upper()] if "role" in token else Role.REGULAR
        data = token.encode() if isinstance(token, str) else b""
        if isinstance(token, dict):
            data = bytes.fromhex(token.get("hex", "")) or token.get("dummy", "").encode()
        pieces.append(data)
        roles.append(role)
        ids.append(int(role))
    spans = byte_spans(np.array([len(piece) for piece in pieces], np.int32))
    return Encoding(b"".join(pieces), np.array(ids, np.int32), spans, np.array(roles, np.uint8))


def rows(alignment: ChunkAlignment) -> list[list[int]]:
    return np.hstack([alignment.teacher_spans, alignment.student_spans]).tolist()


def plain_chunks(teacher: Encoding, student: Encoding) -> list[list[int]]:
    """The oracle: sets of boundaries and loops over them; dummy spaces go with what follows."""
    boundaries = [
        {0, len(side.text), *(int(start) for start in side.byte_spans[:, 0])}
        for side in (teacher, student)
    ]
    shared = sorted(boundaries[0] & boundaries[1])
    chunks = []
    for start, stop in itertools.pairwise(shared):
        row = []
        for side in (teacher, student):
            inside = [
                index
                for index, (first, behind) in enumerate(side.byte_spans.tolist())
                if start <= first and behind <= stop and (first < stop)
            ]
            row += [inside[0], inside[-1] + 1]
        chunks.append(row)
    return chunks


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_chunks_of_a_hand_made_case(case: dict[str, Any]) -> None:
    teacher, student = encoding(case["teacher"]), encoding(case["student"])
    alignment = align_chunks(teacher, student)
    assert rows(alignment) == case["chunks"]
    found = [alignment.num_unmatched_teacher, alignment.num_unmatched_student]
    assert found == case.get("unmatched", [0, 0])
    assert alignment.num_broken == case.get("broken", 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_sides_of_a_case_can_be_exchanged(case: dict[str, Any]) -> None:
    teacher, student = encoding(case["teacher"]), encoding(case["student"])
    forth, back = align_chunks(teacher, student), align_chunks(student, teacher)
    if case["name"].startswith("roles in another order"):
        # Two pairings are equally good; each side's order decides which is found.
        assert len(forth) == len(back)
        return
    assert np.array_equal(forth.teacher_spans, back.student_spans)
    assert np.array_equal(forth.student_spans, back.teacher_spans)
    assert forth.num_unmatched_teacher == back.num_unmatched_student


@pytest.mark.parametrize(("teacher_name", "student_name"), PAIRS)
@settings(max_examples=25)
@given(text=TEXTS)
def test_chunks_tile_any_text_and_are_the_shortest(
    teacher_name: str, student_name: str, text: str
) -> None:
    teacher, student = opened(teacher_name).encode(text), opened(student_name).encode(text)
    alignment = align_chunks(teacher, student)
    data = text.encode()
    assert b"".join(data[start:stop] for start, stop in alignment.byte_spans) == data
    for spans, side in (
        (alignment.teacher_spans, teacher),
        (alignment.student_spans, student),
    ):
        assert spans.flatten().tolist() == sorted(spans.flatten().tolist())
        assert spans[:, 0].tolist() == [0, *spans[:-1, 1].tolist()][: len(spans)]
        assert (spans[-1, 1] if len(spans) else 0) == len(side)
        # Teacher bytes == student bytes == the text's, chunk by chunk.
        for (first, behind), (start, stop) in zip(spans, alignment.byte_spans, strict=True):
            assert side.byte_spans[first, 0] == start
            assert side.byte_spans[behind - 1, 1] == stop
    assert rows(alignment) == plain_chunks(teacher, student)


@settings(max_examples=50)
@given(text=TEXTS)
def test_chunks_equal_those_of_two_pointers(text: str) -> None:
    teacher, student = opened("byte-level").encode(text), opened("marked").encode(text)
    stops = [side.byte_spans[:, 1].tolist() for side in (teacher, student)]
    expected = [list(chunk) for chunk in two_pointer_chunks(*stops)]
    assert rows(align_chunks(teacher, student)) == expected


@settings(max_examples=50)
@given(text=TEXTS)
def test_the_general_way_finds_the_same_chunks_as_the_fast_one(text: str) -> None:
    teacher, student = opened("byte-level").encode(text), opened("bytes:byte-level").encode(text)
    fast = align_chunks(teacher, student)
    (general,) = align_sides([text_side(teacher), text_side(student)], [teacher])
    assert rows(fast) == rows(general)
    assert np.array_equal(fast.byte_spans, general.byte_spans)


@settings(max_examples=30)
@given(text=TEXTS)
def test_several_teachers_share_the_boundaries_of_all(text: str) -> None:
    teachers = [opened(name).encode(text) for name in ("byte-level", "marked", "unigram")]
    student = opened("prefixed").encode(text)
    alignments = align_all(teachers, student)
    boundaries = [set(side.byte_spans[:, 0].tolist()) for side in (*teachers, student)]
    shared = sorted(set.intersection(*boundaries))
    for alignment, teacher in zip(alignments, teachers, strict=True):
        assert alignment.byte_spans[:, 0].tolist() == shared
        assert np.array_equal(alignment.student_spans, alignments[0].student_spans)
        starts = teacher.byte_spans[alignment.teacher_spans[:, 0], 0]
        assert starts.tolist() == shared


@settings(max_examples=30)
@given(texts=st.lists(TEXTS, max_size=6))
@pytest.mark.parametrize("student_name", ["bytes:byte-level", "marked", "prefixed"])
def test_many_texts_at_once_give_what_each_gives_alone(student_name: str, texts: list[str]) -> None:
    teachers = [opened("byte-level").encode(text) for text in texts]
    students = [opened(student_name).encode(text) for text in texts]
    alone = [align_chunks(*pair) for pair in zip(teachers, students, strict=True)]
    for one, other in zip(alone, align_each(teachers, students), strict=True):
        assert rows(one) == rows(other)
        assert np.array_equal(one.byte_spans, other.byte_spans)
        assert one.teacher_spans.dtype == other.teacher_spans.dtype == np.int32


def test_special_tokens_of_neighbouring_texts_do_not_meet() -> None:
    teachers = [encoding(["a", {"role": "header"}]), encoding(["b"])]
    students = [encoding(["a"]), encoding([{"role": "header"}, "b"])]
    assert [rows(one) for one in align_each(teachers, students)] == [[[0, 1, 0, 1]], [[0, 1, 1, 2]]]


def test_special_tokens_between_random_tokens_are_matched_as_a_plain_walk_matches_them() -> None:
    """Random cuts of one text, with one role at random places of both sides."""
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices("ab cd", k=draw.randint(0, 12)))
        places = {place for place in range(len(text) + 1) if draw.random() < 0.2}
        sides = []
        for _ in range(2):
            cuts = places | {place for place in range(len(text)) if draw.random() < 0.5}
            borders = sorted({0, len(text), *cuts})
            tokens: list[Any] = []
            for start, stop in zip(borders, [*borders[1:], None], strict=False):
                tokens += [{"role": "other"}] * (start in places)
                tokens += [text[start:stop]] * (stop is not None and stop > start)
            sides.append(encoding(tokens))
        alignment = align_chunks(*sides)
        assert alignment.num_broken == alignment.num_unmatched_teacher == 0
        is_special = np.diff(alignment.byte_spans)[:, 0] == 0
        assert alignment.byte_spans[is_special, 0].tolist() == sorted(places)
        covered = b"".join(sides[0].text[a:b] for a, b in alignment.byte_spans)
        assert covered == text.encode()
        for spans, side in zip(
            (alignment.teacher_spans, alignment.student_spans), sides, strict=True
        ):
            roles = side.roles[spans[is_special, 0]]
            assert (roles == Role.OTHER).all()
            assert np.diff(spans)[is_special].tolist() == [[1]] * len(places)


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("", "", []),
        ("BHE", "BHE", [(0, 0), (1, 1), (2, 2)]),
        ("BH", "H", [(1, 0)]),
        ("TE", "E", [(1, 0)]),
        ("T", "E", [(0, 0)]),
        ("ET", "T", [(1, 0)]),
        ("HO", "OH", [(1, 0)]),
    ],
)
def test_roles_are_paired_in_order_equal_ones_first(
    a: str, b: str, pairs: list[tuple[int, int]]
) -> None:
    letters = {
        "B": Role.BEGIN,
        "H": Role.HEADER,
        "E": Role.END,
        "T": Role.END_OF_TURN,
        "O": Role.OTHER,
    }
    assert match_roles([letters[x] for x in a], [letters[x] for x in b]) == pairs


@pytest.mark.parametrize(
    ("teacher", "student", "sentence"),
    [
        (
            ["Hello you"],
            ["Hello You"],
            "teacher and student encode different texts: they part at byte 6, where the teacher has"
            " 'you' and the student 'You'; normalise and render a text once for both",
        ),
        (
            ["ab"],
            ["ab", "c"],
            "teacher and student encode different texts: they part at byte 2, where the teacher has"
            " '' and the student 'c'; normalise and render a text once for both",
        ),
        (
            [],
            ["é"],
            "teacher and student encode different texts: they part at byte 0, where the teacher has"
            " '' and the student 'é'; normalise and render a text once for both",
        ),
    ],
)
def test_sides_of_different_texts_are_refused(
    teacher: list[Any], student: list[Any], sentence: str
) -> None:
    for align in (
        align_chunks,
        lambda one, other: align_each([one], [other]),
    ):
        with pytest.raises(AlignmentError) as caught:
            align(encoding(teacher), encoding(student))
        assert str(caught.value) == sentence


def test_what_a_side_cannot_read_never_gets_as_far_as_chunks() -> None:
    with pytest.raises(TextError, match="marked cannot read byte 1 of the text"):
        opened("marked").encode("a▁b")
