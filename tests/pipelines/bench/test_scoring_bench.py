"""`suite bench scoring`: what it counts, that it sees differences, and the files it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.engine.requests import pair_request
from suite.errors import ConfigError
from suite.pipelines.bench import scoring
from suite.pipelines.bench.scoring import ScoringBench, record_scoring
from suite.pipelines.bench.scoring_cases import CASES, ScoringCase
from suite.pipelines.bench.scoring_measure import EnsembleRow, SpeedRow, num_distinct_places
from suite.pipelines.bench.scoring_memory import MemoryRow
from suite.pipelines.bench.scoring_table import render_scoring

texts = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=8), min_size=1, max_size=10)


@given(texts)
def test_distinct_places_are_the_different_beginnings_that_are_read(given_texts):
    requests = [pair_request(text[:1], text[1:], max_length=50) for text in given_texts]
    # The last token is predicted, not read.
    beginnings = {tuple(text[:n]) for text in given_texts for n in range(1, len(text))}
    assert num_distinct_places(requests) == len(beginnings)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    cases = (CASES[0], CASES[3], ScoringCase("5-shot choices", "suite_spell", 5), *CASES[-2:])
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "CASES", cases)
        patch.setattr(scoring, "_MEMORY_LENGTH", 64)
        bench = ScoringBench(model="random:tiny", limit=3, repeats=1)
        found = record_scoring(bench, folder, lines.append)
    return found, json.loads(found.files[0].read_text()), lines


def test_the_engine_answers_as_lm_eval_does(record):
    rows = record[1]["rows"]
    speeds = [row for row in rows if "hf_seconds" in row]
    assert [row["group"] for row in speeds] == [
        "four choices",
        "four choices",
        "5-shot choices",
        "one-token choices",
        "generation",
    ]
    for row in speeds:
        assert row["num_different"] == 0
        assert row["hf_seconds"] > 0
        assert row["suite_seconds"] > 0
        if row["group"] == "generation":
            assert row["ceiling"] is None
            continue
        assert row["max_difference"] < 1e-4
        assert row["hf_places"] >= row["distinct_places"] > 0
        assert row["ceiling"] > 1


def test_ensembles_and_memory_are_measured_too(record):
    rows = record[1]["rows"]
    assert {row["task"] for row in rows if "alone_seconds" in row} == {
        "suite_spell",
        "suite_knowledge",
    }
    (memory,) = [row for row in rows if "peak_bytes" in row]
    assert memory["peak_bytes"] > 10**7


def test_the_table_says_how_to_repeat_it(record):
    found = record[0]
    assert found.files[1].read_text() == found.markdown
    assert "suite bench scoring --model random:tiny --limit 3 --repeats 1" in found.markdown
    assert any("memory" in line for line in record[2])


def test_the_table_has_ratios_of_what_was_measured():
    speed = SpeedRow(
        "four choices",
        "t",
        None,
        8,
        6.0,
        2.0,
        0,
        hf_places=100,
        distinct_places=20,
        num_scored=10,
        ceiling=4.0,
        max_difference=1e-6,
    )
    text = render_scoring(
        [speed], [EnsembleRow("t", 2, 2.2, 1.0)], [MemoryRow(8, 2048, 3 * 10**9)], {"Model": "m"}
    )
    assert "| 6.00 | 2.00 | 3.00 | 4.00 | 75% |" in text
    assert "| t | 2 | 2.20 | 1.00 | 1.10 |" in text
    assert "| 8 | 2,048 | 3.00 |" in text


@pytest.mark.parametrize("option", ["limit", "batch_size", "repeats"])
def test_sizes_below_one_are_refused(option):
    with pytest.raises(ConfigError) as caught:
        ScoringBench(**{option: 0})
    assert str(caught.value) == f"--{option.replace('_', '-')} is 0, expected at least 1"


def test_no_case_stands_twice():
    assert len(set(CASES)) == len(CASES)
    assert np.all([case.task.startswith("suite_") for case in CASES])
