"""`suite bench`: what it prints, and the line and exit code of what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from suite.cli.main import main
from suite.pipelines.bench import parity as parity_module
from suite.pipelines.bench import startup as startup_module
from suite.pipelines.bench.parity import OUR_BEGIN_TOKENS, Parity
from suite.pipelines.bench.startup import StartupTime
from suite.pipelines.recipe import Recipe

FAILED, USAGE = 1, 2

RECIPE = "title: Tiny\nmodels: [{name: tiny, source: {random: tiny}}]\ntasks: [suite_spell]\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def rolling(options: str, *, num_different: int) -> Parity:
    return Parity(
        backend="hf",
        model="tiny",
        weights="float32",
        dtype="float32",
        device="cpu",
        task="text",
        output_type="loglikelihood_rolling",
        num_items=3,
        num_answers=3,
        num_different=num_different,
        num_apart=num_different,
        max_difference=0.5 * num_different,
        upstream_options=options,
        upstream_scores={},
        our_scores={},
    )


def pretend(monkeypatch: pytest.MonkeyPatch, *rows: Parity) -> None:
    """Let a comparison come out as given."""

    def measure(recipe: Recipe, backends: Sequence[str]) -> list[Parity]:
        return list(rows)

    monkeypatch.setattr(parity_module, "measure_parity", measure)


def test_startup_prints_its_file_and_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = StartupTime("python -c pass", 0.02, 1.0, 5)
    monkeypatch.setattr(startup_module, "measure_startup", lambda: [row])
    result = call("startup", "--output", tmp_path / "out")
    path = tmp_path / "out" / "startup.json"
    text = path.read_text(encoding="utf-8")
    assert (result.exit_code, result.stdout) == (0, f"{text}\n{path}\n")
    assert json.loads(text)["rows"][0]["command"] == "python -c pass"


def test_an_output_that_is_a_file_is_refused_before_anything_is_measured(recipe: Path) -> None:
    for arguments in (["startup"], ["recipe", recipe], ["parity", recipe]):
        result = call(*arguments, "--output", recipe)
        assert result.stderr == (
            f"error: cannot write to {recipe} (File exists); give another --output\n"
        )
        assert result.exit_code == USAGE


def test_a_model_beyond_parity_is_refused(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("}}", "}, chat: {template: true}}"), encoding="utf-8")
    result = call("parity", recipe, "--output", tmp_path / "out")
    assert result.stderr == (
        "error: model 'tiny' uses chat.template; parity is for models without it\n"
    )
    assert result.exit_code == USAGE


def test_a_distance_that_is_only_shown_is_no_failure(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (rolling(OUR_BEGIN_TOKENS, num_different=0), rolling("", num_different=3))
    pretend(monkeypatch, *rows)
    result = call("parity", recipe, "--output", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    written = json.loads((tmp_path / "out" / "parity.json").read_text(encoding="utf-8"))["rows"]
    assert [row["num_different"] for row in written] == [0, 3]


def test_a_difference_is_written_printed_and_fails(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, rolling(OUR_BEGIN_TOKENS, num_different=1))
    result = call("parity", recipe, "--output", tmp_path / "out")
    assert result.stderr == "error: scores differ from lm-eval's: tiny on text (hf)\n"
    assert result.exit_code == FAILED
    assert str(tmp_path / "out" / "parity.json") in result.stdout
