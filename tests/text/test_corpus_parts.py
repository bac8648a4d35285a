"""Parts of one text: the first documents left out, the next ones kept; and the packaged text."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.config import content_hash
from suite.errors import ConfigError, TextError
from suite.harness.tasks import packaged_tasks
from suite.text.corpus import Corpus, CorpusConfig, Message, open_corpus
from suite.text.packaged import packaged_file

NUM_ROWS = 12


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "data.jsonl"
    path.write_text("".join(json.dumps({"text": str(n)}) + "\n" for n in range(NUM_ROWS)))
    return path


def opened(file: Path, **settings: Any) -> Corpus:
    return open_corpus(CorpusConfig(path=file, **settings))


def numbers(corpus: Corpus) -> list[int]:
    found = [document for _, document in corpus.documents(epochs=1)]
    assert [document.text for document in found] == [str(document.number) for document in found]
    return [document.number for document in found]


@given(
    skip=st.integers(0, NUM_ROWS - 1),
    limit=st.none() | st.integers(1, NUM_ROWS + 2),
    streaming=st.booleans(),
    shuffle=st.booleans(),
)
def test_a_part_is_a_range_of_the_data(
    file: Path, skip: int, limit: int | None, streaming: bool, shuffle: bool
) -> None:
    corpus = opened(file, skip=skip, limit=limit, streaming=streaming, shuffle=shuffle)
    expected = list(range(NUM_ROWS))[skip : None if limit is None else skip + limit]
    found = numbers(corpus)
    assert sorted(found) == expected
    assert shuffle or found == expected
    assert corpus.num_documents == (None if streaming else len(expected))


@pytest.mark.parametrize("streaming", [False, True])
def test_reading_goes_on_inside_a_part(file: Path, streaming: bool) -> None:
    corpus = opened(file, skip=3, limit=7, streaming=streaming, seed=4)
    whole = list(corpus.documents(epochs=2))
    for place in (1, 6, 7, 9):
        position = whole[place - 1][0]
        assert list(islice(corpus.documents(position, epochs=2), 3)) == whole[place : place + 3]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_part_behind_the_end_is_refused(file: Path, streaming: bool) -> None:
    with pytest.raises(ConfigError) as error:
        next(opened(file, skip=NUM_ROWS, streaming=streaming).documents())
    found = f"at most {NUM_ROWS}" if streaming else f"{NUM_ROWS}"
    assert str(error.value) == (
        f"{file}: has {found} documents, and the first {NUM_ROWS} are left out (skip); give more"
        " text, or lower skip"
    )


def refusal(path: Path, **settings: Any) -> str:
    """What is said of a file of which more is left out than there is."""
    with pytest.raises((ConfigError, TextError)) as error:
        next(opened(path, skip=30, **settings).documents())
    return str(error.value).removeprefix(f"{path}")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        (
            "novel.txt",
            b"Once.",
            ": has 1 document, and the first 30 are left out (skip); give more text, or lower skip",
        ),
        ("empty.txt", b"", ": no documents in it"),
        ("latin.txt", b"caf\xe9", ": not UTF-8 at byte 3 (0xe9); convert it to UTF-8 first"),
    ],
)
def test_a_fault_of_a_text_file_is_told_before_what_is_left_out(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert refusal(path) == expected


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", ": no documents in it"),
        ('{"body": "a"}\n', " line 1: no field 'text'; fields there are: body"),
        (
            "[1\n",
            " line 1: not JSON (Expecting ',' delimiter: column 3); each line must be one JSON"
            " object",
        ),
    ],
)
def test_a_fault_of_rows_is_told_before_what_is_left_out(
    tmp_path: Path, data: str, expected: str, streaming: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(data)
    assert refusal(path, streaming=streaming) == expected


def test_parts_have_fingerprints_of_their_own_and_the_whole_keeps_its_own(file: Path) -> None:
    plain = opened(file, limit=5)
    identity = plain._source.identity()
    # What a teacher stored before there were parts was stored under.
    assert plain.fingerprint() == content_hash([identity, [("text",), "", False], 5])
    prints = {opened(file, limit=5, skip=skip).fingerprint() for skip in range(3)}
    assert len(prints) == 3
    assert plain.fingerprint() in prints


def test_the_packaged_text_has_parts_for_a_teacher_a_student_and_a_measurement() -> None:
    sizes = [
        open_corpus(CorpusConfig(packaged="python-docs", skip=skip, limit=limit)).num_documents
        for skip, limit in ((0, 30), (30, 25), (55, None), (0, None))
    ]
    assert sizes == [30, 25, 14, 69]


def test_the_packaged_text_lies_with_the_packaged_tasks() -> None:
    file = packaged_file("python-docs")
    assert file.parent == packaged_tasks()
    whole = open_corpus(CorpusConfig(packaged="python-docs"))
    assert whole.fingerprint() == open_corpus(CorpusConfig(path=file)).fingerprint()


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"path": "a/b.jsonl"}, "a/b.jsonl"),
        ({"hub": "org/name"}, "hub:org/name"),
        ({"packaged": "python-docs"}, "packaged:python-docs"),
    ],
)
def test_a_place_is_named_as_on_the_command_line(settings: dict[str, Any], place: str) -> None:
    assert CorpusConfig(**settings).place == place


def test_prompt_and_completion_may_be_a_conversation(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"q": "1 + 1?", "a": "2"}\n')
    settings = {"path": file, "prompt": "q", "completion": "a"}
    plain, chat = (open_corpus(CorpusConfig(**settings, chat=chat)) for chat in (False, True))
    ((_, document),) = chat.documents(epochs=1)
    assert document.messages == (Message("user", "1 + 1?"), Message("assistant", "2"))
    assert document.text is None
    assert chat.config.has_chats
    assert not plain.config.has_chats
    assert chat.fingerprint() != plain.fingerprint()
