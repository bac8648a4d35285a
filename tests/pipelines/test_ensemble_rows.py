"""Ensembles in a run, on tiny models: scored rows, fitted weights, and rows from samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from suite.ensemble.weights import WeightFit
from suite.errors import ModelError
from suite.harness.ensemble_backend import SuiteEnsembleLM
from suite.models.entry import ModelConfig
from suite.models.manifest import write_manifest
from suite.models.tiny import write_tiny_model
from suite.pipelines import session
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_benchmark import BenchmarkResult, RunOptions, run_benchmark
from suite.records import Cell, Table

CHOICE, BITS = "suite_arithmetic_choice", "suite_bits_per_byte"
SETTINGS: dict[str, dict[str, Any]] = {
    "mean": {"combine": "mean_probs"},
    "first only": {"combine": "mean_probs", "weights": [1, 0]},
    "fitted": {"combine": "mean_probs", "weights": {"fit": {"items": 4}}},
    "words": {"combine": "word_mixture"},
    "vote": {"combine": "majority_vote", "development": {"items": 4}},
    "best": {"combine": "best_member", "development": {"items": 4}},
    "oracle": {"combine": "best_member_per_task"},
    "any": {"combine": "any_member_correct"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(f"tiny{seed}") for seed in range(2)]
    for seed, folder in enumerate(folders):
        write_manifest(folder, write_tiny_model(folder, seed=seed))
    return folders


def recipe_of(models: list[Path], settings: dict[str, dict[str, Any]], **changes: Any) -> Recipe:
    singles = [{"name": n, "source": {"path": f}} for n, f in zip("ab", models, strict=True)]
    ensembles = [
        {"name": name, "ensemble": {"members": ["a", "b"], **given}}
        for name, given in settings.items()
    ]
    data = {"title": "T", "models": [*singles, *ensembles], "tasks": [CHOICE, BITS], "limit": 3}
    return Recipe.model_validate(data | changes)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def result(models: list[Path], output: Path) -> BenchmarkResult:
    return run_benchmark(recipe_of(models, SETTINGS), RunOptions(output))


@pytest.fixture(scope="module")
def table(result: BenchmarkResult) -> Table:
    assert result.failures == ()
    assert result.table is not None
    return result.table


def cells(table: Table, name: str) -> tuple[Cell, ...]:
    return next(row.cells for row in table.rows if row.model.name == name)


def values(table: Table, name: str) -> list[float | None]:
    return [cell.value for cell in cells(table, name)]


def test_all_weight_on_one_member_gives_its_scores(table: Table) -> None:
    assert values(table, "first only") == pytest.approx(values(table, "a"))


def test_the_best_member_per_task_has_the_better_score_of_each(table: Table) -> None:
    for index, best in enumerate((max, min)):
        both = (cells(table, "a")[index].value, cells(table, "b")[index].value)
        assert None not in both
        assert cells(table, "oracle")[index].value == best(v for v in both if v is not None)


def test_the_best_member_is_one_of_the_members(table: Table) -> None:
    for index, cell in enumerate(cells(table, "best")):
        assert cell.value in (cells(table, "a")[index].value, cells(table, "b")[index].value)


def test_the_ceiling_is_above_every_member_and_the_vote(table: Table) -> None:
    ceiling = cells(table, "any")[0].value
    assert ceiling is not None
    assert all(ceiling >= (cells(table, name)[0].value or 0) for name in ("a", "b", "vote"))


def test_a_vote_on_whole_texts_is_a_dash_with_the_reason(table: Table) -> None:
    assert cells(table, "vote")[1].note == (
        "from samples: bits_per_byte is not the mean of a value for each item"
    )


def test_rows_from_samples_are_marked_in_every_format(table: Table, output: Path) -> None:
    for name in ("table.md", "table.tex", "table.csv", "results.json", "index.html"):
        text = " ".join((output / name).read_text(encoding="utf-8").split())
        assert "from samples: majority vote of a + b" in text
    for name in ("table.md", "table.tex", "results.json", "index.html"):
        text = " ".join((output / name).read_text(encoding="utf-8").split())
        assert "computed from their members" in text


def results_of(output: Path, name: str, label: str) -> dict[str, Any]:
    for path in (output / name).glob("results_*.json"):
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["suite"]["label"] == label:
            return data
    raise AssertionError(f"{name} on {label} is not there")


def test_fitted_weights_are_in_the_results_file_and_under_the_table(
    table: Table, output: Path
) -> None:
    facts = results_of(output, "fitted", CHOICE)["suite"]
    weights = facts["ensemble_weights"]
    assert sum(weights) == pytest.approx(1)
    fit = facts["weights_fit"]
    assert (fit["task"], fit["split"], fit["num_items"], fit["converged"]) == (
        CHOICE,
        "train",
        4,
        True,
    )
    shown = f"{CHOICE} {weights[0]:.2f} : {weights[1]:.2f}"
    assert any(note.startswith(f"fitted: weights a : b fitted for {shown}") for note in table.notes)


def test_members_rule_and_dropped_mass_are_in_the_results_file(table: Table, output: Path) -> None:
    config = results_of(output, "mean", CHOICE)["config"]["ensemble"]
    assert [member["name"] for member in config["members"]] == ["a", "b"]
    assert (config["combine"], config["weights"]) == ("mean_probs", [0.5, 0.5])


def test_development_items_are_no_items_of_the_table(table: Table, output: Path) -> None:
    label = f"{CHOICE}, 4 train items"
    facts = results_of(output, "a", label)["suite"]
    assert facts["development"] == {"task": None, "split": "train", "items": 4}
    assert label not in [column.label for column in table.columns]


def test_a_repeated_call_scores_nothing_again_and_gives_the_same_table(
    models: list[Path], output: Path, result: BenchmarkResult, table: Table
) -> None:
    before = (output / "table.md").read_text(encoding="utf-8")
    again = run_benchmark(recipe_of(models, SETTINGS), RunOptions(output))
    assert (again.num_scored, again.num_skipped) == (0, result.num_scored)
    assert (output / "table.md").read_text(encoding="utf-8") == before


def test_other_weights_are_another_run(
    models: list[Path], output: Path, result: BenchmarkResult
) -> None:
    changed = {"mean": {"combine": "mean_probs", "weights": [0.25, 0.75]}}
    again = run_benchmark(recipe_of(models, changed, tasks=[CHOICE]), RunOptions(output))
    assert (again.num_scored, again.num_skipped) == (1, 2)


def test_a_member_that_cannot_be_loaded_fails_its_ensembles_and_no_other_row(
    models: list[Path], tmp_path: Path
) -> None:
    broken = shutil.copytree(models[1], tmp_path / "broken")
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    settings = {"mean": SETTINGS["mean"], "any": SETTINGS["any"]}
    recipe = recipe_of([models[0], broken], settings, tasks=[CHOICE])
    result = run_benchmark(recipe, RunOptions(tmp_path / "out"))
    assert {failure.model for failure in result.failures} == {"b", "mean", "any"}
    start = f"model 'b': {broken / 'model.safetensors'} is damaged"
    assert all(failure.reason.startswith(start) for failure in result.failures)
    assert result.num_scored == 1


def test_a_whole_member_that_cannot_be_loaded_is_named_as_a_member(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"mean": SETTINGS["mean"]}
    recipe = recipe_of(models, settings, tasks=[CHOICE])
    plan = session.plan_model

    def plan_model(entry: ModelConfig, console: Any) -> Any:
        if entry.name == "b":
            raise ModelError("the file is gone; copy it again")
        return plan(entry, console)

    monkeypatch.setattr(session, "plan_model", plan_model)
    result = run_benchmark(recipe, RunOptions(tmp_path))
    assert {failure.model: failure.reason for failure in result.failures} == {
        "b": "the file is gone; copy it again",
        "mean": "member 'b': the file is gone; copy it again",
    }


def test_a_fit_that_did_not_converge_is_said_under_the_table(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = WeightFit((0.25, 0.75), -1.0, 4, 9, converged=False)
    monkeypatch.setattr(SuiteEnsembleLM, "fit_weights", lambda self, pairs: fit)
    monkeypatch.setattr("suite.pipelines.scoring.describe_hardware", lambda *on: " + ".join(on))
    recipe = recipe_of(models, {"fitted": SETTINGS["fitted"]}, tasks=[CHOICE])
    table = run_benchmark(recipe, RunOptions(tmp_path)).table
    assert table is not None
    note = f"fitted: weights a : b fitted for {CHOICE} 0.25 : 0.75 (the fit did not converge)"
    assert note in table.notes
    # Every member's device is told.
    assert table.provenance["Hardware"] == "cpu; cpu + cpu"


def test_a_vote_among_members_with_no_development_split_says_whom_ties_go_to(
    models: list[Path], tmp_path: Path
) -> None:
    settings = {"vote": {"combine": "majority_vote", "development": {"split": "validation"}}}
    recipe = recipe_of(models, settings, tasks=[CHOICE])
    result = run_benchmark(recipe, RunOptions(tmp_path))
    assert result.failures == ()
    assert result.table is not None
    assert cells(result.table, "vote")[0].value is not None
    assert any(
        note.startswith(f"vote on {CHOICE}: ties go to the member named first (task '{CHOICE}' has")
        for note in result.table.notes
    )
