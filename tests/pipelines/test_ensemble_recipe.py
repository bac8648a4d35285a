"""Ensembles in a recipe: whom they mean, on which tasks, and exact sentences for mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite.errors import ConfigError
from suite.harness.tasks import TaskCatalog
from suite.pipelines.plan import check_recipe, ensemble_identity
from suite.pipelines.recipe import Recipe, load_recipe
from suite.pipelines.run_benchmark import RunOptions, run_benchmark
from suite.pipelines.work import LIKELIHOODS_ONLY, NOT_ASKED_FOR, Work, plan_work

MODELS = "{name: a, source: {random: tiny}}, {name: b, source: {random: tiny}, dtype: float32}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def read(file: Path, *ensembles: str, tasks: str = "[t, u]", more: str = "") -> Recipe:
    entries = "".join(f", {ensemble}" for ensemble in ensembles)
    file.write_text(f"title: Mine\nmodels: [{MODELS}{entries}]\ntasks: {tasks}\n{more}\n")
    return load_recipe(str(file))[0]


def problem(file: Path, ensemble: str, *, more: str = "") -> str:
    with pytest.raises(ConfigError) as error:
        read(file, ensemble, more=more)
    return str(error.value).removeprefix(f"{file}: ")


def entry(settings: str = "combine: mean_probs", members: str = "[a, b]", more: str = "") -> str:
    return f"{{name: e, ensemble: {{members: {members}, {settings}}}{more}}}"


def test_models_and_ensembles_are_told_apart(file: Path) -> None:
    recipe = read(file, entry())
    assert [model.name for model in recipe.single_models] == ["a", "b"]
    assert [ensemble.name for ensemble in recipe.ensembles] == ["e"]


def test_the_engine_is_the_default_backend(file: Path) -> None:
    assert read(file).backend == "suite"


def test_another_way_to_fit_makes_fitted_rows_other_runs(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read(file, entry("combine: mean_probs, weights: {fit: {items: 3}}"))
    [fitted] = recipe.ensembles

    def identities() -> tuple[Any, Any]:
        return (
            ensemble_identity(fitted, [], "t", {"items": "hash"}),
            ensemble_identity(fitted, [], "t", None),
        )

    before = identities()
    monkeypatch.setattr("suite.pipelines.plan.FIT_VERSION", 99)
    after = identities()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_an_unknown_member_suggests_near_names(file: Path) -> None:
    text = "models[2].ensemble.members: no model 'c'; known: a, b"
    assert problem(file, entry(members="[a, c]")) == text


def test_an_ensemble_of_ensembles_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(file, entry(), entry(members="[a, e]").replace("name: e", "name: f"))
    assert str(error.value) == (
        f"{file}: models[3].ensemble.members: 'e' is an ensemble itself; list its members instead"
    )


def test_a_member_may_not_take_the_name_of_a_model(file: Path) -> None:
    members = "[a, {name: b, source: {random: tiny}}]"
    assert problem(file, entry(members=members)) == (
        "models[2].ensemble.members: 'b' is also a model of the recipe; give the name alone, or"
        " another one"
    )


def test_a_member_may_not_take_the_name_of_an_ensemble(file: Path) -> None:
    members = "[a, {name: e, source: {random: tiny}}]"
    assert problem(file, entry(members=members)) == (
        "models[2].ensemble.members: 'e' is also an ensemble of the recipe; give the member another"
        " name"
    )


def test_whole_members_of_one_name_are_one_model(file: Path) -> None:
    members = "[a, {name: c, source: {random: tiny}}]"
    other = members.replace("tiny}", "tiny}, dtype: float32")
    first, same, second = (
        entry(members=m).replace("name: e", f"name: {name}")
        for m, name in ((members, "e"), (members, "f"), (other, "g"))
    )
    assert [model.name for model in read(file, first, same).all_models] == ["a", "b", "c"]
    with pytest.raises(ConfigError) as error:
        read(file, first, second)
    assert str(error.value) == (
        f"{file}: models[2].ensemble.members: 'c' is another model in another ensemble; give one of"
        " them another name"
    )


def test_a_served_model_cannot_be_combined(file: Path) -> None:
    members = "[a, {name: s, source: {lm_eval: {model: hf}}}]"
    assert problem(file, entry(members=members)) == (
        "models[2].ensemble.members: 's' is an lm_eval source, whose distributions are not told;"
        " give a model of its own"
    )


def test_a_served_model_may_vote(file: Path) -> None:
    members = "[a, {name: s, source: {lm_eval: {model: hf}}}]"
    assert read(file, entry("combine: majority_vote", members)).ensembles[0].name == "e"


def test_the_papers_protocol_refuses_a_served_member(file: Path) -> None:
    members = "[a, {name: s, source: {lm_eval: {model: hf}}}]"
    vote = entry("combine: majority_vote", members)
    assert problem(file, vote, more="protocol: paper") == (
        "protocol: paper needs our own backend, model 's' is an lm_eval source"
    )


def test_several_processes_refuse_a_served_member(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = "[a, {name: s, source: {lm_eval: {model: hf}}}]"
    recipe = read(file, entry("combine: majority_vote", members))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match="a model from an lm_eval source is scored by one process"
    ):
        run_benchmark(recipe, RunOptions(file.parent / "out"))


def test_members_that_disagree_on_chats_are_refused(file: Path) -> None:
    members = "[a, {name: c, source: {random: tiny}, chat: {template: true}}]"
    assert problem(file, entry(members=members)) == (
        "models[2].ensemble: members 'a' and 'c' differ in chat.template; wrap all of them or none"
    )


def test_a_backend_for_single_models_refuses_ensembles_but_not_votes(file: Path) -> None:
    assert problem(file, entry(), more="backend: hf") == (
        "backend: hf scores single models, 'e' is an ensemble; leave backend out"
    )
    assert read(file, entry("combine: majority_vote"), more="backend: hf").backend == "hf"


def test_an_unknown_key_is_compared_with_the_keys_of_an_ensemble(file: Path) -> None:
    assert problem(file, entry(more=", dtype: float32")) == (
        "unknown key 'dtype' in models[2]; accepted keys: batch_size, ensemble, name, tasks,"
        " token_budget"
    )
    assert problem(file, entry("combin: mean_probs")).startswith(
        "unknown key 'combin' in models[2].ensemble; accepted keys: combine, development, members,"
    )


def test_an_unknown_rule_is_compared_with_all_rules(file: Path) -> None:
    assert problem(file, entry("combine: mean")).startswith(
        "models[2].ensemble.combine is 'mean', should be 'mean_probs', 'mean_log_probs',"
    )


def test_tasks_named_by_a_row_must_exist(file: Path) -> None:
    assert problem(file, entry(more=", tasks: [v]")) == "models[2].tasks: no task 'v'; known: t, u"
    assert problem(file, entry("combine: mean_probs, weights: {v: [1, 0]}")) == (
        "models[2].ensemble.weights: no task 'v'; known: t, u"
    )
    assert problem(file, entry("combine: mean_probs, weights: {fit: {task: v}}")) == (
        "models[2].ensemble: development items: no task 'v'; known: t, u"
    )


def test_weights_by_task_cover_every_task_of_the_row(file: Path) -> None:
    weights = "combine: mean_probs, weights: {t: [1, 0]}"
    assert problem(file, entry(weights)) == (
        "models[2].ensemble.weights: none for task 'u'; give weights for every task of the row, or"
        " narrow the row with the key tasks"
    )
    assert read(file, entry(weights, more=", tasks: [t]")).ensembles[0].tasks == ("t",)


def test_paths_of_whole_members_and_of_transplants_start_at_the_recipe_file(file: Path) -> None:
    transplant = "{transplant: {model: {path: m}, tokenizer: {path: k}, method: fvt}}"
    members = f"[a, {{name: c, source: {{path: c}}}}, {{name: d, source: {transplant}}}]"
    _, whole, transplanted = read(file, entry(members=members)).ensembles[0].ensemble.members
    assert not isinstance(whole, str)
    assert not isinstance(transplanted, str)
    assert whole.source.path == file.parent / "c"
    parts = transplanted.source.transplant
    assert parts is not None
    assert parts.model.path == file.parent / "m"
    assert not isinstance(parts.tokenizer, str)
    assert parts.tokenizer.path == file.parent / "k"


# What a recipe makes a run score.

SPELL, SUMS, BITS = "suite_spell", "suite_arithmetic", "suite_bits_per_byte"
TASKS = f"[{SPELL}, {SUMS}, {BITS}]"


def work_of(file: Path, *ensembles: str) -> Work:
    recipe = read(file, *ensembles, tasks=TASKS)
    catalog = TaskCatalog()
    return plan_work(recipe, check_recipe(recipe, catalog, confirm_unsafe_code=False), catalog)


def jobs_of(work: Work) -> list[tuple[str, str]]:
    return [(job.entry.name, job.label) for unit in work.units for job in unit.jobs]


def test_a_row_of_likelihoods_leaves_generation_out(file: Path) -> None:
    work = work_of(file, entry(more=", tasks: likelihood"))
    assert [(a.label, a.reason) for a in work.absences] == [(SUMS, NOT_ASKED_FOR)]
    assert ("e", SUMS) not in jobs_of(work)


def test_a_row_may_name_its_tasks(file: Path) -> None:
    work = work_of(file, entry(more=f", tasks: [{SUMS}]"))
    assert [label for name, label in jobs_of(work) if name == "e"] == [SUMS]


def test_word_mixture_cannot_generate(file: Path) -> None:
    work = work_of(file, entry("combine: word_mixture"))
    assert [(a.label, a.reason) for a in work.absences] == [(SUMS, LIKELIHOODS_ONLY)]


def test_ensembles_of_the_same_members_are_scored_together_task_by_task(file: Path) -> None:
    second = entry("combine: mean_log_probs").replace("name: e", "name: f")
    unit = work_of(file, entry(), second).units[-1]
    assert [(job.entry.name, job.label) for job in unit.jobs] == [
        (name, label) for label in (SPELL, SUMS, BITS) for name in ("e", "f")
    ]


def test_rows_that_choose_have_their_members_scored_on_development_items_once(file: Path) -> None:
    best = entry("combine: best_member").replace("name: e", "name: f")
    jobs = jobs_of(work_of(file, entry("combine: majority_vote"), best))
    assert len(jobs) == len(set(jobs)) == 2 * 3 * 2
    assert ("a", f"{SPELL}, 100 train items") in jobs


def test_rows_without_a_choice_need_no_development_items(file: Path) -> None:
    assert len(jobs_of(work_of(file, entry("combine: any_member_correct")))) == 2 * 3


def test_a_whole_member_of_a_vote_is_scored_though_it_is_no_row(file: Path) -> None:
    members = "[a, {name: c, source: {random: tiny}}]"
    jobs = jobs_of(work_of(file, entry("combine: any_member_correct", members)))
    assert ("c", SPELL) in jobs


def test_the_scored_split_is_no_development_split(file: Path) -> None:
    recipe = read(file, entry("combine: mean_probs, weights: {fit: {split: test}}"), tasks=TASKS)
    with pytest.raises(ConfigError) as error:
        check_recipe(recipe, TaskCatalog(), confirm_unsafe_code=False)
    assert str(error.value) == (
        f"model 'e': task '{SPELL}': its test split is the one that is scored, so it cannot be the"
        " development split; give another split or task"
    )
