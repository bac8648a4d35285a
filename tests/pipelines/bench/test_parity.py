"""The comparison with lm-eval's own command: what it refuses, what it counts, and that it holds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite.errors import ConfigError, HarnessError
from suite.harness.tasks import TaskConfig, TaskPlan
from suite.models.entry import ModelConfig
from suite.models.loading import Placement
from suite.pipelines.bench import parity as parity_module
from suite.pipelines.bench.parity import OUR_BEGIN_TOKENS, Parity, measure_parity
from suite.pipelines.plan import ModelPlan
from suite.pipelines.recipe import Recipe

GROUP = "group: capitals_group\ntask: [capitals]\n"
MEMBER = """\
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/capitals.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [Rome, Paris]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""

ANSWERS = [("-1.5", "True"), ("-2.25", "False")]


def recipe_of(task: str = "suite_spell", **changes: Any) -> Recipe:
    """A recipe of one model and one task; `changes` are keys of the model."""
    entry = {"name": "tiny", "source": {"random": "tiny"}} | changes
    return Recipe.model_validate({"title": "Parity", "models": [entry], "tasks": [task]})


def sample(item: int, answers: list[Any], filter_name: str = "none") -> dict[str, Any]:
    """What lm-eval logs of an item: one list of repeats for each request."""
    return {"doc_id": item, "filter": filter_name, "resps": [[answer] for answer in answers]}


class _Plan(TaskPlan):
    """A task plan whose request type is given, without a definition."""

    output_type = "multiple_choice"


class _TextPlan(TaskPlan):
    output_type = "generate_until"


def compare(ours: Any, theirs: Any, plan: type[TaskPlan] = _Plan, score: float = 0.5) -> Parity:
    """Our samples and lm-eval's; `score` is what lm-eval aggregated, ours is 0.5."""
    entry = ModelConfig.model_validate({"name": "tiny", "source": {"random": "tiny"}})
    model = ModelPlan(entry, None, Placement(device="cpu", dtype="float32"), "float32", {})
    task = plan(TaskConfig(task="t"), "task", None, {})
    return parity_module._compare(
        model,
        task,
        ({"acc,none": 0.5, "acc_stderr,none": "N/A", "alias": "t"}, ours),
        ({"acc,none": score, "acc_stderr,none": "N/A", "alias": "t"}, theirs),
    )


def test_equal_answers_are_identical_also_as_text_in_a_file() -> None:
    ours = [sample(0, [(-1.5, True), (-2.25, False)])]
    row = compare(ours, [sample(0, [list(answer) for answer in ANSWERS])])
    assert (row.num_items, row.num_answers, row.num_different) == (1, 2, 0)
    assert row.max_difference == 0
    assert row.identical


def test_different_answers_are_counted_and_their_distance_is_in_nats() -> None:
    ours = [sample(0, [(-1.5, True), (-2.25, False)]), sample(1, [(-4.0, False), (-3.0, True)])]
    theirs = [sample(0, [(-1.0, True), (-2.25, False)]), sample(1, [(-4.0, False), (-5.0, True)])]
    row = compare(ours, theirs)
    assert (row.num_items, row.num_answers, row.num_different) == (2, 4, 2)
    assert row.max_difference == 2.0
    assert not row.identical


def test_another_greedy_flag_is_a_different_answer_at_distance_zero() -> None:
    row = compare([sample(0, [(-1.5, True)])], [sample(0, [(-1.5, False)])])
    assert (row.num_different, row.max_difference) == (1, 0)


def test_equal_answers_with_another_score_are_not_identical() -> None:
    samples = [sample(0, [(-1.5, True)])]
    row = compare(samples, samples, score=0.25)
    assert row.num_different == 0
    assert not row.identical


def test_texts_that_differ_are_counted_once_for_all_filters_and_have_no_distance() -> None:
    ours = [sample(0, ["4"], "strict"), sample(0, ["4"], "flexible"), sample(1, ["5"], "strict")]
    theirs = [sample(0, ["4"], "strict"), sample(0, ["4"], "flexible"), sample(1, ["6"], "strict")]
    row = compare(ours, theirs, _TextPlan)
    assert (row.num_items, row.num_answers, row.num_different) == (2, 2, 1)
    assert row.max_difference is None


def test_every_repeat_of_a_generation_is_compared() -> None:
    ours = [{"doc_id": 0, "filter": "none", "resps": [["a", "b"]]}]
    theirs = [{"doc_id": 0, "filter": "none", "resps": [["a", "c"]]}]
    row = compare(ours, theirs, _TextPlan)
    assert (row.num_answers, row.num_different) == (2, 1)


def test_other_items_cannot_be_compared() -> None:
    with pytest.raises(HarnessError) as error:
        compare([sample(0, [(-1.0, True)])], [sample(1, [(-1.0, True)])])
    assert str(error.value) == "task 't': lm-eval scored other items than we did"


def test_answers_of_lm_eval_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(HarnessError) as error:
        compare([sample(0, [(-1.0, True)])], [sample(0, [("nan", "True")])])
    assert str(error.value) == "task 't': lm-eval's answers are not all finite"


@pytest.mark.parametrize(
    ("output_type", "options", "must"),
    [
        ("loglikelihood_rolling", "", False),
        ("loglikelihood_rolling", OUR_BEGIN_TOKENS, True),
        ("multiple_choice", "", True),
        ("generate_until", "", True),
    ],
)
def test_only_rolling_text_under_hfs_begin_tokens_may_differ(
    output_type: str, options: str, must: bool
) -> None:
    row = Parity(
        backend="hf",
        model="m",
        weights="float32",
        dtype="float32",
        device="cpu",
        task="t",
        output_type=output_type,
        num_items=1,
        num_answers=1,
        num_different=1,
        num_apart=1,
        max_difference=1.0,
        upstream_options=options,
        upstream_scores={},
        our_scores={},
    )
    assert row.must_agree == must


def test_hf_must_be_identical_and_the_engine_within_rounding() -> None:
    near = compare([sample(0, [(-1.5, True)])], [sample(0, [(-1.50005, True)])])
    assert (near.num_different, near.num_apart) == (1, 0)
    assert not near.agrees
    assert replace(near, backend="suite").agrees
    for theirs in [(-1.5002, True), (-1.5, False)]:
        apart = compare([sample(0, [(-1.5, True)])], [sample(0, [theirs])])
        assert apart.num_apart == 1
        assert not replace(apart, backend="suite-ensemble").agrees


def test_a_text_that_differs_is_apart() -> None:
    row = compare([sample(0, ["4"])], [sample(0, ["5"])], _TextPlan)
    assert row.num_apart == 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"chat": {"template": True}}, "chat.template"),
        ({"adapter": "org/adapter"}, "adapter"),
        ({"quantization": "bitsandbytes-4bit"}, "quantization"),
        ({"device_map": "auto"}, "device_map"),
        ({"source": {"lm_eval": {"model": "dummy"}}}, "source.lm_eval"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_is_not_plain_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        measure_parity(recipe_of(**changes))
    assert str(error.value) == f"model 'tiny' uses {key}; parity is for models without it"


def test_the_protocol_of_the_paper_is_refused() -> None:
    recipe = recipe_of().model_copy(update={"protocol": "paper"})
    with pytest.raises(ConfigError) as error:
        measure_parity(recipe)
    assert str(error.value) == "protocol is paper; parity is for protocol lm-eval"


def test_a_group_of_tasks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "group.yaml").write_text(GROUP, encoding="utf-8")
    member = MEMBER.replace("FOLDER", str(tmp_path))
    (tmp_path / "capitals.yaml").write_text(member, encoding="utf-8")
    (tmp_path / "capitals.jsonl").touch()
    recipe = recipe_of("capitals_group")
    with pytest.raises(ConfigError) as error:
        measure_parity(recipe.model_copy(update={"task_folders": (tmp_path,)}))
    assert str(error.value) == (
        "task 'capitals_group' is a group of tasks; parity is for single tasks, name its members"
        " one by one"
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_model", "tiny_model_bos"])
def test_scores_equal_those_of_lm_evals_command(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # A comma and a space in the path, which lm-eval's own comma-separated form would split.
    folder = shutil.copytree(request.getfixturevalue(model), tmp_path / "a, model=1")
    recipe = Recipe.model_validate(
        {
            "title": "Parity",
            "models": [{"name": "tiny", "source": {"path": folder}, "batch_size": 4}],
            "tasks": [
                {
                    "task": "suite_word_problems",
                    "num_fewshot": 2,
                    "generation": {"max_gen_toks": 4},
                },
                "suite_knowledge",
                "suite_bits_per_byte",
            ],
            "limit": 6,
            "seeds": {"random": 1, "numpy": 2, "torch": 3, "fewshot": 4},
        }
    )
    rows = measure_parity(recipe, ("hf", "suite", "suite-ensemble"))
    assert all(row.num_items <= 6 for row in rows)
    assert all(row.agrees for row in rows if row.must_agree)
    default_begin_tokens = [row for row in rows if not row.must_agree]
    assert len(default_begin_tokens) == 3
    # hf's default lets a tokenizer that adds a begin token pay for a second one.
    for row in default_begin_tokens:
        assert row.agrees == (model == "tiny_model")
