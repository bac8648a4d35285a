"""`suite cache-teacher` on the command line: what it prints, and the line for each wrong call."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suite.cli.main import main
from suite.distill.teacher_cache import TeacherCache
from suite.pipelines import cache_teacher as pipeline

FAILED, USAGE, INTERRUPTED = 1, 2, 75


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a text; a run also changes what SIGTERM does, which is put back."""
    monkeypatch.chdir(tmp_path)
    documents = [
        {"text": f"Text {number}", "question": "1 + 1?", "answer": "2"} for number in range(3)
    ]
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    (tmp_path / "data.jsonl").write_text(lines, encoding="utf-8")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def call(model: Path, *arguments: str | Path) -> Result:
    fixed = ["cache-teacher", "--teacher", f"path:{model}", "--device", "cpu"]
    return CliRunner().invoke(main, [*fixed, *map(str, arguments)])


def on_data(model: Path, *arguments: str | Path) -> Result:
    return call(model, "--data", "data.jsonl", "--output", "cache", *arguments)


def error_of(result: Result) -> str:
    return result.stderr.strip().removeprefix("error: ")


def test_a_cache_is_made_once(tiny_model: Path, here: Path) -> None:
    result = on_data(tiny_model)
    assert result.exit_code == 0, result.output
    cache = TeacherCache.open(here / "cache")
    assert result.stdout.splitlines() == [
        "rows             1",
        "tokens           21",
        f"bytes a token    {cache.bytes_per_token:.3f}",
        "padding in rows  95.9%",
        "documents        3",
        "cache",
    ]
    again = on_data(tiny_model)
    assert again.stdout.splitlines()[0] == "complete already; nothing was computed"
    assert again.exit_code == 0


def test_every_option_reaches_the_plan(tiny_model: Path, tiny_model_merges: Path) -> None:
    result = on_data(
        tiny_model,
        *("--length", "32", "--packing", "none", "--max-bytes", "100", "--keep-whole"),
        *("--prompt", "question", "--completion", "answer", "--separator", "\n"),
        *("--limit", "2", "--seed", "5", "--student", f"path:{tiny_model_merges}"),
        *("--dtype", "bfloat16", "--batch-tokens", "64", "--shard-tokens", "1000"),
        *("--teacher-role", "<pad>=header", "--dry-run"),
    )
    assert result.exit_code == 0, result.output
    plan = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    plan = {label: value.strip() for label, value in plan.items()}
    assert plan["device, dtype"] == "cpu, bfloat16"
    assert plan["rows"] == "none, 32 tokens, 100 bytes, documents kept whole"
    assert plan["order"] == "shuffled with seed 5, one epoch"
    assert plan["documents"] == "2"
    assert plan["tokens, size"].startswith("about 18, 0.0 MB")
    assert plan["tokens a batch, a shard"] == "64, 1,000"
    assert not Path("cache").exists()


def test_the_datas_own_order_and_another_field(tiny_model: Path) -> None:
    result = on_data(tiny_model, "--no-shuffle", "--text", "answer", "--dry-run")
    assert "not shuffled, one epoch" in result.stdout


def test_conversations_that_cannot_be_read_are_noted(tiny_model: Path, here: Path) -> None:
    chats = [{"chat": [{"role": "user", "content": text}]} for text in ("Hi", "a <end>")]
    lines = "".join(json.dumps(chat) + "\n" for chat in chats)
    (here / "chats.jsonl").write_text(lines, encoding="utf-8")
    arguments = ("--data", "chats.jsonl", "--messages", "chat", "--output", "cache")
    without = call(tiny_model, *arguments)
    assert error_of(without) == (
        f"path:{tiny_model} has no chat template; name a tokenizer that has one"
    )
    assert without.exit_code == USAGE

    model = Path(shutil.copytree(tiny_model, here / "model"))
    (model / "manifest.json").unlink()
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    result = call(model, *arguments)
    assert result.stdout.splitlines()[-3:] == [
        "  left out: the teacher cannot read them  1",
        "note: document 1: message 1 holds '<end>' as text, which a rendered chat cannot tell from"
        f" the special token of path:{model}; leave this conversation out",
        "cache",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--data", "gone.jsonl"], USAGE, "{here}/gone.jsonl: no such file or folder"),
        (
            ["--data", "data.jsonl", "--text", "body"],
            USAGE,
            "{here}/data.jsonl line 1: no field 'body'; fields there are: text, question, answer",
        ),
        (
            ["--data", "data.jsonl", "--prompt", "question"],
            USAGE,
            "--data data.jsonl: prompt without completion; give the names of both fields",
        ),
        (
            ["--data", "data.jsonl", "--split", "test"],
            USAGE,
            "--data data.jsonl: split is 'test', but only a data set of the hub has one",
        ),
        (
            ["--data", "hub:gsm8k"],
            USAGE,
            "--data hub:gsm8k: hub is 'gsm8k', should be of the form org/name",
        ),
        (
            ["--data", "data.jsonl", "--seed", "1", "--no-shuffle"],
            USAGE,
            "--seed has no effect with --no-shuffle; leave one of them out",
        ),
        (
            ["--data", "data.jsonl", "--length", "1"],
            USAGE,
            "cache-teacher: length is 1, should be greater than or equal to 2",
        ),
        (
            ["--data", "data.jsonl", "--length", "513"],
            USAGE,
            "--length is 513, but path:{model} has 512 positions; give a smaller --length",
        ),
        (
            ["--data", "data.jsonl", "--teacher-role", "<end>"],
            USAGE,
            "--teacher-role <end>: expected TOKEN=ROLE",
        ),
        (
            ["--data", "data.jsonl", "--teacher", "smollm"],
            USAGE,
            "--teacher smollm: expected one of hub:..., path:..., gguf:..., package:...,"
            " random:...",
        ),
        (
            ["--data", "data.jsonl", "--teacher", "path:/nowhere"],
            FAILED,
            "model 'teacher': /nowhere does not exist; give a folder written by save_pretrained",
        ),
        (
            ["--data", "data.jsonl", "--student", "path:/nowhere"],
            FAILED,
            "--student path:/nowhere: /nowhere is not a folder; give one with a tokenizer",
        ),
        (
            ["--data", "data.jsonl", "--output", "data.jsonl"],
            USAGE,
            "cannot write to data.jsonl (Not a directory); give another --output",
        ),
        (
            ["--data", "data.jsonl", "--output", "data.jsonl/below"],
            USAGE,
            "cannot write to data.jsonl/below (Not a directory); give another --output",
        ),
        (
            ["--data", "data.jsonl", "--output", "."],
            USAGE,
            ".: holds data.jsonl and no teacher cache; give a new or an empty --output",
        ),
        (
            ["--data", "data.jsonl", "--output", "{model}"],
            FAILED,
            "{model}/manifest.json: not the manifest of a teacher cache; give another folder",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry run", "run"])
def test_wrong_calls_end_with_one_sentence(
    tiny_model: Path,
    here: Path,
    arguments: list[str],
    code: int,
    sentence: str,
    dry_run: list[str],
) -> None:
    given = [argument.replace("{model}", str(tiny_model)) for argument in arguments]
    result = call(tiny_model, "--output", "cache", *given, *dry_run)
    assert error_of(result) == sentence.format(here=here, model=tiny_model)
    assert result.exit_code == code
    assert not Path("cache").exists()


def test_an_empty_text_is_refused_before_the_model_is_loaded(
    tiny_model: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_load", None)
    (here / "data.jsonl").write_text('{"text": ""}\n', encoding="utf-8")
    result = on_data(tiny_model)
    assert error_of(result) == (
        "the text makes no rows: its documents are empty or the teacher cannot read them"
    )
    assert result.exit_code == USAGE


def test_an_interrupt_has_a_code_of_its_own(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        # As a batch system ends a job.
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(pipeline, "_load", interrupted)
    result = on_data(tiny_model)
    assert result.stderr == "interrupted; the same command goes on where it stopped\n"
    assert result.exit_code == INTERRUPTED
