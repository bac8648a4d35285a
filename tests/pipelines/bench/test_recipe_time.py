"""The time of a recipe from nothing, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import SuiteError
from suite.pipelines.bench.recipe_time import REPORT_FILES, measure_recipe

RECIPE = """\
title: Tiny
models: [{name: tiny, source: {random: tiny}, device: cpu}]
tasks: [suite_spell]
limit: 2
"""


@pytest.mark.slow
def test_a_recipe_is_timed_and_its_report_kept(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    row = measure_recipe(str(recipe), tmp_path / "kept")
    assert row.num_pairs == 1
    assert 0 < row.scoring_seconds < row.seconds
    assert row.peak_gigabytes > 0.05
    assert {path.name for path in (tmp_path / "kept").iterdir()} == set(REPORT_FILES)


def test_a_recipe_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as error:
        measure_recipe("absent.yaml", tmp_path / "kept")
    assert str(error.value) == "recipe absent.yaml ended with exit code 2"
    assert not (tmp_path / "kept").exists()
