"""The comparison with lm-eval's own command, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.pipelines.bench.parity import measure_parity
from suite.pipelines.recipe import Recipe


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_model", "tiny_model_bos"])
def test_scores_equal_those_of_lm_evals_command(model: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(model)
    recipe = Recipe.model_validate(
        {
            "title": "Parity",
            "models": [{"name": "tiny", "source": {"path": folder}, "batch_size": 4}],
            "tasks": [
                {"task": "suite_word_problems", "generation": {"max_gen_toks": 4}},
                "suite_knowledge",
                "suite_bits_per_byte",
            ],
            "limit": 6,
        }
    )
    rows = measure_parity(recipe)
    by_options = {(row.task, row.upstream_options): row for row in rows}
    default_begin_tokens = by_options.pop(("suite_bits_per_byte", ""))
    assert all(row.identical for row in by_options.values())
    # hf's default lets a tokenizer that adds a begin token pay for a second one.
    assert default_begin_tokens.identical == (model == "tiny_model")
