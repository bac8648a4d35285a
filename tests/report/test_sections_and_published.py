from __future__ import annotations

import re
from dataclasses import replace

import pytest
from handmade import acc, run, task_scores
from handscored import hand_table

from suite.errors import ConfigError
from suite.report.markdown import render_markdown
from suite.report.published_tables import published_names, read_published, with_published
from suite.report.sections import by_section, read_groups, section_of

RECORD = run("m", "t", task_scores(acc(0.5)))


@pytest.mark.parametrize(
    ("weights", "section"),
    [
        ("bfloat16", "original"),
        ("Q4_K_M, dequantised to bfloat16; tokens of hub:org/name by fvt", "transferred"),
        ("float32, transfer by alm", "transferred"),
        ("float32, distill by alm + sft", "transferred"),
        ("weights of a transformer by hand", "original"),
    ],
)
def test_the_section_follows_from_how_the_weights_were_made(weights: str, section: str) -> None:
    assert section_of(RECORD, weights) == section


def test_members_or_weights_make_an_ensemble() -> None:
    assert section_of(replace(RECORD, weights=(0.5, 0.5)), "") == "ensembles"
    assert section_of(replace(RECORD, identity={"model": {"members": [{}]}}), "") == "ensembles"


def test_a_group_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ConfigError) as error:
        read_groups([("teachr", "controls")], ["teacher"])
    assert str(error.value) == "--group: no model 'teachr'; did you mean 'teacher'?"
    with pytest.raises(ConfigError) as error:
        read_groups([("teacher", "best")], ["teacher"])
    assert str(error.value) == (
        "--group teacher: no section 'best'; known: original, transferred, ensembles, controls"
    )


def test_rows_are_sorted_by_section_and_keep_their_order_within_one() -> None:
    table, _ = hand_table()
    assert by_section(tuple(reversed(table.rows)))[0].model.name == "start_1"


@pytest.mark.parametrize("name", published_names())
def test_published_averages_are_the_means_of_their_rows(name: str) -> None:
    for row in read_published(name).rows:
        mean = sum(row.scores.values()) / len(row.scores)
        assert row.average == pytest.approx(mean, abs=0.0005 + 1e-9)
        assert all(0 < score < 1 for score in row.scores.values())


def test_the_packaged_tables_are_those_of_the_paper() -> None:
    sizes = {name: len(read_published(name).rows) for name in published_names()}
    assert sizes == {"alm-table-1": 22, "alm-table-2": 7, "alm-table-3": 7}
    first = read_published("alm-table-1").rows[5]
    assert (first.model, first.method) == ("Gemma2-2B-IT → Qwen2", "ALM")
    assert first.scores["ifeval"] == 0.532


def test_an_unknown_published_table_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        read_published("alm-table-9")
    assert str(error.value) == (
        "--published: no table 'alm-table-9'; known: alm-table-1, alm-table-2, alm-table-3"
    )


def test_published_rows_stand_apart_unranked_and_only_where_tasks_agree() -> None:
    table, _ = hand_table()
    columns = (replace(table.columns[0], task="piqa"), *table.columns[1:])
    shown = with_published(replace(table, columns=columns), read_published("alm-table-1"))
    rows = [row for row in shown.rows if row.kind == "published"]
    assert len(rows) == 22
    assert {cell.evidence for row in rows for cell in row.cells} == {None}
    assert rows[0].cells[0].value == 0.796
    assert {cell.value for row in rows for cell in row.cells[1:]} == {None}
    assert {row.average for row in rows} == {None}
    text = render_markdown(shown)
    assert "*published (arXiv 2503.20083)*" in text
    assert re.search(r"left out here: arc_challenge, boolq, mmlu", text)


def test_a_published_table_of_other_tasks_is_a_note_alone() -> None:
    table, _ = hand_table()
    shown = with_published(table, read_published("alm-table-3"))
    assert shown.rows == table.rows
    assert shown.notes[-1] == (
        "Nothing of alm-table-3 (arXiv 2503.20083) is for a task of this table: gsm8k, math"
    )
