"""`suite distill` on the command line, and `suite cache-teacher` with its recipes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from suite.cli.main import main

USAGE = 2
SFT = {"name": "sft"}
TINY = {"source": {"random": "tiny"}, "device": "cpu"}
RECIPE = {
    "kind": "distill",
    "title": "Tiny",
    "student": TINY | {"name": "student"},
    "teachers": [TINY | {"name": "teacher"}],
    "data": {"path": "data.jsonl", "shuffle": False},
    "pack": {"length": 64},
    "losses": [{"name": "alm"}],
    "training": {"steps": 3, "rows_per_step": 2, "device": "cpu"},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps({"text": f"Text {number}"}) + "\n" for number in range(3))
    (tmp_path / "data.jsonl").write_text(lines, encoding="utf-8")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def call(command: str, *arguments: str, recipe: dict[str, Any] = RECIPE, **changes: Any) -> Result:
    Path("mine.yaml").write_text(yaml.safe_dump(recipe | changes), encoding="utf-8")
    return CliRunner().invoke(main, [command, "mine.yaml", *arguments])


def error_of(result: Result) -> str:
    assert result.exit_code == USAGE, result.output
    return result.stderr.strip().removeprefix("error: ")


def test_a_plan_names_student_and_teachers() -> None:
    result = call("distill", "--dry-run")
    assert result.exit_code == 0, result.output
    plan = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert plan["student"].strip() == plan["teacher"].strip() == "random:tiny"
    assert plan["losses, balance"].strip() == "alm; fixed"
    assert plan["written"].strip() == "recipe.json, log.jsonl"


def test_rows_that_the_student_cannot_read_are_refused() -> None:
    assert error_of(call("distill", "--dry-run", pack={"length": 600}, teachers=[], losses=[SFT]))
    assert error_of(call("distill", pack={"length": 600}, teachers=[], losses=[SFT])) == (
        "pack.length is 600, but random:tiny has 512 positions; give a smaller one"
    )


def test_a_stored_teacher_of_other_rows_is_refused_by_the_plan(here: Path) -> None:
    stored = call("cache-teacher", teacher_cache="cache")
    assert stored.exit_code == 0, stored.output
    assert call("distill", "--dry-run", teacher_cache="cache").exit_code == 0
    other = call("distill", "--dry-run", teacher_cache="cache", pack={"length": 32})
    assert other.exit_code != 0
    assert "isolated, 32 tokens, 256 bytes" in other.stderr


def test_a_recipe_of_the_other_command_is_refused() -> None:
    assert (
        error_of(call("transfer"))
        == "mine.yaml: kind is distill; give this recipe to suite distill"
    )


def test_the_teacher_of_a_recipe_is_stored_as_its_training_reads_it(here: Path) -> None:
    from suite.distill.teacher_cache import TeacherCache

    result = call("cache-teacher", teacher_cache="cache")
    assert result.exit_code == 0, result.output
    stored = TeacherCache.open(here / "cache")
    other = call("cache-teacher", "--output", "other", "--batch-tokens", "64")
    assert other.exit_code == 0, other.output
    assert TeacherCache.open(here / "other").num_tokens == stored.num_tokens
    assert stored.num_tokens == 21


def test_the_text_of_a_stored_teacher_may_be_given_with_the_call(here: Path) -> None:
    (here / "more.jsonl").write_text('{"text": "More"}\n')
    result = call("cache-teacher", "--data", "more.jsonl", "--output", "cache", "--dry-run")
    assert result.exit_code == 0, result.output
    plan = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert plan["documents"].strip() == "1"
    assert plan["rows"].strip() == "isolated, 64 tokens, 512 bytes"


def test_the_teacher_of_a_transfer_reads_for_the_student_to_be() -> None:
    kept = {key: RECIPE[key] for key in ("title", "data", "pack", "losses", "training")}
    recipe = {
        "kind": "transfer",
        "model": TINY | {"name": "model"},
        "target_tokenizer": {"random": "tiny-words"},
    }
    result = call("cache-teacher", "--output", "cache", "--dry-run", recipe=kept | recipe)
    assert result.exit_code == 0, result.output


STAGE = {
    "kind": "distill",
    "title": "First",
    "student": TINY | {"name": "student"},
    "data": {"path": "data.jsonl"},
    "losses": [{"name": "sft"}],
    "training": {"steps": 3},
}


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        ({}, [], "mine.yaml: no folder to fill; give --output, or teacher_cache in the recipe"),
        (
            {"losses": [{"name": "alm"}, {"name": "hidden_state"}]},
            [],
            "mine.yaml: losses[1]: hidden_state needs a live teacher, so a stored one would not be"
            " read; leave the loss out",
        ),
        (
            {"teachers": [], "first_stage": STAGE},
            ["--output", "cache"],
            "mine.yaml: its first stage makes the teacher when it trains; only a teacher that is"
            " there can be stored",
        ),
        (
            {"teachers": [TINY | {"name": "a"}, TINY | {"name": "b"}]},
            ["--output", "cache"],
            "mine.yaml: has 2 teachers, and a folder holds one; give a recipe with one",
        ),
        (
            {"teachers": [TINY | {"name": "a", "tokenizer": "org/name"}]},
            ["--output", "cache"],
            "mine.yaml: a teacher is stored with its own tokenizer; leave the key tokenizer out",
        ),
        (
            {},
            ["--output", "cache", "--length", "9"],
            "--length has no effect with a RECIPE, which says it itself; leave it out",
        ),
    ],
)
def test_what_cannot_be_stored_is_one_sentence(
    changes: dict[str, Any], arguments: list[str], expected: str
) -> None:
    assert error_of(call("cache-teacher", *arguments, **changes)) == expected


def test_a_teacher_that_writes_the_text_is_not_stored() -> None:
    recipe = {key: value for key, value in RECIPE.items() if key != "data"}
    result = call("cache-teacher", "--output", "c", recipe=recipe | {"teacher_samples": {"num": 2}})
    assert error_of(result) == (
        "mine.yaml: its teacher writes the text (teacher_samples) when it trains; only the teacher"
        " of a text that is there can be stored"
    )


def test_without_a_recipe_three_options_are_needed() -> None:
    result = CliRunner().invoke(main, ["cache-teacher", "--data", "data.jsonl"])
    assert error_of(result) == (
        "give a RECIPE, or --teacher, --data and --output (--teacher, --output missing)"
    )
