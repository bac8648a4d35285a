"""Runs on disk through the gate: with a store, and with nothing but an exported file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from suite.errors import ConfigError, NotComparableError
from suite.pipelines.track import CheckOptions, add_run, check_series, pin_run
from suite.pipelines.track_index import list_runs, rebuild_index
from suite.pipelines.track_plot import series_panels
from suite.results.index import ResultsIndex
from suite.track.gate import Margins
from suite.track.look_report import LookReport, report_to_json
from suite.track.looks import Spending

NUM = 200
OLD = {"a": [1.0, 0.0] * (NUM // 2), "b": [1.0] * NUM}
# Loses 30 items of b and wins none.
WORSE = OLD | {"b": [0.0] * 30 + [1.0] * (NUM - 30)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def add(name: str, step: int, scores: Any = OLD, **changes: Any) -> Path:
    write_run(Path(name), name, scores, **changes)
    add_run(Path(name), "s", step, store=Path("track"))
    return Path(name)


def pin(name: str = "old", scores: Any = OLD, **changes: Any) -> Path:
    write_run(Path(name), name, scores, **changes)
    pin_run(Path(name), "s", store=Path("track"), export=Path("ref.json"))
    return Path(name)


def check(**changes: Any) -> LookReport:
    return check_series(CheckOptions(series="s", store=Path("track"), **changes))


def verdicts(report: LookReport) -> dict[str, str]:
    return {task.task: task.verdict for task in report.tasks}


def test_a_drop_regresses_and_the_same_scores_pass() -> None:
    pin()
    add("new", 10, WORSE)
    report = check()
    assert (report.look, report.step, report.model) == (1, 10, "new")
    assert verdicts(report) == {"a": "inconclusive", "b": "regressed"}
    assert verdicts(check(margins=Margins(0.1, {"b": 0.2})))["a"] == "pass"
    assert report.tasks[1].num_worse == 30
    assert report.tasks[1].level == report.alpha / 2


def test_the_same_checkpoint_is_the_same_look_and_another_one_the_next() -> None:
    pin()
    first = add("new", 10, WORSE)
    assert check().look == 1
    assert check().look == 1
    add("newer", 20, OLD | {"b": [1.0] * (NUM - 1) + [0.0]})
    assert check().look == 2
    assert check(run=first).look == 1
    assert check(run=first).step == 10
    assert check().alpha == Spending().of_look(2)
    rows = list_runs(Path("track"))
    assert [(row.step, row.look, row.verdict) for row in rows] == [
        (None, None, None),
        (10, 1, "regressed"),
        (20, 2, "inconclusive"),
    ]
    assert [row.is_pinned for row in rows] == [True, False, False]


def test_a_checkpoint_scored_again_is_the_same_look_unless_an_item_differs() -> None:
    pin()
    add("new", 10, WORSE)
    before = check()
    assert before.look == 1
    later = {"stamp": "2026-02-03T04-05-06.000000", "date": 9.0, "total_evaluation_time_seconds": 7}
    write_run(Path("again"), "new", WORSE, **later)
    again = check(run=Path("again"))
    assert (again.look, again.step, again.tasks) == (1, 10, before.tasks)
    write_run(Path("once-more"), "new", WORSE | {"b": [0.0] * 31 + [1.0] * (NUM - 31)})
    other = check(run=Path("once-more"))
    assert (other.look, other.step) == (2, None)
    # The pinned run too is known by its scores.
    write_run(Path("old-again"), "old", OLD, **later)
    pin_run(Path("old-again"), "s", store=Path("track"))
    assert check().look == 1


def test_a_moved_run_is_checked_where_it_is_and_mended_as_the_message_says(here: Path) -> None:
    pin()
    add("new", 10, WORSE)
    shutil.move("new", "moved")
    with pytest.raises(ConfigError) as error:
        check()
    [results] = Path("moved").glob("results_*")
    assert str(error.value) == (
        f"{here / 'new' / results.name}: cannot be read (No such file or directory); put the file"
        " back, or add the run again with --replace"
    )
    report = check(run=Path("moved"))
    assert (report.step, report.verdict) == (10, "regressed")
    add_run(Path("moved"), "s", 10, store=Path("track"))
    assert check().tasks == report.tasks


def test_a_step_with_the_scores_of_another_one_keeps_its_number() -> None:
    pin()
    add("new", 10, WORSE)
    write_run(Path("copy"), "new", WORSE)
    add_run(Path("copy"), "s", 20, store=Path("track"))
    assert [check(run=Path(name)).step for name in ("new", "copy")] == [10, 20]


def test_an_export_that_fails_leaves_the_pinned_run() -> None:
    pin()
    before = Path("track/s/pinned.json").read_text(encoding="utf-8")
    write_run(Path("new"), "new", WORSE)
    Path("file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write file/ref\.json"):
        pin_run(Path("new"), "s", store=Path("track"), export=Path("file/ref.json"))
    assert Path("track/s/pinned.json").read_text(encoding="utf-8") == before


def test_a_replaced_run_is_another_look() -> None:
    pin()
    add("new", 10, WORSE)
    assert check().look == 1
    write_run(Path("again"), "again", OLD)
    add_run(Path("again"), "s", 10, store=Path("track"), replace=True)
    assert check().look == 2


def test_looks_are_counted_for_each_pinned_run() -> None:
    pin()
    add("new", 10, WORSE)
    check()
    pin("other", OLD | {"b": [1.0] * 199 + [0.0]})
    assert check(spending=Spending(0.01)).look == 1
    pin_run(Path("old"), "s", store=Path("track"))
    assert check().look == 1
    add("newer", 20)
    assert check().look == 2


def test_the_file_alone_gives_the_same_verdicts_as_the_store(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(system_instruction="Be good.", chat_template="{{ messages }}")
    add("new", 10, WORSE, system_instruction="Be good.", chat_template="{{ messages }}")
    whole = check()
    runner = here / "runner"
    runner.mkdir()
    shutil.copytree("new", runner / "new")
    shutil.copy("ref.json", runner)
    monkeypatch.chdir(runner)
    monkeypatch.setenv("SUITE_CACHE", str(runner / "cache"))
    alone = check(run=Path("new"), reference=Path("ref.json"), look=1)
    assert alone.tasks == whole.tasks
    assert alone.notes == whole.notes
    assert alone.checkpoint == whole.checkpoint
    assert sorted(path.name for path in runner.iterdir()) == ["new", "ref.json"]
    planned = check(run=Path("new"), reference=Path("ref.json"), spending=Spending(planned_looks=5))
    assert (planned.look, planned.alpha) == (None, 0.05 / 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"run": Path("new"), "reference": Path("ref.json")},
            "--reference without a store cannot count looks; say which look of the series this is"
            " with --look N, or how many there will be with --planned-looks K",
        ),
        (
            {"reference": Path("ref.json"), "look": 1},
            "--reference needs the checkpoint's run: suite track check S RUN",
        ),
        (
            {"run": Path("new"), "reference": Path("none.json"), "look": 1},
            "none.json: cannot be read (No such file or directory); export it again with suite"
            " track pin --export",
        ),
        (
            {"margins": Margins(0.02, {"c": 1.0})},
            "--margin c: the pinned run has no such task; known: a, b",
        ),
        ({"run": Path("nowhere")}, "nowhere does not exist; give the folder of a run"),
        (
            {"run": Path("new"), "model": "nwe"},
            "new has no results of model 'nwe'; did you mean 'new'?",
        ),
    ],
)
def test_wrong_input_is_one_sentence(changes: dict[str, Any], said: str) -> None:
    pin()
    add("new", 10, WORSE)
    with pytest.raises(ConfigError) as error:
        check(**changes)
    assert str(error.value) == said


def test_without_a_pinned_run_there_is_nothing_to_compare_with(here: Path) -> None:
    add("new", 10, WORSE)
    with pytest.raises(ConfigError) as error:
        check()
    assert str(error.value) == (
        f"series s in {here / 'track'} has no pinned run; give it one with suite track pin"
    )


def test_a_changed_pinned_run_is_no_regression_but_wrong_input() -> None:
    run = pin()
    add("new", 10, WORSE)
    [path] = run.glob("samples_a_*")
    path.write_text(path.read_text(encoding="utf-8") + "\n")
    with pytest.raises(ConfigError) as error:
        check()
    assert str(error.value) == (
        f"{path.absolute()}: changed since series s was told of it; put the file back, or pin the"
        " run again"
    )
    # The exported file does not need the pinned run.
    assert check(run=Path("new"), reference=Path("ref.json"), look=1).verdict == "regressed"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": 5}, "shots: 5 against 0"),
        ({"version": 2}, "task version: 2 against 1"),
        ({"prompt": "Q"}, "prompts of 200 of 200 shared items"),
        ({"first_item": 1}, "item sets"),
    ],
)
@pytest.mark.parametrize("reference", [None, Path("ref.json")])
def test_runs_measured_differently_are_not_compared(
    changes: dict[str, Any], said: str, reference: Path | None
) -> None:
    pin()
    add("new", 10, WORSE, **changes)
    look = None if reference is None else 1
    with pytest.raises(NotComparableError) as error:
        check(run=Path("new"), reference=reference, look=look)
    assert said in str(error.value)
    assert list_runs(Path("track"))[1].look is None


def test_a_missing_task_is_refused_or_told() -> None:
    pin()
    add("new", 10, {"b": WORSE["b"], "c": [1.0]})
    with pytest.raises(NotComparableError) as error:
        check()
    assert str(error.value) == (
        "1 of the 2 tasks of the pinned run cannot be judged (a: the checkpoint has no acc of it);"
        " evaluate the checkpoint on them with samples, or judge the others with --allow-missing"
    )
    report = check(allow_missing=True)
    assert verdicts(report) == {"b": "regressed"}
    assert report.notes == (
        "a: not judged, the checkpoint has no acc of it",
        "not judged, because the pinned run lacks them: c",
    )


def test_a_checkpoint_without_samples_is_not_compared() -> None:
    pin()
    add("new", 10, WORSE, with_samples=False)
    with pytest.raises(NotComparableError, match="no samples were written"):
        check(allow_missing=True)


def test_a_run_without_samples_cannot_be_pinned(here: Path) -> None:
    with pytest.raises(ConfigError) as error:
        pin(with_samples=False)
    assert str(error.value) == (
        f"{here / 'old'}: none of the tasks of 'old' can be judged (a: old · a: no samples were"
        " written, so only the aggregate is known; b: old · b: no samples were written, so only the"
        " aggregate is known); pin a run with samples"
    )


def test_shared_items_are_joined_on_request() -> None:
    pin()
    add("new", 10, WORSE, first_item=1)
    report = check(shared_items=True)
    assert [task.num_items for task in report.tasks] == [NUM - 1, NUM - 1]
    assert any("compared on 199 shared items" in note for note in report.notes)


def test_a_folder_of_several_models_asks_which(here: Path) -> None:
    write_run(here / "runs" / "x", "x", OLD)
    write_run(here / "runs" / "y", "y", WORSE)
    with pytest.raises(ConfigError) as error:
        add_run(Path("runs"), "s", 1, store=Path("track"))
    assert str(error.value) == (
        "runs holds the results of 2 models (x, y); choose one with --model"
    )
    added = add_run(Path("runs"), "s", 1, store=Path("track"), model="y")
    assert {Path(name).parts[0] for name in added.entry.files} == {"y"}


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        add_run(Path("x"), "s", -1, store=Path("track"))
    assert str(error.value) == "--step is -1, expected at least 0"


def test_deleting_the_index_loses_nothing(here: Path) -> None:
    pin()
    add("new", 10, WORSE)
    before = report_to_json(check(), strict=False)
    with ResultsIndex.open() as index:
        mirrored = index.entries("s")
    assert [entry["step"] for entry in mirrored] == [None, 10]
    shutil.rmtree(here / "cache")
    assert report_to_json(check(), strict=False) == before
    shutil.rmtree(here / "cache")
    lines: list[int] = []
    rebuilt, num_entries = rebuild_index(Path("track"), (Path("new"),), lines.append)
    assert (rebuilt.num_lines, sum(lines), num_entries) == (4 * NUM, 4 * NUM, 2)
    with ResultsIndex.open() as index:
        assert index.entries("s") == mirrored
    assert report_to_json(check(), strict=False) == before


def test_a_slow_fall_over_looks_is_a_flag_beside_the_verdict() -> None:
    pin(scores={"b": [1.0] * NUM})
    for look in range(1, 9):
        add(f"new{look}", look, {"b": [0.0] * (2 * look) + [1.0] * (NUM - 2 * look)})
        report = check(margins=Margins(0.5))
    assert report.verdict == "pass"
    assert report.tasks[0].flags == (
        "slow drift down: the moving average of 8 looks is -2.8 standard errors from the pinned"
        " run, beyond 2.2",
    )
    # Flags come from what the checks kept: earlier runs may be gone.
    for look in range(1, 8):
        shutil.rmtree(f"new{look}")
    assert check(margins=Margins(0.5)).tasks == report.tasks


def test_curves_have_a_gap_where_a_run_lacks_a_task() -> None:
    pin()
    add("new", 10, {"b": OLD["b"]})
    add("newer", 20, WORSE)
    panels = {panel.title: panel for panel in series_panels(Path("track"), "s")}
    [curve] = panels["a"].curves
    assert curve.steps == (10.0, 20.0)
    assert [estimate.value for estimate in curve.estimates] == [None, 0.5]
    assert panels["b"].references[0].value == 1.0
    assert panels["b"].references[0].label == "pinned: old"
    assert panels["b"].unit == "acc"


def test_a_task_that_the_series_lacks_is_told() -> None:
    add("new", 10)
    with pytest.raises(ConfigError) as error:
        series_panels(Path("track"), "s", ("c",))
    assert str(error.value) == "--task c: series s has none; known: a, b"


def test_margins_of_single_tasks_go_before_the_default() -> None:
    pin()
    add("new", 10, WORSE)
    wide = check(margins=Margins(0.02, {"b": 0.5}))
    assert verdicts(wide)["b"] == "pass"
    narrow = replace(wide.tasks[1], margin=0.02, verdict="regressed")
    assert check().tasks[1] == narrow


def test_what_was_kept_of_a_check_is_small(here: Path) -> None:
    pin()
    add("new", 10, WORSE)
    check()
    [path] = (here / "track" / "s" / "checks").iterdir()
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert (kept["look"], kept["verdict"], kept["checkpoint"][:16]) == (
        1,
        "regressed",
        path.name[:16],
    )
    assert kept["run"] == "new"
    assert str(here) not in path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5_000


@pytest.mark.parametrize("name", ["outer", "gsm8k", "plays"])
def test_any_folder_of_lm_eval_is_gated_alike_by_store_and_file(name: str) -> None:
    tree = Path(__file__).parents[1] / "results" / "trees" / name
    pin_run(tree, "s", store=Path("track"), export=Path("ref.json"))
    stored = check(run=tree)
    alone = check(run=tree, reference=Path("ref.json"), look=1)
    assert alone.tasks == stored.tasks
    assert {task.difference for task in stored.tasks} == {0.0}
    assert stored.notes == ("the checkpoint is the pinned run itself",)
