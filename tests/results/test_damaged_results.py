"""Damaged and foreign files: what can still be used is used, the rest is one sentence."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_trees import (
    STAMP,
    TREES,
    change_lines,
    change_results,
    copy_tree,
    lines_of,
    results_file,
    samples_file,
    write_lines,
)

from suite.errors import ConfigError, RecordError
from suite.results.choices import read_choices
from suite.results.importer import load_runs, read_items, scored
from suite.results.samples_file import iterate_texts, read_item_tables


def reason(folder: Path, label: str, metric: str | None = None) -> str:
    """Why a run has an aggregate but no items."""
    records = {record.label: record for record in load_runs([folder]).records}
    found = scored(records[label], metric)
    assert found is not None
    assert found.score.value is not None
    assert found.items is None
    assert found.reason is not None
    return found.reason


def test_without_samples_only_the_aggregate_is_known(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    samples_file(folder, "gsm8k").unlink()
    assert reason(folder, "gsm8k") == (
        "org/drawn · gsm8k: no samples were written, so only the aggregate is known"
    )


def test_a_group_that_lacks_samples_of_one_member_is_not_paired(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)
    samples_file(folder, "leaf_c").unlink()
    assert reason(folder, "outer") == (
        "org/drawn · outer: the samples hold 9 items where lm-eval counted 12, so they are not used"
    )


def test_fewer_items_than_were_counted_are_not_used(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = samples_file(folder, "gsm8k")
    write_lines(path, [line for line in lines_of(path) if line["doc_id"] != 3])
    assert reason(folder, "gsm8k") == (
        "org/drawn · gsm8k: the samples hold 5 items where lm-eval counted 6, so they are not used"
    )


def test_a_cut_last_line_is_named(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = samples_file(folder, "gsm8k")
    path.write_bytes(path.read_bytes()[:-40])
    assert reason(folder, "gsm8k") == (
        f"{path}: line 12, the last, is cut off; evaluate the task again"
    )


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = samples_file(folder, "gsm8k")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "[1]\n", *lines[3:]]), encoding="utf-8")
    sentence = f"{path}: line 3 is not a JSON object; evaluate the task again"
    assert reason(folder, "gsm8k") == sentence


def test_an_item_that_is_there_twice_under_one_filter_is_named(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = samples_file(folder, "gsm8k")
    lines = lines_of(path)
    lines[4]["doc_id"] = lines[1]["doc_id"]
    write_lines(path, lines)
    assert reason(folder, "gsm8k") == (
        f"{path}: item 1 is there twice under the filter 'strict-match' (line 5); evaluate the task"
        " again"
    )


def test_lines_without_item_numbers_are_no_samples(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = change_lines(folder, "gsm8k", lambda line: line.pop("doc_id"))
    assert reason(folder, "gsm8k") == (
        f"{path}: line 1 has no item number ('doc_id'), so it is no samples file of lm-eval; move"
        " it away"
    )


def test_an_item_of_another_form_is_named(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = change_lines(folder, "gsm8k", lambda line: line.update(arguments=5))
    assert reason(folder, "gsm8k") == (
        f"{path}: item 0 is not in the form that lm-eval writes (TypeError: 'int' object is not"
        " iterable); evaluate the task again"
    )


def test_an_item_with_neither_content_nor_hash_is_named(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)

    def strip(line: dict[str, Any]) -> None:
        del line["doc"], line["doc_hash"]

    path = change_lines(folder, "gsm8k", strip)
    assert reason(folder, "gsm8k") == (
        f"{path}: item 0 has neither content ('doc') nor hash ('doc_hash'); evaluate the task again"
    )


def test_items_that_do_not_give_the_aggregate_are_not_tested(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    change_lines(folder, "gsm8k", lambda line: line.update(exact_match=0.25))
    assert reason(folder, "gsm8k") == (
        "org/drawn · gsm8k: lm-eval's exact_match = 0.5 does not follow from its items as a mean or"
        " a ratio of sums, so the items are not tested"
    )


def test_a_metric_that_no_item_has_is_not_tested(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    change_lines(folder, "gsm8k", lambda line: line.update(metrics=[]))
    assert reason(folder, "gsm8k") == (
        "org/drawn · gsm8k: the samples hold no values of exact_match"
    )


def test_a_filter_without_lines_is_told(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = samples_file(folder, "gsm8k")
    write_lines(path, [line for line in lines_of(path) if line["filter"] == "strict-match"])
    assert reason(folder, "gsm8k", "exact_match,flexible-extract") == (
        "org/drawn · gsm8k: the samples hold nothing under the filter 'flexible-extract'"
    )


def test_a_value_that_is_not_a_number_is_unknown(tmp_path: Path) -> None:
    folder = copy_tree("plays", tmp_path)

    def change(data: dict[str, Any]) -> None:
        data["results"]["plays"] |= {"bits_per_byte,none": " ", "word_perplexity,none": "12.5"}

    change_results(folder, change)
    [record] = load_runs([folder]).records
    values = {score.metric: (score.value, score.stderr) for score in record.task.scores}
    assert values["bits_per_byte"] == (None, None)
    assert values["word_perplexity"] == (12.5, None)
    found = scored(record, "bits_per_byte")
    assert found is not None
    assert found.reason == (
        "org/drawn · plays: lm-eval gives no value of bits_per_byte under the filter 'none'"
    )


def test_numbers_in_strings_and_numpys_are_numbers(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)

    def change(line: dict[str, Any]) -> None:
        line["exact_match"] = f"np.float64({line['exact_match']})"

    change_lines(folder, "gsm8k", change)
    [record] = load_runs([folder]).records
    found = scored(record, "exact_match,strict-match")
    assert found is not None
    assert found.items is not None
    assert found.items.values.sum() == 3


def damaged(tmp_path: Path, text: str) -> str:
    """The note on a damaged results file beside a good one."""
    good = copy_tree("gsm8k", tmp_path)
    path = good / "results_2026-02-02T00-00-00.000000.json"
    path.write_text(text, encoding="utf-8")
    loaded = load_runs([tmp_path])
    assert [record.label for record in loaded.records] == ["gsm8k"]
    [note] = loaded.notes
    assert note.startswith(f"{path}: ")
    return note.removeprefix(f"{path}: ")


def test_truncated_results_are_noted_and_the_rest_is_used(tmp_path: Path) -> None:
    text = results_file(TREES / "gsm8k").read_text(encoding="utf-8")[:100]
    assert damaged(tmp_path, text) == (
        "not a readable results file (Expecting ',' delimiter: line 6 column 22 (char 100));"
        " move it away"
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([1], "not a results file of lm-eval (no key 'results')"),
        ({"scores": {}}, "not a results file of lm-eval (no key 'results')"),
        (
            {"results": {"task": 0.5}, "config": {}},
            "not a results file of lm-eval ('results' does not hold one block a task)",
        ),
        (
            {"results": {"task|5": {"acc": 0.5}}, "config_general": {}},
            "not a results file of lm-eval (neither 'config' nor 'configs' is there)",
        ),
        (
            {"results": {"t": {"scores": {"acc": 1}}}, "config": {}, "lm_eval_version": "0.9.0"},
            "holds no score that can be read (lm-eval 0.9.0); evaluate the tasks again with"
            " lm-eval 0.4",
        ),
        (
            {"results": {"t": {"acc,none": 1}}, "config": {}, "n-shot": 5, "lm_eval_version": "1"},
            "written by lm-eval 1 in a form that is not known (argument of type 'int' is not"
            " iterable); evaluate the tasks again with lm-eval 0.4",
        ),
        (
            {"results": {"t": {"acc,none": 1}}, "suite": {}},
            "written by another version of the suite ('task' is missing or different); move it"
            " away",
        ),
    ],
)
def test_results_of_another_form_are_noted(tmp_path: Path, data: Any, sentence: str) -> None:
    assert damaged(tmp_path, json.dumps(data)) == sentence


def test_nothing_that_can_be_used_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / f"results_{STAMP}.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(RecordError) as error:
        load_runs([tmp_path])
    assert str(error.value) == f"{path}: not a results file of lm-eval (no key 'results')"


def test_a_folder_without_results_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_runs([tmp_path])
    assert str(error.value) == (
        f"{tmp_path}: holds no results file (results_*.json); name a folder that lm-eval wrote"
    )
    with pytest.raises(ConfigError) as error:
        load_runs([tmp_path / "no"])
    assert str(error.value) == (
        f"{tmp_path / 'no'}: there is no such file or folder; name one that lm-eval wrote"
    )


def test_numbers_that_no_float_can_hold_are_no_error(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)

    def change(line: dict[str, Any]) -> None:
        line["acc_norm"] = 10**400
        line["filtered_resps"][0][0] = 10**400

    change_lines(folder, "leaf_a", change)
    change_results(folder, lambda data: data["n-samples"]["leaf_b"].update(effective=math.inf))
    records = {record.label: record for record in load_runs([folder]).records}
    assert records["leaf_b"].task.num_items is None
    [table] = read_item_tables(records["leaf_a"])
    assert set(table.answers.tolist()) == {b""}
    assert all(math.isnan(value) for value in table.metrics["acc_norm"])
    assert read_choices(records["leaf_a"], "none") is None
    with pytest.raises(RecordError, match="OverflowError: int too large to convert to float"):
        read_items(records["leaf_a"], "acc_norm", "none")


def test_one_odd_block_leaves_the_other_tasks(tmp_path: Path) -> None:
    folder = copy_tree("outer", tmp_path)

    def change(data: dict[str, Any]) -> None:
        data["results"]["leaf_c"] = None
        data["configs"]["leaf_a"]["metric_list"] = "acc"

    path = change_results(folder, change)
    loaded = load_runs([folder])
    assert {record.label for record in loaded.records} >= {"inner", "leaf_a", "leaf_b"}
    assert loaded.notes == (
        f"{path}: leaf_c is left out, being in a form that is not known (its block of 'results'"
        " holds no metrics); evaluate it again with lm-eval 0.4",
    )


def test_compressed_samples_are_read(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = samples_file(folder, "gsm8k")
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    [record] = load_runs([folder]).records
    found = scored(record, None)
    assert found is not None
    assert found.items is not None
    packed.write_bytes(packed.read_bytes()[:-20])
    assert reason(folder, "gsm8k").startswith(f"{packed}: not a readable samples file (")


def test_a_mark_of_byte_order_is_no_damage(tmp_path: Path) -> None:
    folder = copy_tree("gsm8k", tmp_path)
    path = results_file(folder)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    named = path.rename(path.with_name("named.json"))
    samples_file(folder, "gsm8k").rename(folder / "samples_gsm8k.jsonl")
    [record] = load_runs([tmp_path]).records
    assert record.file == str(named)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
KEYS = st.sampled_from(sorted(lines_of(samples_file(TREES / "blimp", "*_gap"))[0]))


@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_no_line_makes_the_reader_fail_without_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    folder = copy_tree("blimp", tmp_path_factory.mktemp("tree"))
    task = "blimp_wh_questions_subject_gap"
    path = samples_file(folder, task)
    lines = lines_of(path)
    lines[2] |= changes
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    [record] = [run for run in load_runs([folder]).records if run.label == task]
    for read in (
        lambda: read_item_tables(record),
        lambda: list(iterate_texts(record, "none")),
        lambda: read_choices(record, "none"),
    ):
        sentence = ""
        try:
            read()
        except RecordError as error:
            sentence = str(error)
        assert sentence.startswith(f"{path}: ") or not sentence
    assert scored(record, None) is not None
