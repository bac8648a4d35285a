"""Text files cut into passages: every byte once, at line ends where they can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import ConfigError, TextError
from suite.text.corpus import Corpus, CorpusConfig, open_corpus
from suite.text.passages import cut_passages

PARTS = ("One line.\nAnd öne more.\n", "a" * 25 + "\nend", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, text in enumerate(PARTS):
        (tmp_path / f"{number}.txt").write_bytes(text.encode())
    return tmp_path


def opened(folder: Path, **settings: object) -> Corpus:
    return open_corpus(CorpusConfig(path=folder, **settings))


def texts(corpus: Corpus) -> list[str | None]:
    return [document.text for _, document in corpus.documents(epochs=1)]


@given(st.text(max_size=60), st.integers(4, 30))
def test_passages_joined_are_the_text(text: str, max_bytes: int) -> None:
    passages = cut_passages(text, max_bytes)
    assert "".join(passages) == text
    assert all(0 < len(passage.encode()) <= max_bytes for passage in passages)


def test_passages_end_behind_lines_where_they_can() -> None:
    assert cut_passages("ab\ncd\nefghijk\n", 6) == ["ab\ncd\n", "efghij", "k\n"]


def test_each_passage_of_each_file_is_a_document(folder: Path) -> None:
    corpus = opened(folder, passage_bytes=20, shuffle=False)
    expected = ["One line.\n", "And öne more.\n", "a" * 20, "aaaaa\nend"]
    assert texts(corpus) == expected
    assert corpus.num_documents == 4
    assert [part for text in PARTS for part in cut_passages(text, 20)] == expected


def test_passages_are_shuffled_over_all_files(folder: Path) -> None:
    shuffled = texts(opened(folder, passage_bytes=4, seed=3))
    in_order = texts(opened(folder, passage_bytes=4, shuffle=False))
    assert shuffled != in_order
    assert sorted(map(str, shuffled)) == sorted(map(str, in_order))


def test_line_ends_and_byte_order_marks_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert texts(opened(tmp_path, passage_bytes=9, shuffle=False)) == ["\ufeffone\r\n", "two\r\n"]


def test_the_length_of_passages_is_part_of_the_fingerprint(folder: Path) -> None:
    prints = {opened(folder, passage_bytes=size).fingerprint() for size in (None, 8, 9)}
    assert len(prints) == 3
    again = opened(folder, passage_bytes=8, seed=5, shuffle=False).fingerprint()
    assert again == opened(folder, passage_bytes=8).fingerprint()


def test_other_kinds_of_files_are_not_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n')
    with pytest.raises(ConfigError) as error:
        opened(file, passage_bytes=8)
    assert str(error.value) == (
        f"{file}: passage_bytes has no effect on JSON Lines files; leave it out"
    )


def test_text_files_are_not_streamed(folder: Path) -> None:
    with pytest.raises(ConfigError) as error:
        opened(folder, passage_bytes=8, streaming=True)
    assert str(error.value) == f"{folder}: streaming has no effect on text files; leave it out"


def test_a_file_that_vanished_is_named(folder: Path) -> None:
    corpus = opened(folder, passage_bytes=20, shuffle=False)
    documents = corpus.documents()
    (folder / "1.txt").unlink()
    with pytest.raises(ConfigError) as error:
        list(documents)
    assert str(error.value) == f"{folder / '1.txt'}: cannot be read (No such file or directory)"


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "1.txt").write_bytes(b"abc\xff")
    with pytest.raises(TextError) as error:
        opened(folder, passage_bytes=8)
    assert str(error.value) == (
        f"{folder / '1.txt'}: not UTF-8 at byte 3 (0xff); convert it to UTF-8 first"
    )


def test_empty_files_hold_no_passage(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ConfigError) as error:
        opened(tmp_path, passage_bytes=8)
    assert str(error.value) == f"{tmp_path}: no documents in it"
