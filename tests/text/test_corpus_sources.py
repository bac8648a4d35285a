from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import suite.text.corpus_sources as sources
from suite.errors import ConfigError, SuiteError, TextError
from suite.text.corpus_sources import JsonLines, JsonLinesStream, TextFiles, find_files, open_files

ACCEPTED = ".jsonl, .json, .jsonl.gz, .txt, .md, .parquet"


def write(folder: Path, name: str, data: bytes = b"x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lines_of(path: Path) -> JsonLines:
    return JsonLines(str(path), (path,))


def stream_of(path: Path) -> JsonLinesStream:
    return JsonLinesStream(str(path), (path,))


def sentence(error: pytest.ExceptionInfo[SuiteError]) -> str:
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "JSON Lines"),
        ("a.json", "JSON Lines"),
        ("a.jsonl.gz", "JSON Lines"),
        ("11.2.txt", "text"),
        ("A.TXT", "text"),
        ("a.md", "text"),
        ("a.parquet", "parquet"),
    ],
)
def test_the_suffix_says_how_a_file_is_read(tmp_path: Path, name: str, kind: str) -> None:
    path = write(tmp_path, name)
    assert find_files(path) == (kind, (path,))


def test_files_come_sorted_by_name_whatever_the_file_system_says(tmp_path: Path) -> None:
    for name in ["c.txt", "B.txt", "a.txt", "10.txt", "9.txt"]:
        write(tmp_path, name)
    _, files = find_files(tmp_path)
    assert [file.name for file in files] == ["10.txt", "9.txt", "B.txt", "a.txt", "c.txt"]
    assert find_files(tmp_path / "*.txt") == ("text", files)


def test_a_folder_stands_for_the_known_files_directly_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt")
    for name in ["LICENSE", ".hidden.txt", "deeper/b.txt", "c.jsonl.bak"]:
        write(tmp_path, name)
    assert find_files(tmp_path) == ("text", (path,))


def test_a_glob_may_go_deeper(tmp_path: Path) -> None:
    files = (write(tmp_path, "a.txt"), write(tmp_path, "deeper/b.txt"))
    assert find_files(tmp_path / "**" / "*.txt") == ("text", files)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a[1].txt")
    write(tmp_path, "a1.txt")
    assert find_files(path) == ("text", (path,))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("gone.txt", "{0}/gone.txt: no such file or folder"),
        ("*.jsonl", "{0}/*.jsonl: no file matches"),
        ("empty", "{0}/empty: no file in it that can be read; accepted: " + ACCEPTED),
        (
            "parts",
            "{0}/parts: no file in it that can be read (subfolders are not read: a, b, c, d, e and"
            " 1 more); accepted: " + ACCEPTED,
        ),
        ("table.csv", "{0}/table.csv: unknown kind of file; accepted: " + ACCEPTED),
        ("t*.csv", "{0}/table.csv: unknown kind of file; accepted: " + ACCEPTED),
        (
            "mixed",
            "{0}/mixed: files of different kinds (a.jsonl and b.txt);"
            " give a glob that matches one kind",
        ),
    ],
)
def test_a_path_with_nothing_to_read_is_named(tmp_path: Path, asked: str, expected: str) -> None:
    for name in ["table.csv", "mixed/a.jsonl", "mixed/a2.jsonl", "mixed/b.txt"]:
        write(tmp_path, name)
    (tmp_path / "empty").mkdir()
    for name in "fedcba":
        (tmp_path / "parts" / name).mkdir(parents=True)
    with pytest.raises(ConfigError) as error:
        find_files(tmp_path / asked)
    assert sentence(error) == expected.format(tmp_path)


def test_text_files_are_not_streamed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        open_files("novels", "text", (tmp_path / "a.txt",), streaming=True)
    assert sentence(error) == (
        "novels: text files are read one at a time as they are; leave streaming out"
    )


def test_a_compressed_file_is_only_streamed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl.gz", gzip.compress(b'{"text": "a"}\n'))
    with pytest.raises(ConfigError) as error:
        open_files("data", "JSON Lines", (path,), streaming=False)
    assert sentence(error) == (
        f"{path}: a compressed file is only read from front to back; set streaming: true or"
        " unpack it"
    )


@given(st.text())
def test_a_text_file_is_read_byte_by_byte_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = write(tmp_path_factory.getbasetemp(), "any.txt", text.encode())
    assert TextFiles("any", (path,)).read(0).fields == {"text": text}


def test_line_ends_and_a_byte_order_mark_are_kept_in_text_files(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n\n")
    assert TextFiles("a", (path,)).read(0).fields["text"] == "\ufeffone\r\ntwo\rthree\n\n"


def test_a_text_file_that_is_not_utf8_names_file_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path, "latin.txt", "né".encode() + "né".encode("latin-1"))
    with pytest.raises(TextError) as error:
        TextFiles("latin", (path,)).read(0)
    assert sentence(error) == f"{path}: not UTF-8 at byte 4 (0xe9); convert it to UTF-8 first"


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(ConfigError) as error:
        TextFiles("a", (path,)).read(0)
    assert sentence(error) == f"{path}: cannot be read (No such file or directory)"


json_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_lines = st.lists(
    st.one_of(
        st.builds(lambda text: json.dumps({"text": text}), json_texts),
        st.builds(lambda text: json.dumps({"text": text}, ensure_ascii=False), json_texts),
        st.sampled_from(["", " ", "\t ", ' {"text": "indented"} ']),
    ),
    max_size=12,
)


@given(
    lines=json_lines,
    end=st.sampled_from(["\n", "\r\n"]),
    ends_at_last=st.booleans(),
    scan_bytes=st.integers(1, 40),
)
def test_index_and_stream_give_what_plain_reading_gives(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    end: str,
    ends_at_last: bool,
    scan_bytes: int,
) -> None:
    text = end.join(lines) + (end if ends_at_last else "")
    path = write(tmp_path_factory.getbasetemp(), "any.jsonl", text.encode())
    expected = [
        (f"{path} line {number}", json.loads(line))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_SCAN_BYTES", scan_bytes)
        rows = lines_of(path)
        read = [rows.read(number) for number in range(len(rows))]
    assert [(row.place, row.fields) for row in read] == expected
    for start in range(len(expected) + 2):
        assert list(stream_of(path).read_from(start)) == read[start:]


def test_several_files_are_one_after_another(tmp_path: Path) -> None:
    files = tuple(
        write(tmp_path, f"{name}.jsonl", b"".join(b'{"n": %d}\n' % n for n in numbers))
        for name, numbers in [("a", [0, 1]), ("b", []), ("c", [2])]
    )
    rows, stream = JsonLines("all", files), JsonLinesStream("all", files)
    assert len(rows) == 3
    assert [rows.read(number).fields["n"] for number in range(3)] == [0, 1, 2]
    assert [row.fields["n"] for row in stream.read_from(1)] == [1, 2]


def test_a_compressed_stream_gives_the_same_rows(tmp_path: Path) -> None:
    data = b'{"text": "one"}\n\n{"text": "two"}'
    plain = list(stream_of(write(tmp_path, "a.jsonl", data)).read_from(0))
    packed = list(stream_of(write(tmp_path, "a.jsonl.gz", gzip.compress(data))).read_from(0))
    assert [row.fields for row in packed] == [row.fields for row in plain]


@pytest.mark.parametrize(
    "text", ["2020-01-01", "2020-01-02 00:00:00", "1", "null", "a\u2028b\x85c", "a\r\nb", "\x00"]
)
def test_a_text_is_never_taken_for_something_else(tmp_path: Path, text: str) -> None:
    line = json.dumps({"text": text}, ensure_ascii=False).encode()
    path = write(tmp_path, "a.jsonl", line + b"\n")
    assert lines_of(path).read(0).fields == {"text": text}


def test_a_byte_order_mark_before_the_first_line_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\n')
    assert lines_of(path).read(0).fields == {"text": "a"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b'{"text": "a}',
            "not JSON (Unterminated string starting at: column 10);"
            " each line must be one JSON object",
        ),
        (
            b"[" * 100_000,
            "not JSON (nested too deep); each line must be one JSON object",
        ),
        (b'["a", "b"]', "expected a JSON object, found ['a', 'b']"),
        (
            b'{"n": ' + b"1" * 5000 + b"}",
            "not JSON (a number with too many digits); each line must be one JSON object",
        ),
        (b"17", "expected a JSON object, found 17"),
    ],
)
@pytest.mark.parametrize("kind", [lines_of, stream_of])
def test_a_broken_line_is_named(tmp_path: Path, kind, line: bytes, expected: str) -> None:
    path = write(tmp_path, "a.jsonl", b'{"text": "a"}\n\n' + line + b"\n")
    source = kind(path)
    with pytest.raises(ConfigError) as error:
        source.read(1) if isinstance(source, JsonLines) else list(source.read_from(0))
    assert sentence(error) == f"{path} line 3: {expected}"


def test_a_line_that_is_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(TextError) as error:
        lines_of(path).read(1)
    assert sentence(error) == (
        f"{path} line 2: not UTF-8 at byte 10 (0xff); convert it to UTF-8 first"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"plain text", "Not a gzipped file (b'pl')"),
        (
            gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-12],
            "Compressed file ended before the end-of-stream marker was reached",
        ),
    ],
)
def test_a_damaged_compressed_file_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path, "a.jsonl.gz", data)
    with pytest.raises(ConfigError) as error:
        list(stream_of(path).read_from(0))
    assert sentence(error) == f"{path}: cannot be read ({reason})"


def test_identity_is_the_content_and_not_its_place(tmp_path: Path) -> None:
    first = lines_of(write(tmp_path, "here/a.jsonl", b'{"text": "a"}\n'))
    moved = stream_of(write(tmp_path, "there/b.jsonl", b'{"text": "a"}\n'))
    os.utime(moved.files[0], (0, 0))
    changed = lines_of(write(tmp_path, "there/c.jsonl", b'{"text": "b"}\n'))
    assert first.identity() == moved.identity()
    assert first.identity() != changed.identity()
    assert first.identity() != TextFiles("a", first.files).identity()
