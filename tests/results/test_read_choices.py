"""Options' likelihoods, clusters and features, read from samples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_trees import STAMP, TREES, change_lines, copy_tree, lines_of, samples_file

from suite.errors import ConfigError
from suite.records import RunRecord
from suite.results.choices import correct_option, read_choices
from suite.results.importer import load_runs, scored
from suite.results.numbers import number
from suite.results.passages import passage_field
from suite.results.samples_file import read_features, read_item_tables


def run(folder: Path, label: str) -> RunRecord:
    [record] = [found for found in load_runs([folder]).records if found.label == label]
    return record


def test_choices_stand_in_the_order_of_their_keys() -> None:
    record = run(TREES / "outer", "leaf_b")
    choices = read_choices(record, "none")
    assert choices is not None
    [table] = read_item_tables(record)
    assert choices.keys.tolist() == table.keys.tolist()
    lines = lines_of(samples_file(TREES / "outer", "leaf_b"))
    for doc_id, likelihoods in zip(table.doc_ids, choices.log_likelihoods, strict=True):
        expected = [float(answer[0]) for answer in lines[doc_id]["filtered_resps"]]
        assert likelihoods.tolist() == expected
    assert choices.correct.tolist() == [0] * 5


def test_a_groups_choices_have_the_keys_of_its_scores() -> None:
    record = run(TREES / "blimp", "blimp")
    choices, found = read_choices(record, "none"), scored(record, "acc")
    assert choices is not None
    assert found is not None
    assert found.items is not None
    assert choices.keys.tolist() == found.items.keys.tolist()
    chosen = [int(np.argmax(options)) for options in choices.log_likelihoods]
    assert (choices.correct == chosen).tolist() == found.items.values.astype(bool).tolist()


def test_generated_answers_are_no_choice() -> None:
    assert read_choices(run(TREES / "gsm8k", "gsm8k"), "strict-match") is None


@pytest.mark.parametrize(
    ("target", "acc", "expected"),
    [
        ("2", 0.0, 2),
        ("c", 0.0, 2),
        ("0", 1.0, 0),
        ("d", 0.0, -1),
        ("0", 0.0, -1),
        ("7", None, -1),
        ("1", None, 1),
        ("x", 1.0, 0),
    ],
)
def test_the_right_option_is_told_by_target_and_score(
    target: str, acc: float | None, expected: int
) -> None:
    options = {f"gen_args_{i}": {"arg_0": "q", "arg_1": f" {c}"} for i, c in enumerate("abc")}
    line: dict[str, Any] = {"arguments": options, "target": target}
    if acc is not None:
        line["acc"] = acc
    assert correct_option(line, [-1.0, -2.0, -3.0]) == expected


def test_between_two_options_a_wrong_choice_tells_the_right_one() -> None:
    assert correct_option({"target": "a text", "acc": 0.0}, [-1.0, -2.0]) == 1


def test_unconditional_likelihoods_are_no_options(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)

    def double(line: dict[str, Any]) -> None:
        line["acc_mutual_info"] = 1.0
        line["filtered_resps"] += [["-0.001", "False"]] * 3

    change_lines(folder, "leaf_a", double)
    before = read_choices(run(TREES / "outer", "leaf_a"), "none")
    after = read_choices(run(folder, "leaf_a"), "none")
    assert before is not None
    assert after is not None
    assert [x.tolist() for x in before.log_likelihoods] == [
        x.tolist() for x in after.log_likelihoods
    ]


@pytest.mark.parametrize("odd", [["nan", "-1"], ["-inf", "-inf"], ["inf", "-1"], ["-1", "nan"]])
def test_items_without_usable_likelihoods_are_left_out_and_counted(
    tmp_path: Path, odd: list[str]
) -> None:
    folder = copy_tree("outer", tmp_path)
    before = read_choices(run(folder, "leaf_b"), "none")
    assert before is not None

    def change(line: dict[str, Any]) -> None:
        if line["doc_id"] == 1:
            line["filtered_resps"] = [[value, "False"] for value in odd]
        if line["doc_id"] == 2:
            line["filtered_resps"][0][0] = "-inf"

    change_lines(folder, "leaf_b", change)
    after = read_choices(run(folder, "leaf_b"), "none")
    assert after is not None
    assert (before.num_unusable, after.num_unusable) == (0, 1)
    assert len(after.keys) == len(before.keys) - 1
    assert all(math.isfinite(options.max()) for options in after.log_likelihoods)


def test_likelihoods_that_are_not_finite_choose_nothing(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)
    change_lines(folder, "leaf_a", lambda line: line.update(filtered_resps=[["nan", "False"]] * 3))
    [table] = read_item_tables(run(folder, "leaf_a"))
    assert set(table.answers.tolist()) == {b""}
    assert all(math.isnan(value) for value in table.confidence)


def clustered(tmp_path: Path, texts: list[str]) -> RunRecord:
    folder = copy_tree("gsm8k", tmp_path)
    change_lines(folder, "gsm8k", lambda line: line["doc"].update(story=texts[line["doc_id"]]))
    return run(folder, "gsm8k")


def test_items_that_share_a_text_are_clusters(tmp_path: Path) -> None:
    record = clustered(tmp_path, ["a", "b", "a", "c", "b", "a"])
    table = read_item_tables(record, cluster_field="story")[0]
    assert table.clusters is not None
    of_item = dict(zip(table.doc_ids.tolist(), table.clusters.tolist(), strict=True))
    assert of_item[0] == of_item[2] == of_item[5] != of_item[1] == of_item[4]
    found = scored(record, None, [table])
    assert found is not None
    assert found.items is not None
    assert found.items.clusters is not None
    assert len(set(found.items.clusters.tolist())) == 3


def test_texts_that_never_repeat_make_no_clusters(tmp_path: Path) -> None:
    record = clustered(tmp_path, list("abcdef"))
    assert read_item_tables(record, cluster_field="story")[0].clusters is None
    assert read_item_tables(record)[0].clusters is None


def test_a_field_that_items_lack_is_wrong_input() -> None:
    record = run(TREES / "gsm8k", "gsm8k")
    with pytest.raises(ConfigError) as error:
        read_item_tables(record, cluster_field="story")
    assert str(error.value) == (
        f"{samples_file(TREES / 'gsm8k', 'gsm8k')}: item 0 has no field 'story' to cluster by; its"
        " fields: answer, question"
    )


def test_features_are_found_by_the_items_keys(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)
    lines = lines_of(samples_file(folder, "leaf_a"))
    rows = [
        {"doc_id": line["doc_id"], "doc_hash": line["doc_hash"], "num_tokens": line["doc_id"] + 10}
        for line in lines
    ]
    path = folder / f"features_leaf_a_{STAMP}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    record = run(folder, "leaf_a")
    [table] = read_item_tables(record)
    assert read_features(record) == {
        key: {"num_tokens": doc_id + 10}
        for key, doc_id in zip(table.keys.tolist(), table.doc_ids.tolist(), strict=True)
    }
    group = read_features(run(folder, "inner"))
    assert {key.partition(b"\0")[0] for key in group} == {b"leaf_a"}


def test_without_a_file_there_are_no_features() -> None:
    assert read_features(run(TREES / "gsm8k", "gsm8k")) == {}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("boolq", "passage"),
        ("super-glue-boolq-t5", "passage"),
        ("squadv2", "context"),
        ("race", "article"),
        ("embrace", None),
        ("gsm8k", None),
    ],
)
def test_passages_are_known_by_the_tasks_family(task: str, expected: str | None) -> None:
    assert passage_field(task) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (True, 1.0),
        ("0.25", 0.25),
        (" -3e2 ", -300.0),
        ("np.float64(0.5)", 0.5),
        ("numpy.int64(7)", 7.0),
        ("np.True_", None),
        ("np.bool_(True)", 1.0),
        ("False", 0.0),
        ("N/A", None),
        ("", None),
        ("[0.1 0.9]", None),
        ("nan", None),
        (math.inf, None),
        (10**400, None),
        ([1.0], None),
        (None, None),
    ],
)
def test_a_number_is_read_however_it_was_written(value: Any, expected: float | None) -> None:
    assert number(value) == expected


def test_items_without_a_number_are_left_out_where_lm_eval_left_them_out(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)

    def change(line: dict[str, Any]) -> None:
        if line["doc_id"] == 2:
            line["exact_match"] = math.nan

    change_lines(folder, "gsm8k", change)
    found = scored(run(folder, "gsm8k"), "exact_match,flexible-extract")
    assert found is not None
    assert found.items is not None
    assert (len(found.items), found.items.values.sum()) == (5, 5)
