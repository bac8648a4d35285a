"""Results files read back as records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suite.errors import RecordError
from suite.results.importer import load_results, read_samples

STAMP = "2026-01-01T00-00-00.000000"


def results(**changes: Any) -> dict[str, Any]:
    """A results file of a group of a group: `outer` holds `inner` holds `leaf_a` and `leaf_b`."""
    facts = {
        "model": "m",
        "label": "outer",
        "task": "outer",
        "key": "k",
        "identity": {},
        "seconds": 1.0,
        "hardware": "h",
        "num_truncated": 0,
    }
    return {
        "results": {
            "outer": {"alias": "outer", "acc,none": 0.5, "acc_stderr,none": 0.1},
            "leaf_a": {"acc,none": 0.4, "acc_stderr,none": "N/A"},
        },
        "group_subtasks": {"outer": ["inner"], "inner": ["leaf_a", "leaf_b"]},
        "n-samples": {"leaf_a": {"effective": 3}, "leaf_b": {"effective": 4}},
        "n-shot": {"leaf_a": 2, "leaf_b": 2},
        "higher_is_better": {
            "outer": {"acc": None},
            "leaf_a": {"acc": True},
            "leaf_b": {"acc": True},
        },
        "versions": {"outer": 2},
        "configs": {},
        "suite": facts | changes,
    }


def write(folder: Path, data: Any, stamp: str = STAMP) -> Path:
    (folder / "m").mkdir(exist_ok=True)
    path = folder / "m" / f"results_{stamp}.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_a_group_of_groups_has_the_items_shots_and_direction_of_its_leaves(tmp_path: Path) -> None:
    write(tmp_path, results())
    [record] = load_results(tmp_path)
    [score] = record.task.scores
    assert (record.task.num_items, record.task.num_fewshot) == (7, 2)
    assert (score.value, score.stderr, score.higher_is_better) == (0.5, 0.1, True)


def test_a_fit_that_stopped_early_is_told(tmp_path: Path) -> None:
    for converged in (True, False):
        data = results(task="leaf_a")
        data["suite"]["weights_fit"] = {"converged": converged}
        write(tmp_path, data)
        [record] = load_results(tmp_path)
        assert record.has_converged == converged


def test_an_unknown_standard_error_is_none(tmp_path: Path) -> None:
    write(tmp_path, results(task="leaf_a"))
    [record] = load_results(tmp_path)
    assert record.task.scores[0].stderr is None


def test_metrics_come_in_the_order_of_the_definition(tmp_path: Path) -> None:
    data = results(task="leaf_a")
    data["results"]["leaf_a"] = {"word_perplexity,none": 9.0, "bits_per_byte,none": 1.0}
    data["configs"] = {"leaf_a": {"metric_list": [{"metric": "bits_per_byte"}]}}
    write(tmp_path, data)
    [record] = load_results(tmp_path)
    assert [s.metric for s in record.task.scores] == ["bits_per_byte", "word_perplexity"]


def test_results_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    data = results()
    del data["suite"]
    write(tmp_path, data)
    assert load_results(tmp_path) == ()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, '{"results": ')
    with pytest.raises(RecordError, match="not a readable results file") as error:
        load_results(tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).endswith("; move it away")


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    data = results()
    del data["suite"]["label"]
    path = write(tmp_path, data)
    with pytest.raises(RecordError) as error:
        load_results(tmp_path)
    assert str(error.value) == (
        f"{path}: written by another version of the suite ('label' is missing or different); move"
        " it away"
    )


def test_samples_are_those_of_the_shown_filter(tmp_path: Path) -> None:
    write(tmp_path, results(task="leaf_a"))
    lines = [
        {
            "doc_id": 0,
            "filter": name,
            "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": {}}},
            "filtered_resps": [answer],
            "target": "7",
            "metrics": ["exact_match"],
            "exact_match": score,
        }
        for name, answer, score in (("strict", "[invalid]", 0.0), ("flexible", "7", 1.0))
    ]
    path = tmp_path / "m" / f"samples_leaf_a_{STAMP}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    [record] = load_results(tmp_path)
    [sample] = read_samples(record, "flexible", limit=5)
    assert (sample.prompt, sample.answer, sample.target, sample.score) == ("q", "7", "7", 1.0)
