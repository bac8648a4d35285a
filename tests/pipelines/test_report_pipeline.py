"""From folders of results to the files of a report."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from written_runs import write_run

from suite.errors import ConfigError, RecordError
from suite.pipelines.report import plan_report, write_run_report
from suite.pipelines.report_options import ReportOptions
from suite.pipelines.track import add_run
from suite.records import Estimate, Table
from suite.report.fidelity_record import (
    FidelityModel,
    FidelityRecord,
    OwnFigures,
    TaskFidelity,
    TextFidelity,
    fidelity_json,
)
from suite.report.regression_style import RegressionReport

GOOD = [1] * 90 + [0] * 10
POOR = [1] * 40 + [0] * 60
CONFIG = {"model": "hf", "model_args": {}, "model_dtype": "bfloat16"}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportOptions:
    """Two models on one task, with their items."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    write_run(tmp_path / "runs" / "good", "org/good", {"quiz": GOOD}, config=CONFIG)
    write_run(tmp_path / "runs" / "poor", "org/poor", {"quiz": POOR}, config=CONFIG)
    return ReportOptions((tmp_path / "runs",), tmp_path / "report")


def lines_of(options: ReportOptions) -> list[dict[str, str]]:
    with (options.output / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("use_cache", [True, False])
def test_folders_of_lm_eval_become_a_table_with_tests(
    options: ReportOptions, use_cache: bool
) -> None:
    chosen = replace(options, reference="org/good", use_cache=use_cache)
    written = write_run_report(chosen)
    assert {path.name for path in written.files} == {
        "table.md", "table.tex", "table.csv", "table.svg", "results.json", "index.html",
    }  # fmt: skip
    good, poor = (line for line in lines_of(chosen) if line["label"] == "quiz")
    assert (good["rank"], good["test"], good["section"]) == ("best", "", "original")
    assert (poor["delta"], poor["significant"], poor["test"]) == ("-0.5", "true", "exact McNemar")
    assert poor["weights"] == "bfloat16"
    text = (chosen.output / "table.md").read_text(encoding="utf-8")
    assert "**90.0**" in text
    assert "40.0†" in text


def test_each_style_has_its_own_content(options: ReportOptions) -> None:
    delta = write_run_report(replace(options, reference="org/good", style="delta"))
    assert isinstance(delta.content, Table)
    assert [row.kind for row in delta.content.rows] == ["scores", "delta"]
    verdicts = write_run_report(replace(options, reference="org/good", style="regression"))
    assert isinstance(verdicts.content, RegressionReport)
    assert [row.verdict for row in verdicts.content.tables[0].rows] == ["regressed"]
    page = (options.output / "index.html").read_text(encoding="utf-8")
    assert "org/poor against org/good" in page
    assert "▼ regressed" in page
    assert "Differences from org/good" in page
    assert "Question 60:" in page


def test_a_run_without_samples_is_compared_unpaired_and_the_report_says_so(
    options: ReportOptions,
) -> None:
    write_run(options.runs[0] / "closed", "org/closed", {"quiz": POOR}, with_samples=False)
    write_run_report(replace(options, reference="org/good"))
    line = next(line for line in lines_of(options) if line["model"] == "org/closed")
    assert (line["paired"], line["rank"]) == ("false", "")
    text = (options.output / "table.md").read_text(encoding="utf-8")
    assert "quiz: org/closed unpaired with org/good" in text
    assert "No rank in quiz: no items of org/closed" in text


def test_other_shots_are_told_and_not_compared(options: ReportOptions) -> None:
    write_run(options.runs[0] / "shots", "org/shots", {"quiz": POOR}, shots=5)
    write_run_report(replace(options, reference="org/good"))
    line = next(line for line in lines_of(options) if line["model"] == "org/shots")
    assert (line["p"], line["note"]) == ("", "not comparable with org/good")
    text = (options.output / "table.md").read_text(encoding="utf-8")
    assert "org/shots is not compared with org/good on quiz" in text
    assert "shots" in text


def test_other_items_are_joined_on_request(options: ReportOptions) -> None:
    write_run(options.runs[0] / "short", "org/short", {"quiz": POOR[:50]})
    asked = replace(options, reference="org/good", models=("org/good", "org/short"))
    write_run_report(asked)
    assert next(x for x in lines_of(asked) if x["model"] == "org/short")["p"] == ""
    write_run_report(replace(asked, shared_items=True))
    assert next(x for x in lines_of(asked) if x["model"] == "org/short")["p"] != ""
    text = (options.output / "table.md").read_text(encoding="utf-8")
    assert "compared on 50 shared items" in text


def test_a_damaged_file_of_samples_leaves_the_score_and_a_note(options: ReportOptions) -> None:
    path = next((options.runs[0] / "poor").glob("samples_*"))
    path.write_text("{broken\n", encoding="utf-8")
    write_run_report(replace(options, reference="org/good"))
    line = next(line for line in lines_of(options) if line["model"] == "org/poor")
    assert (line["value"], line["paired"]) == ("0.4", "false")


def test_a_model_in_two_folders_is_named_after_them(options: ReportOptions) -> None:
    write_run(options.output.parent / "again", "org/good", {"quiz": POOR})
    twice = replace(options, runs=(*options.runs, options.output.parent / "again"))
    content = write_run_report(twice).content
    assert isinstance(content, Table)
    names = ["org/good (runs)", "org/poor", "org/good (again)"]
    assert [row.model.name for row in content.rows] == names
    renamed = replace(twice, renames=(("org/good (again)", "new"),), reference="new")
    content = write_run_report(renamed).content
    assert isinstance(content, Table)
    assert [row.model.name for row in content.rows] == ["org/good (runs)", "org/poor", "new"]


def test_repeated_runs_are_shown_on_request(options: ReportOptions) -> None:
    write_run(
        options.runs[0] / "good", "org/good", {"quiz": POOR}, stamp="2026-02-02T03-04-05.000001"
    )
    only_newest = plan_report(options).runs
    assert len(only_newest.models) == 2
    names = [model.name for model in plan_report(replace(options, all_runs=True)).runs.models]
    assert sorted(names) == ["org/good (run 1)", "org/good (run 2)", "org/poor"]


def test_the_single_tasks_of_a_group_are_shown_only_on_request(options: ReportOptions) -> None:
    path = next((options.runs[0] / "good").glob("results_*"))
    data = json.loads(path.read_text(encoding="utf-8"))
    data["results"]["all"] = {"alias": "all", "acc,none": 0.9, "acc_stderr,none": 0.03}
    data["groups"] = {"all": data["results"]["all"]}
    data["group_subtasks"] = {"all": ["quiz"], "quiz": []}
    path.write_text(json.dumps(data), encoding="utf-8")
    chosen = plan_report(replace(options, models=("org/good",))).runs
    assert [column.label for column in chosen.columns] == ["all"]
    assert chosen.notes == ("1 single task of groups is not shown; --task NAME shows one of them",)
    chosen = plan_report(replace(options, models=("org/good",), tasks=("quiz",))).runs
    assert [column.label for column in chosen.columns] == ["quiz"]


def test_groups_move_models_to_other_sections(options: ReportOptions) -> None:
    groups = (("org/poor", "controls"),)
    write_run_report(replace(options, groups=groups))
    assert {line["model"]: line["section"] for line in lines_of(options)} == {
        "org/good": "original",
        "org/poor": "controls",
    }
    assert all(line["rank"] == "" for line in lines_of(options))


@pytest.mark.parametrize(("max_flips", "is_shown"), [(5_000, True), (0, False)])
def test_the_page_shows_as_many_flips_as_asked_for(
    options: ReportOptions, max_flips: int, is_shown: bool
) -> None:
    write_run_report(replace(options, reference="org/good", max_flips=max_flips))
    page = (options.output / "index.html").read_text(encoding="utf-8")
    assert ("Question 60:" in page) == is_shown


def test_a_plan_names_rows_columns_tests_and_files_and_writes_none(options: ReportOptions) -> None:
    plan = plan_report(replace(options, reference="org/good"))
    assert [model.name for model in plan.runs.models] == ["org/good", "org/poor"]
    assert (plan.metrics, plan.num_comparisons, len(plan.files)) == (("acc",), 1, 6)
    assert not options.output.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"reference": "org/bad-one"},
            "--reference: no model 'org/bad-one'; known: org/good, org/poor",
        ),
        ({"teacher": "x"}, "--teacher: no model 'x'; known: org/good, org/poor"),
        ({"models": ("x",)}, "--model: no model 'x'; known: org/good, org/poor"),
        ({"tasks": ("quizz",)}, "--task: no task 'quizz'; did you mean 'quiz'?"),
        ({"metrics": (("quiz", "f1"),)}, "--metric quiz: no metric 'f1'; known: acc"),
        ({"metrics": (("x", "acc"),)}, "--metric: no task 'x'; known: quiz"),
        ({"clusters": (("x", "field"),)}, "--cluster: no task 'x'; known: quiz"),
        ({"renames": (("x", "y"),)}, "--rename: no model 'x'; known: org/good, org/poor"),
        (
            {"renames": (("org/good", "org/poor"),)},
            "--rename: two models would be called 'org/poor'; give another name",
        ),
        (
            {"style": "delta"},
            "--style delta needs --reference NAME; models: org/good, org/poor",
        ),
        (
            {"style": "regression", "reference": "org/good", "models": ("org/good",)},
            "--style regression compares models, and there is only org/good; name another run",
        ),
        (
            {"style": "regression", "reference": "org/good", "published": "alm-table-1"},
            "--published has no place in --style regression; leave one of the two out",
        ),
        ({"level": 95.0}, "--level is 95; give a number between 0 and 1, as 0.95"),
        ({"margin": -0.1}, "--margin is -0.1; give 0 or more, as 0.02"),
        (
            {"reference": "org/good", "start": "org/poor"},
            "--start: no other model is in the section transferred; --group NAME=transferred puts "
            "one there",
        ),
        (
            {"teacher": "org/good", "groups": (("org/good", "transferred"),)},
            "--teacher: no other model is in the section transferred; --group NAME=transferred "
            "puts one there",
        ),
        (
            {"style": "delta", "reference": "org/good", "start": "org/poor"},
            "--teacher and --start have no place in --style delta; leave them out",
        ),
        (
            {"fidelity": (Path("nope.json"),)},
            "--fidelity nope.json: there is no such file; suite fidelity writes it",
        ),
        (
            {"start": "org/poor"},
            "--start needs --teacher NAME: it is where the gap to the teacher begins",
        ),
    ],
)
def test_wrong_input_is_one_sentence(
    options: ReportOptions, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError) as error:
        write_run_report(replace(options, **changes))  # type: ignore[arg-type]
    assert str(error.value) == sentence


def test_counts_of_one_are_singular(options: ReportOptions) -> None:
    table = write_run_report(replace(options, models=("org/good",))).content
    assert isinstance(table, Table)
    assert table.provenance["Runs"] == "1 result of 1 model, written by lm-eval"


def test_a_folder_without_results_is_one_sentence(options: ReportOptions, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((ConfigError, RecordError), match="empty"):
        write_run_report(replace(options, runs=(tmp_path / "empty",)))


def test_a_place_that_cannot_be_written_is_one_sentence(options: ReportOptions) -> None:
    options.output.write_text("a file", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"cannot write to .*report \(.+\); give another --output"
    ):
        write_run_report(options)


def test_the_json_holds_the_evidence_unrounded(options: ReportOptions) -> None:
    write_run_report(replace(options, reference="org/good"))
    data = json.loads((options.output / "results.json").read_text(encoding="utf-8"))
    versus = data["table"]["rows"][1]["cells"][0]["evidence"]["versus_reference"]
    assert (versus["num_better"], versus["num_worse"], versus["paired"]) == (0, 50, True)
    assert data["run_files"]


def test_curves_of_a_series_and_rows_of_fidelity_are_on_the_page(
    options: ReportOptions, tmp_path: Path
) -> None:
    store = tmp_path / "track"
    for step, name in ((1, "poor"), (2, "good")):
        add_run(options.runs[0] / name, "fine-tuning", step, store=store, model=f"org/{name}")
    known = Estimate(0.8125, 0.75, 0.875, 0.95, 100, "t")
    record = FidelityRecord(
        models=(FidelityModel("teacher", "path:a", "a"),),
        overall=TaskFidelity("all tasks", 100, {"teacher": OwnFigures(known, known, known)}, {}),
        tasks=(),
        text=TextFidelity("a.txt", 1, 10, "kl", {}, {}),
    )
    file = tmp_path / "fidelity.json"
    file.write_text(fidelity_json(record), encoding="utf-8")
    write_run_report(replace(options, series=("fine-tuning",), store=store, fidelity=(file,)))
    page = (options.output / "index.html").read_text(encoding="utf-8")
    assert "Brier score, teacher" in page
    assert "quiz over checkpoints" in page


def test_no_torch_is_loaded(options: ReportOptions) -> None:
    code = (
        "import sys\n"
        "from suite.cli.report import report\n"
        f"report(['{options.runs[0]}', '--reference', 'org/good', '--output',"
        f" '{options.output}'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
