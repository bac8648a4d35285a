"""Two models' runs, found, joined and tested; every number against its own formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from written_runs import write_run

from suite.errors import ConfigError, NotComparableError
from suite.pipelines.compare import CompareOptions, compare_runs
from suite.stats.power import mde_exact

# 60 items: both right on 20, 24 won, 6 lost, both wrong on 10.
OLD = [1] * 20 + [0] * 24 + [1] * 6 + [0] * 10
NEW = [1] * 20 + [1] * 24 + [0] * 6 + [0] * 10
# 60 items: 3 won, 2 lost.
LIKE_OLD = [1] * 20 + [0] * 21 + [1] * 3 + [1] * 4 + [0] * 2 + [0] * 10


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders with one model each, and an index of their own."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "a", tmp_path / "b"


def compared(folders: tuple[Path, Path], **options: Any) -> Any:
    return compare_runs(CompareOptions(*folders, **options))


def test_each_task_is_tested_exactly_and_corrected_over_all(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": LIKE_OLD})
    found = compared(folders)
    arc, boolean = found.tasks
    p_values = [stats.binomtest(24, 30).pvalue, stats.binomtest(3, 5).pvalue]
    assert (arc.label, arc.n, arc.comparison.test) == ("arc", 60, "exact McNemar")
    assert arc.comparison.difference.value == pytest.approx(18 / 60)
    assert (arc.comparison.num_better, arc.comparison.num_worse) == (24, 6)
    assert arc.comparison.p_value == pytest.approx(p_values[0])
    assert arc.comparison.p_adjusted == pytest.approx(2 * p_values[0])
    assert boolean.comparison.p_adjusted == pytest.approx(max(p_values[1], 2 * p_values[0]))
    wilson = stats.binomtest(26, 60).proportion_ci(method="wilson")
    assert arc.first.value == pytest.approx(26 / 60)
    assert (arc.first.low, arc.first.high) == pytest.approx((wilson.low, wilson.high))
    assert arc.agreement.value == pytest.approx(30 / 60)
    assert found.notes == ()


def test_the_mde_is_at_the_level_that_holm_left(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD, "c": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": LIKE_OLD, "c": OLD})
    found = {task.label: task.comparison for task in compared(folders).tasks}
    # Holm rejects arc at 0.05 / 3 and stops at the next, which like the last is judged at 0.05 / 2.
    levels = {"arc": 0.05 / 3, "boolean": 0.05 / 2, "c": 0.05 / 2}
    shares = {"arc": 30 / 60, "boolean": 5 / 60, "c": 0.0}
    for label, level in levels.items():
        expected = mde_exact(60, shares[label], alpha=level)
        assert found[label].mde == pytest.approx(expected)


def test_the_average_is_the_plain_mean_with_errors_added_in_squares(
    folders: tuple[Path, Path],
) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": LIKE_OLD})
    average = compared(folders).average
    variance = 0.0
    means = []
    for new in (NEW, LIKE_OLD):
        differences = [b - a for a, b in zip(OLD, new, strict=True)]
        mean = sum(differences) / 60
        squares = sum((d - mean) ** 2 for d in differences)
        variance += (squares / 59 / 60) / 4
        means.append(mean)
    assert average.labels == ("arc", "boolean")
    assert average.comparison.difference.value == pytest.approx(sum(means) / 2)
    low = average.comparison.difference.low
    half_width = average.comparison.difference.value - low
    assert half_width / math.sqrt(variance) == pytest.approx(2.0, abs=0.03)
    assert average.comparison.p_adjusted is None


def test_one_task_has_no_average_and_needs_no_correction(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": OLD})
    found = compared(folders, tasks=("arc",))
    assert [task.label for task in found.tasks] == ["arc"]
    assert found.average is None
    comparison = found.tasks[0].comparison
    assert comparison.p_adjusted == comparison.p_value
    assert comparison.mde == mde_exact(60, 0.5, alpha=1 - 0.95)


def test_without_samples_aggregates_are_compared_and_it_is_said(
    folders: tuple[Path, Path],
) -> None:
    write_run(folders[0], "old", {"arc": OLD}, with_samples=False)
    write_run(folders[1], "new", {"arc": NEW})
    found = compared(folders)
    (task,) = found.tasks
    assert not task.comparison.paired
    assert task.comparison.num_better is None
    # Both files tell a standard error of 0.05.
    z = (18 / 60) / math.hypot(0.05, 0.05)
    assert task.comparison.p_value == pytest.approx(2 * stats.t.sf(z, 118))
    assert task.agreement.value is None
    assert found.notes == (
        "arc: compared unpaired, by the aggregates (old: old · arc: no samples were written, so"
        " only the aggregate is known)",
    )


def test_a_test_that_needs_items_is_not_dropped_silently(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW}, with_samples=False)
    (note,) = compared(folders, test="exact").notes
    assert note.endswith("so only the aggregate is known), though 'exact' was asked for")


def test_damaged_samples_leave_an_unpaired_comparison(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW})
    samples = next(folders[1].glob("samples_*"))
    samples.write_text(samples.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    found = compared(folders)
    assert not found.tasks[0].comparison.paired
    assert f"{samples}: line 60, the last, is cut off" in found.notes[0]


def test_a_second_comparison_reads_the_index_and_finds_the_same(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW})
    first = compared(folders)
    monkeypatch.setattr("suite.results.index.read_item_tables", None)
    assert compared(folders) == first


def test_tasks_measured_differently_are_all_refused_at_once(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": NEW}, version=2)
    with pytest.raises(NotComparableError) as caught:
        compared(folders)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "2 of 2 tasks were not measured alike, so nothing is compared; mend them or name the others"
        " with --task:"
    )
    assert lines[1:] == [
        f"  {label}: old and new were not measured alike (task version: 1 against 2); evaluate both"
        " in the same way"
        for label in ("arc", "boolean")
    ]


def test_one_task_measured_differently_stops_all_but_can_be_left_out(
    folders: tuple[Path, Path],
) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": NEW[:50]})
    with pytest.raises(NotComparableError, match=r"^boolean: .* with --shared-items$"):
        compared(folders)
    assert [task.label for task in compared(folders, tasks=("arc",)).tasks] == ["arc"]
    joined = compared(folders, shared_items=True)
    assert [task.n for task in joined.tasks] == [60, 50]
    assert joined.notes == ("boolean: compared on 50 shared items; left out: 10 that only old has",)


def test_tasks_of_one_side_alone_are_named(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "c": NEW})
    assert compared(folders).notes == (
        f"not compared, found only in {folders[0]}: boolean",
        f"not compared, found only in {folders[1]}: c",
    )


def test_another_filter_is_refused_and_not_swapped_silently(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW}, filter="strict")
    with pytest.raises(NotComparableError, match=r"\(filter: none against strict\)"):
        compared(folders)


def test_the_paths_must_differ(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    with pytest.raises(ConfigError) as caught:
        compared((folders[0], folders[0] / ".." / "a"))
    assert str(caught.value) == (
        f"{folders[0]} is given twice; give another run, or two of its models with --model-a and"
        " --model-b"
    )


def test_two_models_of_one_folder_are_compared_by_name(folders: tuple[Path, Path]) -> None:
    write_run(folders[0] / "1", "old", {"arc": OLD})
    write_run(folders[0] / "2", "new", {"arc": NEW})
    both = (folders[0], folders[0])
    found = compared(both, first_model="old", second_model="new")
    assert (found.first.model, found.second.model) == ("old", "new")
    with pytest.raises(ConfigError) as caught:
        compared(both, second_model="new")
    assert str(caught.value) == f"{folders[0]}: holds 2 models, so give --model-a: new; old"
    with pytest.raises(ConfigError) as caught:
        compared(both, first_model="odl", second_model="new")
    assert str(caught.value) == f"--model-a 'odl': not in {folders[0]}; did you mean 'old'?"


def test_without_a_shared_task_both_lists_are_told(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"boolean": NEW, "c": NEW})
    with pytest.raises(ConfigError) as caught:
        compared(folders)
    assert str(caught.value) == (
        f"no task was run by both models ({folders[0]}: arc; {folders[1]}: boolean; c); run one"
        " with both"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tasks": ("ark",)}, "--task 'ark': not run by both models; did you mean 'arc'?"),
        ({"metric": "em"}, "--metric em: not known to both models on arc; known: acc,none"),
        (
            {"metric": "acc", "filter_name": "x"},
            "--metric acc and --filter x: not known to both models on arc; known: acc,none",
        ),
        ({"level": 95.0}, "--level is 95; give a number between 0 and 1, as 0.95"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    folders: tuple[Path, Path], options: dict[str, Any], sentence: str
) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW})
    with pytest.raises(ConfigError) as caught:
        compared(folders, **options)
    assert str(caught.value) == sentence


def test_members_of_a_compared_group_are_not_tested_again(folders: tuple[Path, Path]) -> None:
    for folder, model, scores in ((folders[0], "old", OLD), (folders[1], "new", NEW)):
        mean = sum(scores) / 60
        block = {"acc,none": mean, "acc_stderr,none": 0.05}
        tasks = dict.fromkeys(("one", "two", "three"), scores)
        write_run(
            folder,
            model,
            tasks,
            results=dict.fromkeys(("all", "both", *tasks), block),
            group_subtasks={"all": ["both", "three"], "both": ["one", "two"]},
        )
    found = compared(folders)
    assert [(task.label, task.n) for task in found.tasks] == [("all", 180)]
    (note,) = found.notes
    told, _, names = note.partition(": ")
    assert told == "not compared on their own, being part of a group"
    assert sorted(names.split("; ")) == ["both", "one", "three", "two"]
    asked = compared(folders, tasks=("both", "one"))
    assert sorted(task.label for task in asked.tasks) == ["both", "one"]


def write_group(folder: Path, model: str, tasks: dict[str, list[int]], **changes: Any) -> None:
    """A run whose group `all` is made of its tasks."""
    mean = sum(map(sum, tasks.values())) / sum(map(len, tasks.values()))
    results = {
        name: {"acc,none": sum(scores) / len(scores), "acc_stderr,none": 0.05}
        for name, scores in tasks.items()
    }
    results["all"] = {"acc,none": changes.pop("mean", mean), "acc_stderr,none": 0.05}
    higher = {name: {"acc": True} for name in results}
    shots = dict.fromkeys(results, changes.get("shots", 0))
    write_run(
        folder,
        model,
        tasks,
        results=results,
        higher_is_better=higher,
        group_subtasks={"all": list(tasks)},
        **{"n-shot": shots},
        **changes,
    )


def test_a_group_of_one_task_and_this_task_are_one_comparison(folders: tuple[Path, Path]) -> None:
    write_group(folders[0], "old", {"one": OLD})
    write_group(folders[1], "new", {"one": NEW})
    found = compared(folders)
    assert ([task.label for task in found.tasks], found.average) == (["all"], None)
    assert found.notes == ("not compared on their own, being part of a group: one",)


def test_a_task_run_again_in_another_file_is_part_of_its_group(
    folders: tuple[Path, Path],
) -> None:
    other = "2026-02-02T03-04-05.000000"
    for folder, model, scores in ((folders[0], "old", OLD), (folders[1], "new", NEW)):
        write_group(folder, model, {"one": scores, "two": scores})
        write_run(folder, model, {"one": scores}, stamp=other)
    assert [task.label for task in compared(folders).tasks] == ["all"]


def test_a_task_of_a_group_with_other_shots_is_compared_and_averaged_as_the_same_items(
    folders: tuple[Path, Path],
) -> None:
    other = "2026-02-02T03-04-05.000000"
    for folder, model, scores in ((folders[0], "old", OLD), (folders[1], "new", NEW)):
        write_group(folder, model, {"one": scores})
        write_run(folder, model, {"one": scores}, stamp=other, shots=5)
    found = compared(folders)
    assert sorted(task.label for task in found.tasks) == ["all", "one"]
    variance = sum((d - 0.3) ** 2 for d in (b - a for a, b in zip(OLD, NEW, strict=True))) / 59 / 60
    difference = found.average.comparison.difference
    assert difference.high - difference.value == pytest.approx(
        stats.t.ppf(0.975, 59) * math.sqrt(variance)
    )


def test_a_group_without_items_keeps_its_tasks_and_leaves_the_average_to_them(
    folders: tuple[Path, Path],
) -> None:
    write_group(folders[0], "old", {"one": OLD, "two": OLD}, mean=0.123)
    write_group(folders[1], "new", {"one": NEW, "two": LIKE_OLD}, mean=0.456)
    found = compared(folders)
    by_label = {task.label: task.comparison.paired for task in found.tasks}
    assert by_label == {"all": False, "one": True, "two": True}
    assert sorted(found.average.labels) == ["one", "two"]
    assert (
        "not part of the average, having no items while the single tasks have: all" in found.notes
    )


def test_a_task_with_equal_answers_still_has_a_place_in_the_average(
    folders: tuple[Path, Path],
) -> None:
    write_run(folders[0], "old", {"arc": OLD, "boolean": OLD})
    write_run(folders[1], "new", {"arc": NEW, "boolean": OLD})
    comparison = compared(folders).average.comparison
    assert comparison.difference.value == pytest.approx(18 / 120)
    assert comparison.p_value is not None


@pytest.mark.parametrize("test", ["exact", "mid-p", "t", "bootstrap", "sign-flip"])
def test_every_test_can_be_asked_for(folders: tuple[Path, Path], test: Any) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW})
    (task,) = compared(folders, test=test).tasks
    assert task.comparison.p_value is not None
    assert task.comparison.p_value < 0.01


def test_equal_seeds_give_equal_numbers(folders: tuple[Path, Path]) -> None:
    write_run(folders[0], "old", {"arc": OLD})
    write_run(folders[1], "new", {"arc": NEW})
    one, same, other = (compared(folders, test="bootstrap", seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.tasks != other.tasks
