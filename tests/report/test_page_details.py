"""What the page shows beside the table, and that it keeps within its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from flip_cases import (
    ATTACK,
    MIXTURE,
    REFERENCE,
    STUDENT,
    TASKS,
    runs,
    scored_run,
    source,
    table_of,
)

from suite.errors import RecordError
from suite.records import Estimate, RunRecord, Sample, Table
from suite.report.html_page import render_html
from suite.report.page_answers import agreement_map, pooled_map, reliability
from suite.report.page_data import Cost, Curve, CurvePanel, FidelityRow, PageDetails
from suite.report.page_details import page_details
from suite.report.page_drawings import forest_drawing
from suite.report.page_flips import ItemSource
from suite.report.page_json import MAX_BYTES, MAX_CHARACTERS, cut, flips_json
from suite.report.page_tasks import task_pages
from suite.results.scored import Scored


@pytest.fixture(scope="module")
def table() -> Table:
    return table_of(runs())


@pytest.fixture(scope="module")
def details(table: Table) -> PageDetails:
    return page_details(runs(), table, source=source(ATTACK))


@pytest.fixture(scope="module")
def page(table: Table, details: PageDetails) -> str:
    return render_html(table, [], details=details)


def flip_data(page: str) -> dict[str, Any]:
    (text,) = re.findall(
        r'<script type="application/json" id="flip-data">(.*?)</script>', page, flags=re.DOTALL
    )
    content: dict[str, Any] = json.loads(text)
    return content


def test_all_pairs_of_models_are_counted_over_all_items(details: PageDetails) -> None:
    scored = runs()
    assert [(p.column, p.first, p.second) for p in details.flips] == [
        (column, *pair)
        for column in range(2)
        for pair in ((REFERENCE, STUDENT), (REFERENCE, MIXTURE), (STUDENT, MIXTURE))
    ]
    for pair in details.flips:
        first, second = (
            scored[name, TASKS[pair.column]].items for name in (pair.first, pair.second)
        )
        assert first is not None
        assert second is not None
        changed = list(zip(first.values, second.values, strict=True))
        assert pair.num_items == 60
        assert pair.num_lost == changed.count((1, 0))
        assert pair.num_gained == changed.count((0, 1))
        assert len(pair.flips) == pair.num_lost + pair.num_gained
        by_length = [group for group in pair.groups if group.feature == "length"]
        assert sum(group.num_items for group in by_length) == 60
        assert sum(group.num_lost for group in by_length) == pair.num_lost


def test_a_flip_holds_both_models_answers_to_the_same_item(details: PageDetails) -> None:
    for flip in details.flips[2].flips:
        number = flip.target.split()[1]
        assert flip.first_answer.startswith(f"{STUDENT} says {number} ")
        assert flip.second_answer.startswith(f"{MIXTURE} says {number} ")


def test_text_of_items_cannot_end_the_data_block(page: str, details: PageDetails) -> None:
    assert ATTACK not in page
    data = flip_data(page)
    assert any(ATTACK in text for text in data["texts"])
    assert sum(len(pair["flips"]) for pair in data["pairs"]) == sum(
        len(pair.flips) for pair in details.flips
    )


def test_every_model_of_a_task_has_score_interval_difference_p_and_mde(page: str) -> None:
    (task,) = re.findall(r'id="task-1">.*?</table>', page, flags=re.DOTALL)
    for model in (REFERENCE, STUDENT, MIXTURE):
        assert f'<th scope="row">{model}' in task
    assert "0.012" in task
    assert "0.040" in task
    assert "11.0" in task
    assert "exact McNemar: better on 5, worse on 20" in task


def test_ranks_and_daggers_are_text_as_well_as_style(page: str) -> None:
    assert re.search(r'<strong>[\d.]+</strong><span class="unseen"> best</span>', page)
    assert ">†</span>" in page


def test_a_page_of_long_texts_stays_below_its_limit(table: Table) -> None:
    scored = runs(300)
    details = page_details(scored, table_of(scored), source=source("ü" * 3_000))
    # Every flip gets texts of its own, as large as they may be.
    flips = tuple(
        replace(
            pair,
            flips=tuple(
                replace(flip, prompt=f"{place} {i} {j} {chr(0x1F600) * 3_000}")
                for i in range(5)
                for j, flip in enumerate(pair.flips)
            ),
        )
        for place, pair in enumerate(details.flips)
    )
    page = render_html(table_of(scored), [], details=replace(details, flips=flips))
    size = len(page.encode("utf-8", "backslashreplace"))
    assert MAX_BYTES - 50_000 < size <= MAX_BYTES
    shown = sum(len(pair["flips"]) for pair in flip_data(page)["pairs"])
    assert f"{shown:,} of " in page


def test_a_damaged_file_costs_its_part_of_the_page_and_is_named(table: Table) -> None:
    whole = source()

    def texts(record: RunRecord, filter_name: str) -> Iterator[tuple[bytes, Sample]]:
        yield from islice(whole.texts(record, filter_name), 3)
        raise RecordError(f"{record.label}.jsonl: line 4 is not a JSON object")

    def chosen(run: Scored, keys: Set[bytes]) -> Mapping[bytes, Sample]:
        if run.record.model == STUDENT:
            raise RecordError("student.jsonl: line 2 is not a JSON object")
        return whole.chosen(run, keys)

    def features(record: RunRecord) -> dict[bytes, dict[str, int]]:
        if (record.model, record.label) == (MIXTURE, "sums"):
            raise RecordError("features.jsonl: line 1 is not a readable row of features")
        return {}

    details = page_details(runs(), table, source=ItemSource(texts, chosen, features))
    damage = "line 4 is not a JSON object"
    lost = "texts of changed answers left out (student.jsonl: line 2 is not a JSON object)"
    assert sorted(details.notes) == [
        f"choices, {STUDENT}: {lost}",
        f"choices, {REFERENCE}: groups by text left out (choices.jsonl: {damage})",
        f"sums, {MIXTURE}: tokens left out"
        " (features.jsonl: line 1 is not a readable row of features)",
        f"sums, {STUDENT}: {lost}",
        f"sums, {REFERENCE}: groups by text left out (sums.jsonl: {damage})",
    ]
    for pair in details.flips:
        assert pair.num_lost > 0
        assert pair.groups == ()
        assert bool(pair.flips) == (STUDENT not in (pair.first, pair.second))
    page = render_html(table, [], details=details)
    assert f"<li>choices, {STUDENT}: {lost}</li>" in page


@pytest.mark.parametrize("room", [0, 2_000, 3_000, 5_000, 20_000])
def test_the_data_never_passes_its_room(table: Table, details: PageDetails, room: int) -> None:
    smallest = len(flips_json(table, details.flips, 0).text.encode())
    found = flips_json(table, details.flips, smallest + room)
    assert len(found.text.encode()) <= smallest + room
    assert found.num_flips == sum(p.num_lost + p.num_gained for p in details.flips)
    assert (found.num_shown == 0) == (room == 0)


def test_a_long_text_is_cut_in_its_middle_with_a_mark() -> None:
    text = "a" * 3_000 + "the question"
    found = cut(text)
    assert found.startswith("a" * 600 + " [… 1,012 characters cut …] a")
    assert found.endswith("the question")
    assert cut("b" * MAX_CHARACTERS) == "b" * MAX_CHARACTERS


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    first, second = scored_run("a", [1, 1, 0, 0]), scored_run("b", [1, 0, 0, 1])
    found = agreement_map(["a", "b", "c"], {"a": first, "b": second})
    assert found is not None
    # Their wrong answers differ, so only the first item is answered alike.
    assert found.values == ((1.0, 0.25), (0.25, 1.0))
    assert found.counts == ((4, 4), (4, 4))
    other = agreement_map(["a", "b"], {"a": scored_run("a", [1]), "b": scored_run("b", [1])})
    assert other is not None
    pooled = pooled_map(["a", "b"], [found, other])
    assert pooled is not None
    assert pooled.values[0][1] == pytest.approx(2 / 5)
    assert pooled.counts[0][1] == 5


def test_agreement_needs_two_models_with_answers() -> None:
    assert agreement_map(["a"], {"a": scored_run("a", [1])}) is None
    assert pooled_map(["a"], []) is None


def test_reliability_is_of_the_chosen_options() -> None:
    found = reliability("a", scored_run("a", [1.0] * 30 + [0.0] * 10))
    assert found is not None
    assert found.counts == (10, 30)
    assert found.accuracies == (0.0, 1.0)
    assert found.confidences == pytest.approx((0.4, 0.9))
    assert found.calibration_error.value == pytest.approx((10 * 0.4 + 30 * 0.1) / 40)
    assert found.brier.value == pytest.approx((10 * 0.16 + 30 * 0.01) / 40)
    run = scored_run("a", [1.0, 0.0])
    assert reliability("a", replace(run, tables=())) is None


def test_costs_come_from_the_runs_unless_they_are_given(table: Table) -> None:
    scored = runs()
    details = page_details(
        scored, table, costs={STUDENT: Cost(3.0, 1_000_000, "a GPU")}, source=source()
    )
    assert [(p.label, p.seconds_per_item) for p in details.costs] == [
        (REFERENCE, 25 / 120),
        (STUDENT, 3.0),
        (MIXTURE, 25 / 120),
    ]
    assert details.costs[1].parameters == 1_000_000
    page = render_html(table, [], details=details)
    assert "Measured on different hardware" in page
    assert "1,000,000" in page


def test_sections_without_anything_to_show_are_left_out(table: Table) -> None:
    page = render_html(table, [], details=PageDetails())
    for name in ("figures", "tasks", "flips", "samples"):
        assert f'id="{name}"' not in page


def test_curves_and_fidelity_are_shown_when_given(table: Table) -> None:
    points = tuple(Estimate(v, v - 0.1, v + 0.1, 0.95, 9, "t") for v in (0.2, 0.3))
    details = page_details(
        runs(),
        table,
        curves=[CurvePanel("sums, acc", (Curve("a run", (1, 2), points),))],
        fidelity=[FidelityRow(f"agreement {ATTACK}", 0.8)],
        source=source(),
    )
    page = render_html(table, [], details=details)
    assert "sums, acc over checkpoints" in page
    assert "agreement &lt;script&gt;" in page
    assert ATTACK not in page


def test_every_run_is_named_with_its_file(page: str) -> None:
    assert "6 results files" in page
    assert "runs/student_1/sums.json" in page


def test_too_many_differences_for_a_figure_are_left_to_the_table(table: Table) -> None:
    pages = task_pages(table, runs())
    many = [replace(one, rows=one.rows * 21) for one in pages]
    drawing = forest_drawing(table, many, REFERENCE)
    assert drawing is not None
    assert drawing.svg == ""
    assert drawing.caption == "84 differences are too many for a figure; here are the numbers."
    assert len(drawing.rows) == 84
    assert forest_drawing(table, pages, None) is None
