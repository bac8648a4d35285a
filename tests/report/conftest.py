"""One small table with every kind of cell, made by hand."""

from __future__ import annotations

import pytest
from handmade import acc, bits_per_byte, exact_match, run, task_scores

from suite.records import Failure, ModelRow, Table, TaskScores
from suite.report.tables import ColumnSpec, build_table


@pytest.fixture(scope="session")
def failures() -> tuple[Failure, ...]:
    return (
        Failure("student_1", "word_problems", "item 3 needs 2210 tokens, the model reads 2048"),
    )


@pytest.fixture(scope="session")
def small_table(failures: tuple[Failure, ...]) -> Table:
    """A reference, a student with a failed pair, and quantised weights with a pair not run."""
    models = (
        ModelRow("teacher", "bfloat16", is_reference=True),
        ModelRow("student_1", "float32"),
        ModelRow("teacher-Q4", "Q4_1, dequantised to bfloat16"),
    )
    problems = TaskScores(
        "gsm8k",
        (exact_match("strict-match", 0.25), exact_match("flexible-extract", 0.5)),
        100,
        5,
        "3.0",
    )
    runs = (
        run("teacher", "arc_easy", task_scores(acc(1 / 3))),
        run("teacher", "word_problems", problems),
        run("teacher", "wikitext", task_scores(bits_per_byte(0.9812345678901234))),
        run("student_1", "arc_easy", task_scores(acc(0.4), num_truncated=3)),
        run("student_1", "wikitext", task_scores(bits_per_byte(1.25))),
        run("teacher-Q4", "arc_easy", task_scores(acc(0.3))),
        run("teacher-Q4", "word_problems", problems),
    )
    return build_table(
        title="Three models on three tasks",
        models=models,
        columns_spec=(
            ColumnSpec("arc_easy", "arc_easy"),
            ColumnSpec("word_problems", "gsm8k", "exact_match,strict-match"),
            ColumnSpec("wikitext", "wikitext", "bits_per_byte"),
        ),
        runs=runs,
        failures=failures,
        provenance={"Seed": "0", "lm-eval": "0.4.13"},
    )
