from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import ConfigError, SuiteError, TextError
from suite.text.corpus import CorpusConfig, Document, Message, open_corpus


def write_lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_one(folder: Path, row: Any, **settings: Any) -> Document:
    path = write_lines(folder / "one.jsonl", row)
    ((_, document),) = open_corpus(CorpusConfig(path=path, **settings)).documents(epochs=1)
    return document


def sentence(error: pytest.ExceptionInfo[SuiteError]) -> str:
    return str(error.value)


def test_a_document_is_the_field_text_unless_another_is_named(tmp_path: Path) -> None:
    row = {"text": "a", "body": "b"}
    assert read_one(tmp_path, row) == Document(0, text="a")
    assert read_one(tmp_path, row, text="body") == Document(0, text="b")


@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"])),
    separator=st.sampled_from(["", "\n", " → "]),
    completion=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_prompt_bytes_count_the_utf8_bytes_of_prompt_and_separator(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, separator: str, completion: str
) -> None:
    document = read_one(
        tmp_path_factory.getbasetemp(),
        {"q": prompt, "a": completion},
        prompt="q",
        completion="a",
        separator=separator,
    )
    data = document.text.encode()
    assert data[: document.prompt_bytes].decode() == prompt + separator
    assert data[document.prompt_bytes :].decode() == completion


def test_a_chat_is_its_messages_of_which_role_and_content_are_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a", "id": 3}, {"role": "assistant", "content": ""}]
    assert read_one(tmp_path, {"chat": turns}, messages="chat") == Document(
        0, messages=(Message("user", "a"), Message("assistant", ""))
    )


def test_empty_documents_are_given_too(tmp_path: Path) -> None:
    assert read_one(tmp_path, {"text": ""}) == Document(0, text="")
    assert read_one(tmp_path, {"chat": []}, messages="chat") == Document(0, messages=())


def test_each_text_file_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"two\r\n")
    (tmp_path / "a.txt").write_bytes(b"")
    corpus = open_corpus(CorpusConfig(path=tmp_path, shuffle=False))
    documents = [document for _, document in corpus.documents(epochs=1)]
    assert documents == [Document(0, text=""), Document(1, text="two\r\n")]


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        ({"a": "x", "b": 1}, {}, "no field 'text'; fields there are: a, b"),
        ({}, {}, "no field 'text'; fields there are: none"),
        (
            {"q": "x"},
            {"prompt": "q", "completion": "a"},
            "no field 'a'; fields there are: q",
        ),
        ({"text": None}, {}, "field 'text' is null, expected text"),
        ({"text": 5}, {}, "field 'text' is 5, expected text"),
        (
            {"text": ["a"] * 99},
            {},
            "field 'text' is ['a', 'a', 'a', 'a', 'a', 'a', ...], expected text",
        ),
        ({"text": "a"}, {"messages": "chat"}, "no field 'chat'; fields there are: text"),
        (
            {"chat": "a"},
            {"messages": "chat"},
            "field 'chat' is 'a', expected a list of messages",
        ),
        (
            {"chat": ["a"]},
            {"messages": "chat"},
            "field 'chat[0]' is 'a', expected an object with role and content",
        ),
        (
            {"chat": [{"role": "user", "content": "a"}, {"content": "b"}]},
            {"messages": "chat"},
            "no field 'chat[1].role'; fields there are: content",
        ),
        (
            {"chat": [{"role": "user", "content": None}]},
            {"messages": "chat"},
            "field 'chat[0].content' is null, expected text",
        ),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_that_is_no_such_document_is_named(
    tmp_path: Path, row: Any, settings: dict[str, str], expected: str, streaming: bool
) -> None:
    path = write_lines(tmp_path / "one.jsonl", row)
    with pytest.raises(ConfigError) as error:
        next(open_corpus(CorpusConfig(path=path, streaming=streaming, **settings)).documents())
    assert sentence(error) == f"{path} line 1: {expected}"


def test_a_wrong_field_is_an_error_at_once_unless_streaming(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "one.jsonl", {"text": "a"})
    with pytest.raises(ConfigError):
        open_corpus(CorpusConfig(path=path, text="body"))
    open_corpus(CorpusConfig(path=path, text="body", streaming=True))


def test_a_lone_surrogate_is_an_error_and_a_pair_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}\n{"text": "ab\\ud800"}\n')
    corpus = open_corpus(CorpusConfig(path=path, shuffle=False))
    documents = corpus.documents()
    assert next(documents)[1].text == "😀"
    with pytest.raises(TextError) as error:
        next(documents)
    assert sentence(error) == (
        f"{path} line 2: field 'text' has a lone surrogate (U+D800) at character 2, which UTF-8"
        " can't hold; remove or replace it"
    )
