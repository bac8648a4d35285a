"""`suite transplant` on the command line: what it prints, and the line for each wrong call."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suite.cli.main import main

USAGE, INTERRUPTED = 2, 75


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a text; the command changes what SIGTERM does, which is put back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("in the other thing\n" * 3, encoding="utf-8")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def call(model: Path, tokenizer: str | Path, *arguments: str) -> Result:
    target = tokenizer if isinstance(tokenizer, str) else f"path:{tokenizer}"
    fixed = ["transplant", "--model", f"path:{model}", "--tokenizer", target, "--output", "new"]
    return CliRunner().invoke(main, [*fixed, "--text", "text.txt", *arguments])


def test_counts_and_bits_per_byte_are_printed(
    tiny_model_bos: Path, tiny_model_merges: Path, here: Path
) -> None:
    result = call(tiny_model_bos, tiny_model_merges, "--method", "fvt")
    assert result.exit_code == 0, result.output
    facts = json.loads((here / "new" / "manifest.json").read_text(encoding="utf-8"))["facts"]
    bits = facts["bits_per_byte"]
    assert result.stdout.splitlines() == [
        f"model                 path:{tiny_model_bos}",
        f"tokenizer             path:{tiny_model_merges}",
        "method                fvt",
        "special tokens        the model's own, behind the regular tokens",
        "rows                  264",
        "  shared              256 regular tokens",
        "  copied              259, 3 of them special",
        "  composed            5",
        "  unused              0",
        "text                  text.txt, 57 bytes",
        f"bits per byte before  {bits['before']:.3f}",
        f"bits per byte after   {bits['after']:.3f}",
        "new",
    ]


def test_every_option_reaches_the_plan(
    tiny_model_bos: Path, tiny_model_merges: Path, here: Path
) -> None:
    arguments = ("--method", "omp", "--k", "7", "--special-tokens", "replace", "--dry-run")
    result = call(tiny_model_bos, tiny_model_merges, *arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "method          omp, k = 7" in lines
    assert "special tokens  the tokenizer's" in lines
    assert lines[-1].startswith("note: the new tokenizer puts no begin token before a text")
    assert not (here / "new").exists()


def test_a_byte_student_is_said_to_have_two_matrices(tiny_model: Path) -> None:
    result = call(tiny_model, "bytes", "--method", "fvt", "--dry-run")
    assert result.stdout.splitlines()[-1] == (
        "note: input and output embeddings of a byte model are two matrices, at first equal where"
        " the model had one"
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_and_is_said_to_begin_anew(
    tiny_model_bos: Path,
    tiny_model: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    sent: signal.Signals,
) -> None:
    def interrupted(*given: object) -> None:
        os.kill(os.getpid(), sent)

    # A process that was started in the background may ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    monkeypatch.setattr("suite.pipelines.transplant.save_folder", interrupted)
    result = call(tiny_model_bos, tiny_model, "--method", "mean")
    assert result.exit_code == INTERRUPTED
    assert result.stderr.splitlines()[-1] == "interrupted; the same command starts over"
    assert [path.name for path in here.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("tokenizer", "arguments", "expected"),
    [
        (
            "bytes",
            ("--method", "omp"),
            "suite transplant: omp needs a model that owns the tokenizer, and bytes has none;"
            " use fvt",
        ),
        (
            "bytes",
            ("--method", "fvt", "--special-tokens", "replace"),
            "suite transplant: bytes has no special tokens of its own; use special_tokens: keep",
        ),
        (
            "random:tiny",
            ("--method", "fvt", "--k", "3"),
            "suite transplant: k has no effect with fvt; leave it out",
        ),
        (
            "random:tiny",
            ("--method", "omp", "--seed", "3"),
            "suite transplant: seed has no effect with omp; leave it out",
        ),
        (
            "byte",
            ("--method", "fvt"),
            "--tokenizer byte: expected one of hub:..., path:..., gguf:..., package:...,"
            " random:...",
        ),
    ],
)
def test_a_wrong_call_is_one_line(
    tiny_model: Path, tokenizer: str, arguments: tuple[str, ...], expected: str
) -> None:
    result = call(tiny_model, tokenizer, *arguments)
    assert result.stderr == f"error: {expected}\n"
    assert result.exit_code == USAGE
