from __future__ import annotations

import math

import pytest
from handmade import acc, bits_per_byte, exact_match, run, task_scores

from suite.errors import ConfigError
from suite.records import Cell, Failure, MetricScore, ModelRow, RunRecord, Table, TaskScores
from suite.report.tables import ColumnSpec, build_table

A = ModelRow("a", "float32")
B = ModelRow("b", "float32")
REFERENCE = ModelRow("a", "float32", is_reference=True)


def table_of(
    *runs: RunRecord,
    models: tuple[ModelRow, ...] = (A,),
    columns: tuple[ColumnSpec, ...] = (ColumnSpec("first", "a_task"),),
    failures: tuple[Failure, ...] = (),
) -> Table:
    return build_table(
        title="A table",
        models=models,
        columns_spec=columns,
        runs=runs,
        failures=failures,
        provenance={},
    )


def only_cell(table: Table) -> Cell:
    ((cell,),) = [row.cells for row in table.rows]
    return cell


def test_a_score_keeps_its_value_and_error_unrounded() -> None:
    cell = only_cell(table_of(run("a", "first", task_scores(acc(1 / 3, 0.0123456789)))))
    assert cell == Cell(value=1 / 3, stderr=0.0123456789)


def test_a_column_says_how_it_was_measured() -> None:
    task = TaskScores("gsm8k", (exact_match("strict-match", 0.5),), 100, 5, "3.0")
    (column,) = table_of(
        run("a", "first", task), columns=(ColumnSpec("first", "gsm8k", "exact_match"),)
    ).columns
    assert (column.task, column.metric, column.filter) == ("gsm8k", "exact_match", "strict-match")
    assert (column.num_items, column.num_fewshot, column.version) == (100, 5, "3.0")
    assert column.higher_is_better is True


def test_without_a_metric_the_first_one_of_the_task_is_shown() -> None:
    (column,) = table_of(run("a", "first", task_scores(bits_per_byte(1.0), acc(0.5)))).columns
    assert column.metric == "bits_per_byte"


def test_a_filter_chooses_between_scores_of_one_metric() -> None:
    task = task_scores(exact_match("strict-match", 0.1), exact_match("flexible-extract", 0.2))
    columns = (ColumnSpec("first", "a_task", "exact_match,flexible-extract"),)
    assert only_cell(table_of(run("a", "first", task), columns=columns)).value == 0.2


def test_an_unknown_metric_is_a_dash_that_names_the_metrics_there_are() -> None:
    task = task_scores(acc(0.5), exact_match("strict-match", 0.1))
    columns = (ColumnSpec("first", "a_task", "f1"),)
    cell = only_cell(table_of(run("a", "first", task), columns=columns))
    assert cell.value is None
    assert cell.note == "a_task has no metric 'f1'; its metrics: acc, exact_match,strict-match"


def test_a_task_without_scores_is_a_dash() -> None:
    assert only_cell(table_of(run("a", "first", task_scores()))).note == "a_task has no metric"


def test_one_column_never_mixes_two_metrics() -> None:
    table = table_of(
        run("a", "first", task_scores(acc(0.5))),
        run("b", "first", task_scores(bits_per_byte(1.0))),
        models=(A, B),
    )
    assert table.rows[1].cells[0].value is None


def test_a_failed_pair_is_a_dash_with_the_reason() -> None:
    cell = only_cell(table_of(failures=(Failure("a", "first", "out of memory"),)))
    assert cell == Cell(value=None, note="failed: out of memory")


def test_a_pair_that_never_ran_is_a_dash_that_says_so() -> None:
    assert only_cell(table_of()) == Cell(value=None, note="not run")


def test_a_run_counts_more_than_an_earlier_failure() -> None:
    failures = (Failure("a", "first", "out of memory"),)
    cell = only_cell(table_of(run("a", "first", task_scores(acc(0.5))), failures=failures))
    assert cell.value == 0.5


def test_runs_of_other_models_and_columns_are_left_out() -> None:
    stray = (
        run("a", "other", task_scores(acc(0.1))),
        run("b", "first", task_scores(acc(0.2))),
    )
    assert only_cell(table_of(*stray)).value is None


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_value_that_is_no_number_is_a_dash(value: float | None) -> None:
    cell = only_cell(table_of(run("a", "first", task_scores(acc(value)))))
    assert cell.value is None
    assert cell.note is not None
    assert cell.note.startswith("lm-eval gave ")


def test_a_standard_error_that_is_no_number_is_left_out() -> None:
    cell = only_cell(table_of(run("a", "first", task_scores(acc(0.5, math.nan)))))
    assert cell == Cell(value=0.5)


TWO_COLUMNS = (ColumnSpec("first", "a_task"), ColumnSpec("second", "a_task"))


def test_the_average_is_the_plain_mean() -> None:
    table = table_of(
        run("a", "first", task_scores(acc(0.25))),
        run("a", "second", task_scores(acc(0.5))),
        columns=TWO_COLUMNS,
    )
    assert table.average_columns == ("first", "second")
    assert table.rows[0].average == 0.375


def test_the_average_is_a_dash_where_a_cell_is_missing() -> None:
    table = table_of(
        run("a", "first", task_scores(acc(0.25))),
        run("a", "second", task_scores(acc(0.5))),
        run("b", "first", task_scores(acc(0.25))),
        models=(REFERENCE, B),
        columns=TWO_COLUMNS,
    )
    assert table.rows[0].average == 0.375
    assert table.rows[1].average is None
    assert table.rows[1].average_delta is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((), id="no run at all"),
        pytest.param((run("a", "second", task_scores(bits_per_byte(1.0))),), id="another metric"),
        pytest.param((run("c", "second", task_scores(acc(0.5))),), id="only another model's run"),
    ],
)
def test_the_average_is_a_dash_where_a_column_has_no_known_metric(
    other: tuple[RunRecord, ...],
) -> None:
    table = table_of(
        run("a", "first", task_scores(acc(0.25))),
        run("b", "first", task_scores(acc(0.5))),
        *other,
        models=(REFERENCE, B),
        columns=(ColumnSpec("first", "a_task"), ColumnSpec("second", "a_task", "acc")),
        failures=(Failure("b", "second", "out of memory"),),
    )
    assert table.average_columns == ("first",)
    assert [(row.average, row.average_delta) for row in table.rows] == [(None, None)] * 2
    assert table.notes == (
        "Average: a dash, because second could not be scored for any model, "
        "so whether it enters the average is unknown",
    )


def test_all_columns_without_a_known_metric_are_named_in_one_note() -> None:
    columns = tuple(ColumnSpec(label, "a_task") for label in ("first", "second", "third"))
    table = table_of(run("a", "second", task_scores(acc(0.5))), columns=columns)
    assert table.rows[0].average is None
    (note,) = table.notes
    assert "first, third could not be scored for any model, so whether they enter" in note


def test_without_anything_to_average_there_is_no_note_on_it() -> None:
    table = table_of(run("a", "first", task_scores(bits_per_byte(1.0))), columns=TWO_COLUMNS)
    assert table.average_columns == ()
    assert table.notes == ()


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(bits_per_byte(0.9), id="bits per byte within 0-1"),
        pytest.param(MetricScore("mcc", "none", 0.5, None, True), id="a correlation"),
        pytest.param(MetricScore("f1", "none", 61.2, None, True), id="already in percent"),
        pytest.param(MetricScore("acc", "none", 0.5, None, None), id="direction not known"),
        pytest.param(MetricScore("brier_score", "none", 0.2, None, False), id="lower is better"),
    ],
)
def test_only_shares_where_more_is_better_are_averaged(score: MetricScore) -> None:
    table = table_of(run("a", "first", task_scores(score)))
    assert table.average_columns == ()
    assert table.rows[0].average is None


def test_differences_are_taken_from_the_reference_row() -> None:
    table = table_of(
        run("b", "first", task_scores(acc(0.75))),
        run("a", "first", task_scores(acc(0.5))),
        models=(B, REFERENCE),
    )
    other, reference = table.rows
    assert (other.cells[0].delta, other.average_delta) == (0.25, 0.25)
    assert (reference.cells[0].delta, reference.average_delta) == (None, None)


def test_without_a_reference_there_are_no_differences() -> None:
    table = table_of(
        run("a", "first", task_scores(acc(0.5))),
        run("b", "first", task_scores(acc(0.75))),
        models=(A, B),
    )
    assert [row.cells[0].delta for row in table.rows] == [None, None]


def test_there_is_no_difference_from_a_missing_reference_score() -> None:
    table = table_of(run("b", "first", task_scores(acc(0.5))), models=(REFERENCE, B))
    assert table.rows[1].cells[0] == acc_cell(0.5)


def acc_cell(value: float) -> Cell:
    return Cell(value=value, stderr=0.0123456789012345)


def test_two_references_are_refused_by_name() -> None:
    models = (REFERENCE, ModelRow("b", "float32", is_reference=True))
    with pytest.raises(ConfigError, match="a, b are all references"):
        table_of(models=models)


def test_models_measured_differently_are_named_in_a_note() -> None:
    table = table_of(
        run("a", "first", TaskScores("a_task", (acc(0.5),), 150, 0, "1.0")),
        run("b", "first", TaskScores("a_task", (acc(0.5),), 100, None, "2.0")),
        models=(A, B),
    )
    ending = "so their scores are not comparable"
    assert table.notes == (
        f"first: the models differ in the number of items (150 for a; 100 for b), {ending}",
        f"first: the models differ in the number of shots (0 for a; unknown for b), {ending}",
        f"first: the models differ in the task version (1.0 for a; 2.0 for b), {ending}",
    )
    (column,) = table.columns
    assert (column.num_items, column.num_fewshot, column.version) == (None, None, "")


def test_tasks_that_disagree_alike_share_a_note() -> None:
    runs = [
        run(model, label, TaskScores(label, (acc(0.5),), 150, shots, "1.0"))
        for model, shots in (("a", 0), ("b", 5))
        for label in ("first", "second")
    ]
    specs = (ColumnSpec("first", "first"), ColumnSpec("second", "second"))
    table = table_of(*runs, models=(A, B), columns=specs)
    assert table.notes == (
        "first, second: the models differ in the number of shots (0 for a; 5 for b), so their "
        "scores are not comparable",
    )
    assert table_of(*runs, models=(REFERENCE, B), columns=specs).notes == ()


@pytest.mark.parametrize(
    ("weights", "is_noted"),
    [
        ("Q4_1, dequantised to bfloat16", True),
        ("gemma Q4_K, quantized", True),
        ("int8 (GPTQ)", True),
        ("bfloat16, run in float32", False),
        ("random, float32", False),
    ],
)
def test_quantised_weights_are_noted(weights: str, is_noted: bool) -> None:
    table = table_of(models=(ModelRow("a", weights),))
    assert table.notes == ((f"a: weights {weights}",) if is_noted else ())


def test_a_backend_that_hides_truncation_is_noted() -> None:
    table = table_of(run("a", "first", task_scores(acc(0.5), num_truncated=None)))
    assert table.notes == ("a: its backend does not tell whether prompts were cut",)
    runs = [run(name, "first", task_scores(acc(0.5), num_truncated=None)) for name in "ab"]
    assert table_of(*runs, models=(A, B)).notes == (
        "a, b: their backends do not tell whether prompts were cut",
    )
