"""`suite align`: what it prints and writes, and the line and exit code of what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suite.cli.main import main

FAILED, USAGE = 1, 2
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there."}]
TEMPLATE = (
    "{% for message in messages %}<begin>{{ message['role'] }}\n"
    "{{ message['content'] }}<end>\n{% endfor %}"
)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["align", *map(str, arguments)])


def error_of(result: Result) -> str:
    return result.stderr.strip().removeprefix("error: ")


def test_two_rows_chunks_and_coverage_in_the_terminal(
    tiny_model: Path, tiny_model_merges: Path
) -> None:
    result = call(
        "--teacher", f"path:{tiny_model_merges}", "--student", f"path:{tiny_model}", "in the end"
    )
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0] == f"T  path:{tiny_model_merges}, 7 tokens"
    assert lines[1] == f"S  path:{tiny_model}, 10 tokens"
    assert lines[3] == "T  in  ┃ · ┃ the   ┃ · ┃ e ┃ n ┃ d"
    assert lines[4] == "S  i│n ┃ · ┃ t│h│e ┃ · ┃ e ┃ n ┃ d"
    facts = " ".join(" ".join(result.stdout.split()).split())
    assert "bytes of text 10 bytes in chunks 100.0% chunks 7" in facts
    assert "chunks of one token on each side 71.4%" in facts
    assert "teacher tokens a chunk 1.00 student tokens a chunk 1.43" in facts


def test_the_student_is_the_teachers_bytes_by_default(tiny_model_merges: Path) -> None:
    by_default = call("--teacher", f"path:{tiny_model_merges}", "the")
    spelled_out = call(
        "--teacher",
        f"path:{tiny_model_merges}",
        "--student",
        f"bytes:path:{tiny_model_merges}",
        "the",
    )
    assert by_default.exit_code == 0
    assert by_default.stdout == spelled_out.stdout
    assert "S  t│h│e" in by_default.stdout


def test_a_file_is_read_to_the_byte_and_a_page_is_written(
    tiny_model_merges: Path, tmp_path: Path
) -> None:
    text, page = tmp_path / "text.txt", tmp_path / "new" / "page.html"
    text.write_bytes("the\r\n<script>é".encode())
    result = call("--teacher", f"path:{tiny_model_merges}", "--file", text, "--html", page)
    assert result.exit_code == 0, result.output
    assert str(page) in result.stdout.splitlines()[-1]
    assert "\\r" in result.stdout
    html = page.read_text(encoding="utf-8")
    assert "<script>é" not in html
    assert "bytes of text" in html


def test_only_whole_chunks_of_the_beginning_are_shown(tiny_model_merges: Path) -> None:
    result = call("--teacher", f"path:{tiny_model_merges}", "--show", "4", "the in the end")
    assert "Only the first 4 of 14 bytes are shown." in result.stdout
    assert "T  the   ┃ ·" in result.stdout
    # A first chunk that is longer is shown all the same.
    longer = call("--teacher", f"path:{tiny_model_merges}", "--show", "1", "the in")
    assert "Only the first 3 of 6 bytes are shown." in longer.stdout


def test_a_special_token_in_a_text_is_text_unless_asked(tiny_model: Path) -> None:
    as_text = call("--teacher", f"path:{tiny_model}", "a<end>")
    assert "a ┃ < ┃ e ┃ n ┃ d ┃ >" in as_text.stdout
    as_token = call("--teacher", f"path:{tiny_model}", "--special-tokens", "a<end>")
    assert "a ┃ <end>(end)" in as_token.stdout
    assert "special tokens matched 1" in " ".join(as_token.stdout.split())


def test_a_role_that_was_found_wrong_can_be_given(tiny_model: Path) -> None:
    roles = ["--teacher-role", "<pad>=header", "--student-role", "<pad>=header"]
    result = call("--teacher", f"path:{tiny_model}", "--special-tokens", *roles, "a<pad>")
    assert result.exit_code == 0, result.output
    assert "<pad>(header)" in result.stdout


@pytest.fixture
def with_template(tiny_model_merges: Path, tmp_path: Path) -> Path:
    import shutil

    folder = tmp_path / "chat"
    shutil.copytree(tiny_model_merges, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def test_a_chat_is_rendered_with_the_kept_template(with_template: Path) -> None:
    result = call("--teacher", f"path:{with_template}", "--chat", json.dumps(CHAT))
    assert result.exit_code == 0, result.output
    assert "<begin>(header)" in result.stdout
    assert "<end>(end of turn)" in result.stdout
    assert "special tokens matched 4" in " ".join(result.stdout.split())


def test_an_empty_text_has_no_chunks(tiny_model: Path) -> None:
    result = call("--teacher", f"path:{tiny_model}", "")
    assert result.exit_code == 0, result.output
    assert "bytes in chunks -" in " ".join(result.stdout.split())


def test_long_groups_are_warned_of(tiny_model: Path) -> None:
    result = call("--teacher", f"path:{tiny_model}", "没有空格" * 8)
    warning = (
        "warning: a group has 96 bytes on average (above 64), as in scripts without spaces: the"
        " loss would compare whole sentences; set merge: false"
    )
    assert warning in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], USAGE, "give either TEXT or --file"),
        (["text", "--file", "also.txt"], USAGE, "give either TEXT or --file"),
        (["--file", "gone.txt"], USAGE, "gone.txt: cannot be read (No such file or directory)"),
        (
            ["--chat", "{"],
            USAGE,
            '--chat: expected a JSON list such as [{"role": "user", "content": "..."}]',
        ),
        (
            ["--chat", '[{"role": "user", "content": null}]'],
            USAGE,
            '--chat: expected a JSON list such as [{"role": "user", "content": "..."}]',
        ),
        (
            ["--chat", "--special-tokens", "[]"],
            USAGE,
            "--special-tokens has no effect with --chat; leave it out",
        ),
        (["--teacher-role", "<end>", "a"], USAGE, "--teacher-role <end>: expected TOKEN=ROLE"),
        (
            ["--teacher-role", "<end>=stop", "a"],
            USAGE,
            "--teacher path:{model}: '<end>' has role 'stop'; known: begin, end, end_of_turn,"
            " header, other, pad, regular, unknown",
        ),
        (
            ["--student-role", "<stop>=end", "a"],
            USAGE,
            "path:{model}: no special token '<stop>'; known: <begin>, <end>, <pad>",
        ),
        (
            ["--chat", '[{"role": "user"}]'],
            USAGE,
            '--chat: expected a JSON list such as [{"role": "user", "content": "..."}]',
        ),
        (
            ["--chat", '[{"role": "user", "content": "a"}]'],
            USAGE,
            "path:{model} has no chat template; name a tokenizer that has one",
        ),
        (
            ["--student", "byte", "a"],
            USAGE,
            "--student byte: expected one of hub:..., path:..., gguf:..., package:..., random:...",
        ),
        (
            ["--student", "path:/nowhere", "a"],
            FAILED,
            "--student path:/nowhere: /nowhere is not a folder; give one with a tokenizer",
        ),
        (
            ["--student", f"gguf:/nowhere/{'long' * 20}.gguf", "a"],
            FAILED,
            f"--student gguf:/nowhere/{'long' * 20}.gguf: /nowhere/{'long' * 20}.gguf does not"
            " exist; give a .gguf file",
        ),
        (
            ["--student", "hub:org/name", "a"],
            FAILED,
            "--student hub:org/name: hub:org/name is not in the local cache and the hub is switched"
            " off (HF_HUB_OFFLINE); go online, or give path:FOLDER",
        ),
        (
            ["--html", "/proc/none/page.html", "a"],
            USAGE,
            "--html /proc/none/page.html: cannot be written (No such file or directory)",
        ),
    ],
)
def test_wrong_calls_end_with_one_sentence(
    tiny_model: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = call("--teacher", f"path:{tiny_model}", *arguments)
    assert error_of(result) == sentence.replace("{model}", str(tiny_model))
    assert result.exit_code == code


def test_a_file_that_is_no_text_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes("où".encode("latin-1"))
    result = call("--teacher", f"path:{tiny_model}", "--file", file)
    assert error_of(result) == f"{file}: byte 1 is no UTF-8; convert the file first"
    assert result.exit_code == USAGE


def test_a_folder_without_a_tokenizer_and_a_damaged_one_are_named(tmp_path: Path) -> None:
    result = call("--teacher", f"path:{tmp_path}", "a")
    assert error_of(result) == (
        f"--teacher path:{tmp_path}: {tmp_path} has no tokenizer; give a folder with a"
        " tokenizer.json"
    )
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    result = call("--teacher", f"path:{tmp_path}", "a")
    assert error_of(result).startswith(
        f"--teacher path:{tmp_path}: the tokenizer in {tmp_path} is damaged or of an unknown kind ("
    )
    assert error_of(result).endswith("); save it again with save_pretrained")
    assert result.exit_code == FAILED
