"""Folders that lm-eval 0.4.13 wrote, and the same as its first versions wrote them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_trees import TREES, as_first_version, copy_tree, lines_of, samples_file

from suite.records import RunRecord
from suite.results.importer import load_runs, read_items, read_samples, scored
from suite.results.item_scores import ItemScores
from suite.results.item_table import answers_of, confidence_of
from suite.results.samples_file import iterate_texts, read_item_tables
from suite.results.scores import aggregate


def load(folder: Path) -> dict[str, RunRecord]:
    loaded = load_runs([folder])
    assert loaded.notes == ()
    return {record.label: record for record in loaded.records}


def items_of(record: RunRecord, metric: str) -> ItemScores:
    found = scored(record, metric)
    assert found is not None
    assert found.items is not None, found.reason
    return found.items


def every_score(folder: Path) -> dict[tuple[str, str], float | None]:
    found = {}
    for record in load(folder).values():
        for score in record.task.scores:
            items = items_of(record, f"{score.metric},{score.filter}")
            found[record.label, f"{score.metric},{score.filter}"] = aggregate(items)
    return found


def test_every_score_of_every_tree_follows_from_its_items() -> None:
    found = {tree.name: every_score(tree) for tree in sorted(TREES.iterdir())}
    assert {name: len(scores) for name, scores in found.items()} == {
        "blimp": 4,
        "gsm8k": 2,
        "gsm8k_repeated": 2,
        "last_word": 2,
        "outer": 8,
        "plays": 3,
    }


def test_gsm8k_has_two_filters_over_the_same_items() -> None:
    record = load(TREES / "gsm8k")["gsm8k"]
    values = {score.filter: score.value for score in record.task.scores}
    assert values == {"strict-match": 0.5, "flexible-extract": 1.0}
    strict = items_of(record, "exact_match,strict-match")
    flexible = items_of(record, "exact_match,flexible-extract")
    assert strict.keys.tolist() == flexible.keys.tolist()
    assert (strict.values.sum(), flexible.values.sum()) == (3, 6)
    assert (record.task.num_items, record.task.num_fewshot, record.model) == (6, 1, "org/drawn")


def test_keys_are_lm_evals_hashes_and_prompts_cover_every_request() -> None:
    folder = TREES / "blimp"
    task = "blimp_anaphor_number_agreement"
    [table] = read_item_tables(load(folder)[task])
    lines = {line["doc_hash"][:32].encode(): line for line in lines_of(samples_file(folder, task))}
    assert table.keys.tolist() == sorted(lines)
    for key, doc_id, prompt, acc in zip(
        table.keys, table.doc_ids, table.prompts, table.metrics["acc"], strict=True
    ):
        line = lines[key]
        assert (line["doc_id"], line["acc"]) == (doc_id, acc)
        texts = [text for request in line["arguments"].values() for text in request.values()]
        expected = hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()
        assert prompt == expected.encode()


def test_answers_and_confidence_follow_from_the_options_likelihoods() -> None:
    folder = TREES / "outer"
    [table] = read_item_tables(load(folder)["leaf_b"])
    lines = lines_of(samples_file(folder, "leaf_b"))
    for doc_id, answer, confidence in zip(
        table.doc_ids, table.answers, table.confidence, strict=True
    ):
        numbers = [float(answer[0]) for answer in lines[doc_id]["filtered_resps"]]
        chosen = str(numbers.index(max(numbers)))
        assert answer == hashlib.blake2b(chosen.encode(), digest_size=16).hexdigest().encode()
        total = sum(math.exp(number) for number in numbers)
        assert confidence == pytest.approx(math.exp(max(numbers)) / total, rel=1e-12)


def test_answers_of_a_metric_are_those_it_scores() -> None:
    folder = TREES / "outer"
    record = load(folder)["leaf_b"]
    [table] = read_item_tables(record)
    lines = {line["doc_id"]: line for line in lines_of(samples_file(folder, "leaf_b"))}
    for metric, length in (("acc", lambda _: 1), ("acc_norm", len)):
        answers = answers_of(table, metric)
        assert not isinstance(answers, str)
        for doc_id, answer, value in zip(
            table.doc_ids.tolist(), answers, table.metrics[metric], strict=True
        ):
            numbers = [
                float(likelihood) / length(option)
                for (likelihood, _), option in zip(
                    lines[doc_id]["filtered_resps"], lines[doc_id]["doc"]["choices"], strict=True
                )
            ]
            chosen = str(numbers.index(max(numbers)))
            assert answer == hashlib.blake2b(chosen.encode(), digest_size=16).hexdigest().encode()
            # The first option is the right one.
            assert value == (chosen == "0")


def test_what_a_metric_chooses_is_unknown_where_lengths_or_numbers_are() -> None:
    [table] = read_item_tables(load(TREES / "outer")["leaf_b"])
    told = "the samples do not tell the lengths of the options that acc_norm chooses by"
    unknown = np.full(len(table.keys), b"", dtype="S32")
    for known in ({}, {"acc_norm": unknown}):
        assert answers_of(replace(table, answers_by_length=known), "acc_norm") == told
    other = "acc_mutual_info chooses by likelihoods that are not kept"
    assert answers_of(table, "acc_mutual_info") == other
    assert confidence_of(table, "acc") is table.confidence
    assert confidence_of(table, "acc_norm") == (
        "acc_norm does not choose by the options' probabilities"
    )


def test_a_group_of_equal_weights_is_the_mean_of_its_paradigms() -> None:
    records = load(TREES / "blimp")
    items = items_of(records["blimp"], "acc")
    assert items.stratum_weights.tolist() == [1 / 3] * 3
    assert np.bincount(items.strata).tolist() == [4, 3, 5]
    assert records["blimp"].task.num_items == 12
    assert items.keys.tolist() == sorted(set(items.keys.tolist()))


def test_a_group_in_a_group_is_weighted_by_its_leaves_sizes() -> None:
    records = load(TREES / "outer")
    outer, inner = items_of(records["outer"], "acc"), items_of(records["inner"], "acc")
    assert outer.stratum_weights.tolist() == [4 / 12, 5 / 12, 3 / 12]
    assert inner.stratum_weights.tolist() == [1 / 2, 1 / 2]


def test_items_that_are_equal_word_for_word_are_numbered() -> None:
    [table] = read_item_tables(load(TREES / "outer")["leaf_a"])
    [second] = [key for key in table.keys.tolist() if b"#" in key]
    first = second.removesuffix(b"#2")
    doc_id = dict(zip(table.keys.tolist(), table.doc_ids.tolist(), strict=True))
    assert (doc_id[first], doc_id[second]) == (0, 3)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("bits_per_byte", "bits_per_byte"),
        ("byte_perplexity", "perplexity"),
        ("word_perplexity", "perplexity"),
    ],
)
def test_ratio_metrics_keep_likelihoods_and_what_they_are_divided_by(
    metric: str, kind: str
) -> None:
    items = items_of(load(TREES / "plays")["plays"], metric)
    assert items.aggregation == kind
    assert items.weights is not None
    lines = lines_of(samples_file(TREES / "plays", "plays"))
    assert items.weights.sum() == sum(line[metric][1] for line in lines)
    assert items.values.sum() == pytest.approx(sum(line[metric][0] for line in lines), rel=1e-12)


def test_a_perplexity_of_items_has_weights_of_one() -> None:
    items = items_of(load(TREES / "last_word")["last_word"], "perplexity")
    assert items.aggregation == "perplexity"
    assert items.weights is not None
    assert items.weights.tolist() == [1.0] * 5


def test_an_output_path_that_ends_in_json_keeps_its_samples_beside_it() -> None:
    record = load(TREES / "last_word")["last_word"]
    assert Path(record.file or "").name == "named_2026-01-01T00-00-00.000000.json"
    assert [table.task for table in read_item_tables(record)] == ["last_word"]


def test_a_run_with_repeats_has_one_score_an_item_and_filter() -> None:
    tables = read_item_tables(load(TREES / "gsm8k_repeated")["gsm8k_repeated"])
    assert {table.filter: len(table.keys) for table in tables} == {
        "first-of-1": 6,
        "first-of-4": 6,
    }


@pytest.mark.parametrize("name", sorted(tree.name for tree in TREES.iterdir()))
def test_the_first_version_of_the_layout_gives_the_same_items(name: str, tmp_path: Path) -> None:
    as_first_version(copy_tree(name, tmp_path))
    old, new = load(tmp_path), load(TREES / name)
    assert old.keys() == new.keys()
    for label, record in new.items():
        assert old[label].model == "org/drawn"
        assert old[label].task.num_items is None
        for score in record.task.scores:
            metric = f"{score.metric},{score.filter}"
            first, second = items_of(old[label], metric), items_of(record, metric)
            assert first.keys.tolist() == second.keys.tolist()
            assert first.values.tolist() == second.values.tolist()
            assert first.higher_is_better == second.higher_is_better
        prompts = [
            {t.filter: t.prompts.tolist() for t in read_item_tables(run)}
            for run in (old[label], record)
        ]
        assert prompts[0] == prompts[1]


def test_samples_of_one_json_list_give_the_same_items(tmp_path: Path) -> None:
    path = samples_file(copy_tree("gsm8k", tmp_path), "gsm8k")
    path.with_suffix(".json").write_text(json.dumps(lines_of(path), indent=2), encoding="utf-8")
    path.unlink()
    for metric in ("exact_match,strict-match", "exact_match,flexible-extract"):
        old = items_of(load(tmp_path)["gsm8k"], metric)
        new = items_of(load(TREES / "gsm8k")["gsm8k"], metric)
        assert old.keys.tolist() == new.keys.tolist()
        assert old.values.tolist() == new.values.tolist()


def test_texts_carry_the_keys_of_the_scores() -> None:
    for tree in sorted(TREES.iterdir()):
        for record in load(tree).values():
            for score in record.task.scores:
                items = items_of(record, f"{score.metric},{score.filter}")
                keys = [key for key, _ in iterate_texts(record, score.filter)]
                assert sorted(keys) == items.keys.tolist()


def test_texts_show_the_chosen_and_the_right_option() -> None:
    record = load(TREES / "blimp")["blimp_anaphor_number_agreement"]
    samples = [sample for _, sample in iterate_texts(record, "none")]
    assert samples[0].prompt == "\n[Susan revealed herself. | Susan revealed themselves.]"
    assert samples[0].target == "Susan revealed herself."
    assert {(sample.answer == sample.target) for sample in samples if sample.score} == {True}
    assert tuple(samples[:2]) == read_samples(record, "none", limit=2)


def test_items_for_votes_come_from_the_same_lines() -> None:
    record = load(TREES / "gsm8k")["gsm8k"]
    items = read_items(record, "exact_match", "flexible-extract")
    assert sorted(doc_id for _, doc_id, _ in items) == list(range(6))
    assert {item.value for item in items.values()} == {1.0}


def conditions(label: str, folder: Path) -> dict[str, Any]:
    return load(folder)[label].conditions


def test_conditions_tell_how_a_task_was_measured() -> None:
    found = conditions("gsm8k", TREES / "gsm8k")
    definition = found.pop("task definition")
    assert definition["output_type"] == "generate_until"
    assert definition["doc_to_text"] == "Question: {{question}}\nAnswer:"
    assert definition["repeats"] == "1"
    assert definition["filters"].startswith('[{"filter": [{"function": "regex"')
    assert definition["arguments of exact_match"].startswith('{"ignore_case": true')
    assert found == {
        "task version": "3",
        "shots": 1,
        "few-shot seed": 1234,
        "generation settings": {
            "until": ["Question:", "</s>", "<|im_end|>"],
            "do_sample": False,
        },
        "data set": None,
        "split": "test",
        "chat template": "none",
        "system instruction": "none",
        "few-shot as multiturn": False,
        "protocol": "lm-eval",
    }


def test_what_an_old_file_does_not_tell_is_not_known(tmp_path: Path) -> None:
    new = conditions("gsm8k", TREES / "gsm8k")
    as_first_version(copy_tree("gsm8k", tmp_path))
    old = conditions("gsm8k", tmp_path)
    unknown = {"chat template", "system instruction", "few-shot as multiturn", "data set"}
    assert {name for name, value in old.items() if value is None} == unknown
    assert {name: new[name] for name in new if name not in unknown} == {
        name: old[name] for name in old if name not in unknown
    }


@pytest.mark.slow
def test_the_committed_trees_are_what_lm_eval_writes(test_data: Path, tmp_path: Path) -> None:
    script = Path(__file__).parent / "write_trees.py"
    environment = os.environ | {"SUITE_TEST_DATA": str(test_data)}
    subprocess.run([sys.executable, script, tmp_path], check=True, env=environment)
    for path in (path for path in TREES.rglob("*") if path.is_file()):
        written = tmp_path / path.relative_to(TREES)
        if path.suffix == ".jsonl":
            assert written.read_bytes() == path.read_bytes()
        else:
            found, kept = (json.loads(file.read_text("utf-8")) for file in (written, path))
            assert found["results"] == kept["results"]
            assert found["configs"] == kept["configs"]
