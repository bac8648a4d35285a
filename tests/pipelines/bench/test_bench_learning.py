"""`suite bench learning`: what is compared with what, and that runs differ in their loss alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.permuted import AlmPermutedConfig
from suite.distill.losses.sft import SftConfig
from suite.errors import ConfigError
from suite.pipelines.bench.learning import LearningBench, arms, record_learning
from suite.pipelines.bench.learning_table import (
    CONTROLS,
    LearningRow,
    RatioRow,
    last_steps,
    ratios,
    render_learning,
)

RECIPE = """
kind: transfer
title: Tiny
first_stage:
  kind: distill
  title: Tiny teacher
  student: {name: tiny, source: {random: tiny-words}}
  data: {packaged: python-docs, limit: 4}
  pack: {length: 48}
  losses: [{name: sft}]
  training: {steps: 2, rows_per_step: 2, autocast: none, device: cpu}
target_tokenizer: {random: tiny-bpe}
data: {packaged: python-docs, skip: 4, limit: 4}
pack: {length: 48}
losses: [{name: alm, binarization_temperature: 5}]
training: {steps: 2, rows_per_step: 2, autocast: none, device: cpu}
evaluation: {every: 1, rows: 4, data: {packaged: python-docs, skip: 60}}
"""


def row_of(arm: str, step: int, distance: float, rank: float | None, seed: int = 0) -> LearningRow:
    return LearningRow("r", seed, arm, step, 100, distance, rank, 3.0, 2.0)


ROWS = [
    row_of("alm", 0, 4.0, 0.5),
    row_of("alm", 9, 1.5, 0.9),
    row_of("sft", 0, 4.0, 0.5),
    row_of("sft", 9, 2.0, 0.8),
    row_of("alm_permuted", 0, 4.0, 0.5),
    row_of("alm_permuted", 9, 3.0, 0.4),
]


def test_alm_is_compared_with_each_control_at_every_step():
    found = {(row.control, row.step): row for row in ratios(ROWS)}
    assert len(found) == 4
    assert found["sft", 0].distance_ratio == 1
    assert found["sft", 9].distance_ratio == 0.75
    assert found["sft", 9].rank_gain == pytest.approx(0.1)
    assert found["alm_permuted", 9].distance_ratio == 0.5


@pytest.mark.parametrize(
    ("ratio", "gain", "is_reached"),
    [(0.8, 0.1, True), (0.81, 0.1, False), (0.5, 0.0, False), (0.5, None, False)],
)
def test_the_aim_needs_a_lower_distance_and_a_higher_rank(ratio, gain, is_reached):
    assert RatioRow("r", 0, "sft", 1, ratio, gain).is_reached == is_reached


def test_a_rank_that_is_not_defined_has_no_gain():
    rows = [replace(row, rank_correlation=None) if row.arm == "sft" else row for row in ROWS]
    assert [row.rank_gain for row in ratios(rows) if row.control == "sft"] == [None, None]
    assert "| 2.0000 | – |" in render_learning(rows, ratios(rows), {})


def test_only_last_steps_are_judged():
    assert [(row.control, row.step) for row in last_steps(ratios(ROWS))] == [
        (control, 9) for control in CONTROLS
    ]


def test_the_tables_show_ends_and_ratios_over_steps():
    second = [replace(row, seed=1) for row in ROWS]
    rows = [*ROWS, *second]
    text = render_learning(rows, ratios(rows), {"Hardware": "a | b"})
    assert "- Hardware: a \\| b" in text
    assert "Reached in 4 of 4 comparisons." in text
    assert "| – | none yet | 0 | 4.0000 | 0.5000 | 3.0000 |" in text
    assert "| 1 | sft | 9 | 2.0000 | 0.8000 | 3.0000 |" in text
    assert "| 9 | 0.750 | 0.750 |" in text


def test_the_control_has_all_settings_of_alm_and_other_losses_stay():
    alm = AlmConfig(binarization_temperature=5, gamma=0.2, weight=2, append=False)
    found = arms((alm, HiddenStateConfig()))
    assert found["alm"] == (alm, HiddenStateConfig())
    assert found["sft"] == (SftConfig(),)
    control = AlmPermutedConfig(binarization_temperature=5, gamma=0.2, weight=2, append=False)
    assert found["alm_permuted"] == (control, HiddenStateConfig())


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (
            "losses: [{name: alm, binarization_temperature: 5}]",
            "losses: [{name: sft}]",
            "has no loss alm; give one that has it",
        ),
        (
            "evaluation: {every: 1, rows: 4, data: {packaged: python-docs, skip: 60}}",
            "",
            "has no evaluation.data; give held-out text there",
        ),
    ],
)
def test_a_recipe_without_anything_to_compare_is_refused(before, after, reason, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE.replace(before, after), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        record_learning(LearningBench(recipes=(str(file),)), tmp_path / "out", print)
    assert str(error.value) == f"recipe {file}: {reason}"


def test_the_command_names_what_is_not_usual():
    assert LearningBench().command == "suite bench learning"
    bench = LearningBench(recipes=("bytes-tiny",), seeds=(3, 4))
    assert bench.command == "suite bench learning bytes-tiny --seed 3 --seed 4"


@pytest.mark.slow
def test_runs_of_a_seed_begin_alike_and_end_differently(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    lines: list[str] = []
    bench = LearningBench(recipes=(str(file),), seeds=(0, 1))
    record = record_learning(bench, tmp_path / "out", lines.append)
    data = json.loads(record.files[0].read_text(encoding="utf-8"))["rows"]
    rows = [LearningRow(**row) for row in data if "arm" in row]
    assert len(lines) == 1 + 2 * 3
    assert len(rows) == 2 * 3 * 3
    assert len({row.mean_distance for row in rows if row.step == 0}) == 1
    assert len({row.mean_distance for row in rows if row.step == 2}) == 6
    assert len({row.teacher_bits_per_byte for row in rows}) == 1
    assert [RatioRow(**row) for row in data if "control" in row] == ratios(rows)
