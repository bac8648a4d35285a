"""Which of several runs count, and what they are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from result_trees import TREES, change_results, copy_tree, results_file

from suite.records import RunRecord
from suite.results.importer import load_runs, scored

LATER = "2026-03-03T00-00-00.000000"


def with_later_run(tmp_path: Path) -> Path:
    folder = copy_tree("gsm8k", tmp_path)
    shutil.copy(results_file(folder), folder / f"results_{LATER}.json")
    return folder


def test_the_newest_of_several_files_counts(tmp_path: Path) -> None:
    folder = with_later_run(tmp_path)
    [record] = load_runs([folder]).records
    assert record.stamp == LATER


def test_all_runs_come_oldest_first_on_request(tmp_path: Path) -> None:
    folder = with_later_run(tmp_path)
    stamps = [record.stamp for record in load_runs([folder], all_runs=True).records]
    assert stamps == ["2026-01-01T00-00-00.000000", LATER]


def test_a_file_named_twice_counts_once() -> None:
    path = results_file(TREES / "gsm8k")
    assert len(load_runs([path, TREES / "gsm8k"], all_runs=True).records) == 1


def test_each_task_and_each_group_is_a_run() -> None:
    records = load_runs([TREES / "outer"]).records
    assert sorted(record.label for record in records) == [
        "inner",
        "leaf_a",
        "leaf_b",
        "leaf_c",
        "outer",
    ]
    assert {record.origin for record in records} == {"lm-eval"}
    assert {record.task.num_truncated for record in records} == {None}
    assert len({record.key for record in records}) == 5


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("given", "pretrained=org/other", "given"),
        (None, "dtype=float32,pretrained=org/other", "org/other"),
        (None, {"path": "some/folder"}, "some/folder"),
        ("", {"model": "served"}, "served"),
        (None, "", "org__drawn"),
        (None, None, "org__drawn"),
    ],
)
def test_a_model_has_the_name_it_was_loaded_by(
    tmp_path: Path, name: str | None, arguments: Any, expected: str
) -> None:
    def change(data: dict[str, Any]) -> None:
        data["model_name"] = name
        data["config"]["model_args"] = arguments

    folder = copy_tree("gsm8k", tmp_path)
    change_results(folder, change)
    [record] = load_runs([folder]).records
    assert record.model == expected


def only(folder: Path) -> RunRecord:
    [record] = load_runs([folder]).records
    return record


def test_results_from_before_filters_are_read(tmp_path: Path) -> None:
    data = {
        "results": {"piqa": {"acc": 0.7, "acc_stderr": 0.01, "acc_norm": "0.71"}},
        "versions": {"piqa": 0},
        "config": {"model": "hf", "model_args": "pretrained=org/old"},
    }
    (tmp_path / "old.json").write_text(json.dumps(data), encoding="utf-8")
    record = only(tmp_path)
    assert (record.model, record.task.version, record.task.num_items) == ("org/old", "0", None)
    [acc, acc_norm] = record.task.scores
    assert (acc.filter, acc.value, acc.stderr, acc.higher_is_better) == ("none", 0.7, 0.01, True)
    assert (acc_norm.value, acc_norm.stderr) == (0.71, None)


def test_other_json_files_are_passed_over(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    for name in ("results.json", "tokenizer.json", "config.json"):
        (folder / name).write_text('{"schema_version": 1}', encoding="utf-8")
    assert load_runs([folder]).notes == ()


def conditions_after(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    folder = copy_tree("gsm8k", tmp_path)
    change_results(folder, lambda data: data["configs"]["gsm8k"].update(changes))
    return only(folder).conditions


def test_where_the_data_lies_is_no_part_of_the_definition(tmp_path: Path) -> None:
    before = only(TREES / "gsm8k").conditions
    moved = conditions_after(tmp_path, dataset_kwargs={"data_files": "/elsewhere"})
    assert moved == before


def test_another_prompt_or_filter_is_another_definition(tmp_path: Path) -> None:
    before = only(TREES / "gsm8k").conditions["task definition"]
    found = [
        conditions_after(tmp_path / str(position), **change)["task definition"]
        for position, change in enumerate(
            [{"doc_to_text": "Q: {{question}}"}, {"filter_list": []}, {"target_delimiter": ""}]
        )
    ]
    assert len({before, *found}) == 4


def test_the_address_of_a_function_is_no_part_of_the_definition(tmp_path: Path) -> None:
    definitions = {
        conditions_after(tmp_path / at, doc_to_text=f"<function f at 0x{at}>")["task definition"]
        for at in ("7f01", "7f02")
    }
    assert len(definitions) == 1


def test_a_group_of_unlike_tasks_tells_the_facts_by_task(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)
    change_results(folder, lambda data: data["n-shot"].update(leaf_a=3))
    records = {record.label: record for record in load_runs([folder]).records}
    assert records["outer"].conditions["shots"] == {"leaf_a": 3, "leaf_b": 0, "leaf_c": 0}
    assert records["outer"].task.num_fewshot is None
    assert records["leaf_b"].conditions["shots"] == 0


def test_a_group_run_by_the_suite_is_one_run_with_the_same_items(tmp_path: Path) -> None:
    [foreign] = [run for run in load_runs([TREES / "outer"]).records if run.label == "outer"]
    folder = copy_tree("outer", tmp_path)
    facts = {"model": "m", "label": "l", "task": "outer", "key": "k", "identity": {}}
    facts |= {"seconds": 1.0, "hardware": "h", "num_truncated": 0}
    change_results(folder, lambda data: data.update(suite=facts))
    own = only(folder)
    assert (own.model, own.label, own.origin) == ("m", "l", "suite")
    assert own.task.scores == foreign.task.scores
    assert own.conditions == foreign.conditions
    first, second = scored(own, "acc"), scored(foreign, "acc")
    assert first is not None
    assert second is not None
    assert first.items is not None
    assert second.items is not None
    assert first.items.keys.tolist() == second.items.keys.tolist()
