"""The exact sentences below a table, and what they must not claim."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from handscored import accuracy, cell, documents, hand_scored, hand_table, means
from scipy import stats

from suite.records import Estimate, MetricScore, ModelRow, Row, Table
from suite.report.average_evidence import cut
from suite.report.csv_file import render_csv
from suite.report.delta_style import delta_table
from suite.report.evidence import TableEvidence
from suite.report.formatting import average_cell, format_error
from suite.report.grouped_notes import grouped
from suite.report.markdown import render_markdown
from suite.report.notes import footnotes, legend
from suite.report.paper_rows import Roles, paper_table, with_evidence

LABELS = tuple("abcdef")


def first_right(count: int, n: int = 60) -> list[float]:
    return [float(i < count) for i in range(n)]


def table_of(
    *models: str,
    labels: tuple[str, ...] = LABELS,
    shots: int | None = None,
    with_items: bool = True,
) -> tuple[Table, TableEvidence]:
    """0/1 tasks; the first model is the reference, the others may have been shown examples."""
    scored = {}
    for place, model in enumerate(models):
        for task, label in enumerate(labels):
            right = first_right(50 - 9 * place - task, 80)
            items = means(right) if with_items or not place else None
            conditions = {"shots": shots + task} if shots is not None and place else {"shots": 0}
            one = cell(model, label, items, accuracy(right), conditions=conditions)
            if items is None:
                one = replace(one, reason=f"{model} · {label}: no samples were written")
            scored[model, label] = one
    rows = [ModelRow(name, "w", is_reference=not place) for place, name in enumerate(models)]
    return hand_table(scored, rows)


def notes_with(table: Table, part: str) -> list[str]:
    return [note for note in table.notes if part in note]


def test_refusals_are_one_sentence_for_all_models_and_columns() -> None:
    table, evidence = table_of("base", "new", "other", shots=5)
    shown = with_evidence(table, evidence)
    assert notes_with(shown, "not compared") == [
        "new, other are not compared with base on 6 columns: not measured alike (shots: 5 against 0"
        "); evaluate both in the same way (on a; elsewhere with other values)"
    ]
    assert notes_with(shown, "the models differ") == []


def test_models_without_items_are_one_sentence_and_so_are_unpaired_tests() -> None:
    table, evidence = table_of("base", "new", "other", with_items=False)
    shown = with_evidence(table, evidence)
    assert notes_with(shown, "No items") == [
        "No items of new, other for 6 columns, so no interval beside lm-eval's standard error: no "
        "samples were written"
    ]
    assert notes_with(shown, "unpaired with") == [
        "6 columns: new, other unpaired with base, from standard errors alone, which finds only "
        "much larger differences"
    ]


def test_reasons_are_grouped_by_all_but_their_values() -> None:
    told = [
        ("m", "x", "n: 5 against 7"),
        ("m", "y", "n: 6 against 7"),
        ("k", "x", "no file"),
        ("m", "z", "no file"),
        ("j", "x", "no file"),
    ]
    found = [(one.models, one.labels, one.text, one.is_example) for one in grouped(told)]
    assert found == [
        (("m",), ("x", "y"), "n: 5 against 7", True),
        (("k", "j"), ("x",), "no file", False),
        (("m",), ("z",), "no file", False),
    ]


def test_every_printed_interval_has_its_method_named() -> None:
    table, evidence = hand_table()
    shown = paper_table(table, evidence, Roles("teacher", "start_1"))
    assert shown.notes[0] == (
        "95 % intervals of scores, in brackets where no standard error is printed and all of them "
        "in table.csv: Wilson on quiz; t on graded; bootstrap over documents (1,000 resamples) on "
        "novels; stratified t (3 tasks) on Average"
    )
    assert notes_with(shown, "Brackets in") == [
        "Brackets in a row of Δ to teacher: intervals of each difference by itself, not widened "
        "for their number, by exact McNemar on quiz; t on graded; bootstrap over documents (1,000 "
        "resamples) on novels; Welch, unpaired on closed; unpaired averages on Average",
        "Brackets in a row of % of teacher recovered: percentile intervals by bootstrap over items "
        "(1,000 resamples) on quiz, graded",
    ]
    delta = delta_table(table, evidence)
    assert delta.notes[-1].startswith("Brackets in a row of differences: intervals of each")


def test_bootstraps_of_shares_alone_are_told_with_their_seed() -> None:
    quiz = {key: one for key, one in hand_scored().items() if key[1] == "quiz"}
    table, evidence = hand_table(quiz)
    sentence = "Bootstraps draw with seed 0, the same resamples for every model of a column"
    assert sentence not in with_evidence(table, evidence).notes
    shown = paper_table(table, evidence, Roles("teacher", "start_1"))
    assert shown.notes.count(sentence) == 1


def few_documents() -> tuple[Table, TableEvidence]:
    score = MetricScore("bits_per_byte", "none", 1.0, None, higher_is_better=False)
    items = documents([60.0, 70.0, 80.0], [100.0, 100.0, 100.0])
    return hand_table({("m", "novels"): cell("m", "novels", items, score)}, [ModelRow("m", "w")])


def test_a_missing_interval_has_its_reason_as_a_footnote_and_no_method_is_claimed() -> None:
    table, evidence = few_documents()
    shown = with_evidence(table, evidence)
    (reason,) = footnotes(shown)
    assert reason == (
        "no interval: 3 documents are too few for an interval: at least 10 are needed"
    )
    (line,) = csv.DictReader(io.StringIO(render_csv(shown)))
    assert (line["interval"], line["low"], line["note"]) == ("", "", reason)
    assert not [note for note in shown.notes if "ootstrap" in note]


def test_a_standard_error_of_zero_gives_way_to_the_interval() -> None:
    right = [1.0] * 6
    scored = {("m", "quiz"): cell("m", "quiz", means(right), accuracy(right))}
    table, evidence = hand_table(scored, [ModelRow("m", "w")])
    shown = with_evidence(table, evidence)
    assert "100.0 <sub>[61.0, 100.0]</sub>" in render_markdown(shown)
    assert "± is one standard error." not in legend(shown)
    assert "Brackets hold a 95 % interval." in legend(shown)
    assert format_error(replace(shown.rows[0].cells[0], evidence=None), shown.columns[0]) == "±0.0"


def test_the_average_of_one_task_has_the_interval_and_the_test_of_that_task() -> None:
    table, evidence = table_of("base", "new", labels=("quiz",))
    shown = with_evidence(table, evidence)
    for row in shown.rows:
        one = row.cells[0].evidence
        assert one is not None
        assert row.average_evidence is not None
        assert row.average_evidence.estimate == one.estimate
    delta = delta_table(table, evidence).rows[1]
    assert average_cell(delta).evidence is not None
    assert delta.average_evidence is not None
    assert delta.cells[0].evidence is not None
    assert delta.average_evidence.estimate == delta.cells[0].evidence.estimate


def test_no_interval_of_an_average_leaves_the_scale() -> None:
    scored = {}
    for label, right in (("a", [1.0, 1.0, 0.0]), ("b", [1.0, 1.0, 1.0, 0.0])):
        scored["m", label] = cell("m", label, means(right), accuracy(right))
    _, evidence = hand_table(scored, [ModelRow("m", "w")])
    estimate = evidence.averages["m"].estimate
    assert estimate is not None
    assert estimate.high == 1.0
    assert estimate.method == "stratified t (2 tasks), cut at 0 and 100 %"
    inside = Estimate(0.5, 0.4, 0.6, 0.95, 10, "t")
    assert cut(inside, 0.0, 1.0) == inside


def test_a_gap_that_does_not_hold_after_holm_has_no_share() -> None:
    # Seven discordant items all one way: p = 0.016, which one column leaves and six do not.
    alone, six = (
        paper_table(*roles_on(labels), Roles("teacher", "start")) for labels in (("a",), LABELS)
    )
    assert share(alone).cells[0].value == pytest.approx(5 / 7)
    first = share(six).cells[0]
    assert (first.value, first.note) == (
        None,
        "no share recovered: the gap from start to teacher is not distinguishable from 0 after Holm"
        " over 6 columns",
    )


def roles_on(labels: tuple[str, ...]) -> tuple[Table, TableEvidence]:
    rights = {"teacher": 40, "start": 33, "student": 38}
    sections = ("original", "original", "transferred")
    scored = {}
    for label in labels:
        for name, count in rights.items():
            # Beyond the first column nothing tells the teacher from the start.
            right = first_right(count if label == "a" else 40)
            scored[name, label] = cell(name, label, means(right), accuracy(right))
    models = [
        ModelRow(name, "w", is_reference=name == "teacher", section=section)
        for name, section in zip(rights, sections, strict=True)
    ]
    return hand_table(scored, models)


def share(table: Table) -> Row:
    return next(row for row in table.rows if row.kind == "recovered")


def test_a_row_without_all_scores_says_why_there_is_no_difference() -> None:
    table, evidence = hand_table()
    mixture = next(row for row in delta_table(table, evidence).rows if row.model.name == "mixture")
    assert mixture.cells[3].note == "not run"
    shown = paper_table(table, evidence, Roles("mixture", "start_1"))
    difference = next(row for row in shown.rows if row.kind == "delta")
    assert difference.cells[3].note == "mixture has no score"
    assert share(shown).cells[3].note == "mixture has no score"


def test_only_differences_not_found_have_an_mde_with_its_level() -> None:
    table, evidence = hand_table()
    lines = csv.DictReader(io.StringIO(render_csv(with_evidence(table, evidence))))
    tested = [line for line in lines if line["p_adjusted"]]
    assert {line["mde"] == "" for line in tested if line["significant"] == "true"} == {True}
    silent = [line for line in tested if line["significant"] == "false"]
    levels = np.array([float(line["mde_alpha"]) for line in silent])
    assert len(silent) > 1
    assert levels == pytest.approx(0.05 / np.round(0.05 / levels))
    line = next(one for one in silent if one["test"].startswith("paired t"))
    error = abs(float(line["delta_high"]) - float(line["delta"])) / stats.t.ppf(0.975, 79)
    alpha = float(line["mde_alpha"])
    reach = stats.t.ppf(1 - alpha / 2, 79) + stats.t.ppf(0.8, 79)
    assert float(line["mde"]) == pytest.approx(reach * error, rel=0.02)
