"""What README says exists, exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from suite.cli.main import INTERRUPTED, main
from suite.errors import ConfigError, NotComparableError, SuiteError
from suite.pipelines.recipe import Recipe, packaged_recipes
from suite.report.write import write_report
from suite.track.look_report import INCONCLUSIVE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORTS = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README + REPORTS, flags=re.DOTALL)
LINES = [line for _, text in BLOCKS for line in text.splitlines()]


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_lead_to_files_of_the_project(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\S+)", "\n".join(LINES), re.M))))
def test_make_targets_exist(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("suite ")])
def test_commands_and_their_options_exist(line: str) -> None:
    # What follows a bare -- are lm-eval's own options.
    words = re.sub(r"\s([>#]|-- ).*", "", line).split()[1:]
    command = main.commands[words[0]]
    if isinstance(command, click.Group):
        command = command.commands[words[1]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_example_recipe_is_valid() -> None:
    [text] = [text for language, text in BLOCKS if language == "yaml" and "models:" in text]
    recipe = Recipe.model_validate(yaml.safe_load(text))
    assert recipe.reference == "before"


def test_every_packaged_recipe_is_named() -> None:
    assert all(f"`{name}`" in README for name in packaged_recipes())


def test_exit_codes_are_those_of_the_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    of_errors = {SuiteError.exit_code, ConfigError.exit_code, NotComparableError.exit_code}
    assert codes == {0, INCONCLUSIVE, INTERRUPTED, *of_errors}


def test_the_first_commands_are_the_two_that_a_newcomer_types() -> None:
    commands = [line.split("#")[0].strip() for line in LINES if line.startswith("make ")]
    assert commands[:2] == ["make benchmark", "make test"]


def test_every_file_of_a_run_is_named() -> None:
    assert write_report.__doc__ is not None
    for name in ("table.md", "table.tex", "table.csv", "results.json", "index.html"):
        assert name in README


def test_the_schema_command_prints_the_recipes_keys() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert all(f'"{key}"' in result.output for key in Recipe.model_fields)


def test_the_example_in_python_runs(
    tiny_model_merges: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = [text for language, text in BLOCKS if language == "python"]
    monkeypatch.chdir(tiny_model_merges.parent)
    (tiny_model_merges.parent / "teacher").symlink_to(tiny_model_merges)
    names: dict[str, Any] = {}
    exec(code, names)
    chunks = names["chunks"]
    assert chunks.byte_spans[-1, 1] == len("It is 4.")
    assert len(chunks.teacher_spans) == len(chunks.student_spans) == len(chunks)
