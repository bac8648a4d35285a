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
        (None, "pretrained=org/base,peft=me/adapter", "me/adapter"),
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


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("doc_to_text", {"doc_to_text": "Q: {{question}}"}),
        ("filters", {"filter_list": []}),
        ("target_delimiter", {"target_delimiter": ""}),
        ("process_results", {"process_results": "def f(doc, results):\n    return {}"}),
        (
            "arguments of exact_match",
            {"metric_list": [{"metric": "exact_match", "ignore_punctuation": True}]},
        ),
    ],
)
def test_of_another_definition_the_part_is_told(
    tmp_path: Path, part: str, change: dict[str, Any]
) -> None:
    before = only(TREES / "gsm8k").conditions["task definition"]
    found = conditions_after(tmp_path, **change)["task definition"]
    assert {name for name in before if before[name] != found[name]} == {part}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"gen_prefix": ""}, {}),
        ({"description": None}, {"description": ""}),
        ({"doc_to_target": 0}, {"doc_to_target": "0"}),
        (
            {"process_results": "def f(doc):  # a comment\n    return [ 'a' ]\n"},
            {"process_results": '    def f(doc):\n        return ["a"]\n'},
        ),
        (
            {"metric_list": [{"metric": "exact_match", "ignore_case": False}]},
            {"metric_list": [{"metric": "exact_match", "higher_is_better": True}]},
        ),
        (
            {"generation_kwargs": {"until": ["a"], "temperature": 0.0, "do_sample": False}},
            {"generation_kwargs": {"until": ["a"]}},
        ),
    ],
)
def test_one_definition_written_in_two_ways_is_one(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    found = [
        conditions_after(tmp_path / name, **change)
        for name, change in (("first", first), ("second", second))
    ]
    assert found[0] == found[1]


def test_answers_that_are_drawn_are_not_the_likeliest(tmp_path: Path) -> None:
    settings = {"until": ["a"], "do_sample": True, "temperature": 0.5}
    found = conditions_after(tmp_path, generation_kwargs=settings)
    assert found["generation settings"] == settings


def test_a_limit_given_with_the_model_is_a_setting(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)

    def change(data: dict[str, Any]) -> None:
        data["config"]["model_args"] = "pretrained=org/drawn,max_gen_toks=64"

    change_results(folder, change)
    assert only(folder).conditions["generation settings"]["max_gen_toks"] == 64


@pytest.mark.parametrize(
    ("version", "expected"), [(1, "1"), ("1.0", "1"), (2.5, "2.5"), ("N/A", None)]
)
def test_versions_are_numbers(tmp_path: Path, version: Any, expected: str | None) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    change_results(folder, lambda data: data["versions"].update(gsm8k=version))
    assert only(folder).conditions["task version"] == expected


def test_of_a_function_that_is_shown_by_its_address_nothing_is_known(tmp_path: Path) -> None:
    found = conditions_after(tmp_path, doc_to_text="<function f at 0x7f01>")
    assert found["task definition"]["doc_to_text"] is None


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


def loaded_with(folder: Path, arguments: str, stamp: str, **shots: int) -> None:
    """A later run of the same model in a folder, loaded with other arguments."""
    path = folder / f"results_{stamp}.json"
    data = json.loads(results_file(TREES / "gsm8k").read_text(encoding="utf-8"))
    data["config"]["model_args"] = arguments
    data["n-shot"] |= shots
    path.write_text(json.dumps(data), encoding="utf-8")


def test_models_of_one_name_with_other_weights_are_told_apart(tmp_path: Path) -> None:
    loaded_with(tmp_path, "pretrained=org/drawn,revision=step1", "2026-01-01T00-00-00.000000")
    loaded_with(tmp_path, "pretrained=org/drawn,revision=step2", LATER)
    loaded = load_runs([tmp_path])
    assert [record.model for record in loaded.records] == [
        "org/drawn (revision=step1)",
        "org/drawn (revision=step2)",
    ]
    assert loaded.notes == ()


def test_one_adapter_on_two_bases_is_two_models(tmp_path: Path) -> None:
    for base, stamp in (("a", "2026-01-01T00-00-00.000000"), ("b", LATER)):
        loaded_with(tmp_path, f"pretrained={base},peft=me/adapter", stamp)
    assert [record.model for record in load_runs([tmp_path]).records] == [
        "org/drawn (pretrained=a)",
        "org/drawn (pretrained=b)",
    ]


def test_an_older_run_that_was_measured_otherwise_is_noted(tmp_path: Path) -> None:
    old = "2026-01-01T00-00-00.000000"
    loaded_with(tmp_path, "pretrained=org/drawn,dtype=float16,device=cpu", old, gsm8k=5)
    loaded_with(tmp_path, "pretrained=org/drawn,dtype=float32", LATER)
    loaded = load_runs([tmp_path])
    assert [record.stamp for record in loaded.records] == [LATER]
    assert loaded.notes == (
        f"{tmp_path}/results_{old}.json: the run of org/drawn is left out for the newer"
        f" {tmp_path}/results_{LATER}.json, though they differ on gsm8k (shots: 5 against 1; model"
        ' arguments: {"dtype": "float16"} against {"dtype": "float32"}); name one of the files'
        " alone to choose it",
    )
    assert len(load_runs([tmp_path], all_runs=True).records) == 2


def first_version_run(folder: Path, name: str, arguments: str, tasks: dict[str, float]) -> None:
    """Results of one model as the first versions wrote them, without samples."""
    data = {
        "results": {task: {"acc,none": value} for task, value in tasks.items()},
        "config": {"model": "hf", "model_args": arguments},
    }
    (folder / name).write_text(json.dumps(data), encoding="utf-8")


def older_samples(folder: Path, name: str, value: float) -> None:
    line = {"doc_id": 0, "doc": {"q": 1}, "target": "a", "arguments": [], "acc": value}
    (folder / name).write_text(json.dumps([line | {"filtered_resps": []}]), encoding="utf-8")


def paired(folder: Path) -> dict[tuple[str, str], Any]:
    """Of each run the items' values, or the reason why there are none."""
    found = {}
    for record in load_runs([folder]).records:
        one = scored(record, None)
        assert one is not None
        key = record.model, record.label
        found[key] = one.reason if one.items is None else one.items.values.tolist()
    return found


def test_samples_of_another_model_in_the_folder_are_not_taken(tmp_path: Path) -> None:
    first_version_run(tmp_path, "m.json", "pretrained=org/m", {"t": 1.0})
    first_version_run(tmp_path, "larger.json", "pretrained=org/larger,dtype=auto", {"t": 0.0})
    older_samples(tmp_path, "pretrained=org__m_t.jsonl", 1.0)
    found = paired(tmp_path)
    assert found["org/m", "t"] == [1.0]
    assert found["org/larger", "t"] == (
        f"{tmp_path}/larger.json: which samples file of t beside it is this run's cannot be told"
        " (pretrained=org__m_t.jsonl); give each run a folder of its own"
    )
    older_samples(tmp_path, "pretrained__org__larger,dtype__auto_t.jsonl", 0.0)
    assert paired(tmp_path)["org/larger", "t"] == [0.0]


def test_a_run_alone_in_its_folder_takes_the_only_samples(tmp_path: Path) -> None:
    first_version_run(tmp_path, "results.json", "", {"algebra": 1.0, "abstract_algebra": 0.0})
    older_samples(tmp_path, "m_abstract_algebra.jsonl", 0.0)
    found = paired(tmp_path)
    values = {label: value for (_, label), value in found.items()}
    assert values["abstract_algebra"] == [0.0]
    assert "no samples were written" in values["algebra"]
