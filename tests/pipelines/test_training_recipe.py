"""Training recipes: what is accepted, the exact sentence for what isn't, and what may change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite.distill.lora import LoraConfig
from suite.distill.losses.alm import AlmConfig
from suite.errors import ConfigError
from suite.models.sources import Source
from suite.pipelines.recipe_changes import (
    FREE_KEYS,
    Change,
    changed_keys,
    describe_change,
    resolved,
)
from suite.pipelines.training_overrides import NO_OVERRIDES, Overrides
from suite.pipelines.training_recipe import (
    NO_TEXT,
    DistillRecipe,
    TrainingRecipe,
    TransferRecipe,
    load_training_recipe,
    packaged_training_recipes,
)

TINY = {"name": "a", "source": {"random": "tiny"}}
DOCS = {"packaged": "python-docs"}
STAGE = {
    "kind": "distill",
    "title": "First",
    "student": TINY,
    "data": DOCS,
    "losses": [{"name": "sft"}],
    "training": {"steps": 5},
}
TRANSFER = {
    "kind": "transfer",
    "title": "Mine",
    "model": TINY,
    "target_tokenizer": {"random": "tiny-words"},
    "data": DOCS,
    "losses": [{"name": "alm"}],
    "training": {"steps": 3},
}
DISTILL = {
    "kind": "distill",
    "title": "Mine",
    "student": TINY,
    "teachers": [TINY | {"name": "b"}],
    "data": DOCS,
    "losses": [{"name": "alm"}],
    "training": {"steps": 3},
}
PACKAGED = [
    (kind, name) for kind in ("transfer", "distill") for name in packaged_training_recipes(kind)
]


def loaded(
    folder: Path, data: Any, overrides: Overrides = NO_OVERRIDES, kind: str | None = None
) -> Any:
    """A recipe given as plain data; None leaves a key out."""
    file = folder / "mine.yaml"
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if value is not None}
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    recipe, name = load_training_recipe(str(file), kind or data["kind"], overrides)
    assert name == "mine"
    return recipe


def problem(folder: Path, data: Any, **options: Any) -> str:
    """What is wrong with a recipe, without the file's name that begins the sentence."""
    with pytest.raises(ConfigError) as error:
        loaded(folder, data, **options)
    start = f"{folder / 'mine.yaml'}: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start)


def test_a_recipe_is_joined_from_its_parts_with_defaults_filled_in(tmp_path: Path) -> None:
    data = {"target_tokenizer": "bytes", "training": {"epochs": 2}, "ngram_embeddings": True}
    recipe = loaded(tmp_path, TRANSFER | data)
    assert isinstance(recipe, TransferRecipe)
    assert recipe.losses == (AlmConfig(),)
    assert recipe.untie_embeddings is True
    assert recipe.lora is None
    assert recipe.is_byte_student
    assert recipe.transplant_source(Source(random="tiny")).method == "fvt"
    adapted = loaded(tmp_path, TRANSFER | {"train": "lora"})
    assert adapted.untie_embeddings is False
    assert adapted.lora == LoraConfig()


def test_settings_of_a_transplant_reach_its_source(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, TRANSFER | {"transplant": {"method": "omp", "k": 8}})
    source = recipe.transplant_source(Source(random="tiny"))
    assert (source.method, source.k, str(source.tokenizer)) == ("omp", 8, "random:tiny-words")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": None}, NO_TEXT),
        ({"data": {"passage_bytes": 9}}, NO_TEXT),
        (
            {"teacher_samples": {"num": 4}},
            "expected exactly one of data, teacher_samples, found both",
        ),
        ({"model": None}, "expected exactly one of model, first_stage, found nothing"),
        ({"first_stage": STAGE}, "expected exactly one of model, first_stage, found both"),
        (
            {"model": {"name": "a", "source": {"lm_eval": {"model": "hf"}}}},
            "model: an lm_eval source cannot be trained with; give a hub, path, gguf or package"
            " source",
        ),
        (
            {"lora": {"rank": 4}},
            "lora: no effect with train: full; leave it out or set train: lora",
        ),
        (
            {"target_tokenizer": "bytes", "train": "lora"},
            "train is lora, but a byte model trains all its weights; set train: full",
        ),
        (
            {"ngram_embeddings": True},
            "ngram_embeddings has an effect with target_tokenizer: bytes only",
        ),
        (
            {"sliding_window": 64},
            "sliding_window has an effect with target_tokenizer: bytes only",
        ),
        (
            {"target_tokenizer": "bytes", "transplant": {"method": "omp"}},
            "transplant: omp needs a model that owns the tokenizer, and bytes has none; use fvt",
        ),
        (
            {"transplant": {"k": 4}},
            "transplant: k has no effect with fvt; leave it out",
        ),
        (
            {"losses": []},
            "losses should be a list of losses, found an empty one; known: alm, alm_permuted,"
            " hidden_state, sft",
        ),
        (
            {"losses": [{"name": "alm", "tau": 5}]},
            "losses[0]: unknown key 'tau'; accepted keys: append, binarization_temperature,"
            " divergence, epsilon, gamma, merge, name, teacher_weights, weight",
        ),
        (
            {"losses": [{"name": "alm"}, {"name": "hidden_state"}], "teacher_cache": "c"},
            "losses[1]: hidden_state needs the teacher's hidden states, and a stored teacher is"
            " only two numbers a token; use a live teacher, or leave the loss out",
        ),
        (
            {"losses": [{"name": "sft"}], "teacher_cache": "c"},
            "teacher_cache: no loss needs a teacher; leave it out or add a loss such as alm",
        ),
        (
            {
                "losses": [{"name": "sft"}, {"name": "alm", "weight": 2}],
                "training": {"steps": 3, "balance": "gradmag"},
            },
            "losses[1].weight has no effect with balance: gradmag, which weighs losses by their"
            " gradients; leave it out or set balance: fixed",
        ),
        (
            {"data": DOCS | {"streaming": True}, "training": {"epochs": 3}},
            "training.epochs needs data that can be counted, and data.streaming is true; give"
            " training.steps instead",
        ),
        (
            {"evaluation": {"every": 5}},
            "evaluation: every has no effect without data and benchmark; give held-out text as"
            " data",
        ),
        (
            {"evaluation": {"rows": 5}},
            "evaluation: rows has no effect without data; give held-out text as data",
        ),
        ({"training": {"steps": 0}}, "training.steps is 0, should be greater than or equal to 1"),
        (
            {"training": {"steps": 3, "optimiser": {"lr": 1}}},
            "unknown key 'lr' in training.optimiser; accepted keys: betas, clipping, epsilon,"
            " learning_rate, schedule, warmup_steps, weight_decay",
        ),
        (
            {"model": None, "first_stage": STAGE | {"losses": [{"name": "slt"}]}},
            "first_stage: losses[0]: no loss is named 'slt'; known: alm, alm_permuted,"
            " hidden_state, sft",
        ),
        (
            {"data": {"path": "${ABSENT_TEXT}"}},
            "${ABSENT_TEXT}: the environment variable ABSENT_TEXT is not set; set it first",
        ),
    ],
)
def test_a_wrong_transfer_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert problem(tmp_path, TRANSFER | changes) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"teachers": None}, "expected exactly one of teachers, first_stage, found nothing"),
        ({"first_stage": STAGE}, "expected exactly one of teachers, first_stage, found both"),
        (
            {"losses": [{"name": "sft"}]},
            "teachers: no loss needs a teacher; leave it out or add a loss such as alm",
        ),
        (
            {"teachers": [TINY, TINY | {"name": "b"}], "teacher_cache": "c"},
            "teacher_cache holds one teacher, and 2 teachers are given; leave it out or give one",
        ),
        (
            {
                "teachers": None,
                "losses": [{"name": "sft"}],
                "data": None,
                "teacher_samples": {"num": 4},
            },
            "teacher_samples needs a teacher to write; give teachers",
        ),
        (
            {"teachers": None, "losses": [{"name": "sft"}], "added_special_tokens": ["<a>"]},
            "added_special_tokens are those of a teacher; give teachers",
        ),
        (
            {"student": {"name": "a", "source": {"lm_eval": {"model": "hf"}}}},
            "student: an lm_eval source cannot be trained with; give a hub, path, gguf or package"
            " source",
        ),
    ],
)
def test_a_wrong_distillation_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert problem(tmp_path, DISTILL | changes) == expected


def test_a_control_without_teacher_in_its_loss_may_be_measured_against_one(tmp_path: Path) -> None:
    changes = {"losses": [{"name": "sft"}], "evaluation": {"data": DOCS}}
    assert loaded(tmp_path, DISTILL | changes).teachers


def test_a_recipe_of_the_other_command_says_which(tmp_path: Path) -> None:
    assert problem(tmp_path, DISTILL, kind="transfer") == (
        "kind is distill; give this recipe to suite distill"
    )
    assert problem(tmp_path, TRANSFER | {"kind": None}, kind="transfer") == (
        "kind is missing; give transfer or distill"
    )
    mistyped = problem(tmp_path, TRANSFER | {"kind": None, "knd": "transfer"}, kind="transfer")
    assert mistyped.startswith("unknown key 'knd'; accepted keys: ")
    assert problem(tmp_path, [1], kind="transfer") == "expected keys and values, found list"


@pytest.mark.parametrize(
    ("name", "asked", "command"),
    [
        ("smollm2-maths", "transfer", "distill"),
        ("bytes-tiny", "distill", "transfer"),
        ("quickstart", "transfer", "run-benchmark"),
        ("quickstart", None, "run-benchmark"),
    ],
)
def test_a_packaged_recipe_of_another_command_says_which(
    name: str, asked: Any, command: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_training_recipe(name, asked)
    assert str(error.value) == (
        f"{name} is a recipe of suite {command}; give it to suite {command}"
    )


@pytest.mark.parametrize("given", ["byte", "hub:", "org/name"])
def test_a_target_tokenizer_that_is_no_source_is_one_sentence(tmp_path: Path, given: str) -> None:
    assert problem(tmp_path, TRANSFER | {"target_tokenizer": given}) == (
        f"target_tokenizer is {given!r}; give bytes, or a source such as {{hub: org/name}} or"
        " package:NAME"
    )
    recipe = loaded(tmp_path, TRANSFER | {"target_tokenizer": "random:tiny"})
    assert recipe.target_tokenizer == Source(random="tiny")


def test_an_unknown_recipe_suggests_a_near_name() -> None:
    with pytest.raises(ConfigError) as error:
        load_training_recipe("bytes-tny", "transfer")
    assert str(error.value) == (
        "no recipe 'bytes-tny': neither a file nor a packaged training recipe; did you mean"
        " 'bytes-tiny'?"
    )


def test_relative_paths_start_at_the_recipes_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTS", str(tmp_path / "texts"))
    recipe = loaded(
        tmp_path,
        TRANSFER
        | {
            "model": {"name": "a", "source": {"path": "model"}},
            "target_tokenizer": {"path": "owner"},
            "data": {"path": "${TEXTS}/a.txt"},
            "teacher_cache": "cache",
            "evaluation": {"data": {"path": "held.txt"}},
        },
    )
    assert recipe.model.source.path == tmp_path / "model"
    assert recipe.target_tokenizer.path == tmp_path / "owner"
    assert recipe.data.path == tmp_path / "texts" / "a.txt"
    assert recipe.teacher_cache == tmp_path / "cache"
    assert recipe.evaluation.data.path == tmp_path / "held.txt"
    # What was not given must not look as if it had been.
    assert "k" not in recipe.transplant.model_fields_set


def test_options_take_the_place_of_what_a_recipe_says(tmp_path: Path) -> None:
    recipe = loaded(
        tmp_path,
        TRANSFER | {"training": {"epochs": 2}},
        Overrides(steps=7, seed=5, device="cpu"),
    )
    assert (recipe.training.steps, recipe.training.epochs, recipe.training.seed) == (7, None, 5)
    assert (recipe.data.seed, recipe.training.device, recipe.model.device) == (5, "cpu", "cpu")


HUB = {"hub": "org/name", "subset": "main", "messages": "turns", "passage_bytes": 50}


def test_data_of_the_call_is_followed_by_other_parts_of_the_same_text(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("One.\n")
    data = TRANSFER | {
        "model": None,
        "first_stage": STAGE | {"data": HUB | {"limit": 4}},
        "data": HUB | {"skip": 4},
        "evaluation": {"data": HUB | {"skip": 9}},
    }
    recipe = loaded(tmp_path, data, Overrides(data=str(texts)))
    place = {"path": texts, "passage_bytes": 50}
    assert recipe.evaluation.data.model_dump(exclude_unset=True) == place | {"skip": 9}
    assert recipe.data.model_dump(exclude_unset=True) == place | {"skip": 4}
    assert recipe.first_stage.data.model_dump(exclude_unset=True) == place | {"limit": 4}


@pytest.mark.parametrize("evaluation", [None, {"data": {"hub": "org/other", "skip": 3}}])
def test_data_of_the_call_are_read_whole_where_held_out_text_is_elsewhere(
    tmp_path: Path, evaluation: Any
) -> None:
    data = TRANSFER | {
        "model": None,
        "first_stage": STAGE | {"data": DOCS | {"limit": 4}},
        "data": DOCS | {"skip": 4, "limit": 5},
        "evaluation": evaluation,
    }
    recipe = loaded(tmp_path, data, Overrides(data="hub:org/new"))
    for part in (recipe, recipe.first_stage):
        assert part.data.model_dump(exclude_unset=True) == {"hub": "org/new"}
    if evaluation is not None:
        assert recipe.evaluation.data.model_dump(exclude_unset=True) == evaluation["data"]
    # Without --data, its parts are what they were.
    kept = loaded(tmp_path, data, Overrides(held_out="hub:org/held"))
    assert (kept.data.skip, kept.data.limit, kept.first_stage.data.limit) == (4, 5, 4)


def test_text_files_and_rows_keep_only_settings_that_they_have(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"turns": []}\n')
    kept = {"messages": "turns"}
    recipe = loaded(tmp_path, TRANSFER | {"data": HUB}, Overrides(data=str(rows)))
    assert recipe.data.model_dump(exclude_unset=True) == {"path": rows} | kept
    recipe = loaded(tmp_path, TRANSFER | {"data": HUB}, Overrides(data="hub:org/new"))
    assert recipe.data.model_dump(exclude_unset=True) == {"hub": "org/new"} | kept
    recipe = loaded(tmp_path, TRANSFER | {"data": HUB})
    assert (
        recipe.data.model_dump(exclude_unset=True)
        == {
            "hub": "org/name",
            "subset": "main",
        }
        | kept
    )


def test_held_out_text_of_the_call_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "held.txt"
    file.write_text("One.\n")
    recipe = loaded(tmp_path, TRANSFER, Overrides(held_out=str(file)))
    assert recipe.evaluation.data.path == file
    both = TRANSFER | {"data": DOCS | {"limit": 5}, "evaluation": {"data": DOCS | {"skip": 5}}}
    recipe = loaded(tmp_path, both, Overrides(held_out=str(file), data="hub:org/new"))
    assert (recipe.evaluation.data.path, recipe.data.hub) == (file, "org/new")
    assert (recipe.evaluation.data.skip, recipe.data.limit) == (0, None)
    # Of one text, each gets its part.
    recipe = loaded(tmp_path, both, Overrides(held_out="hub:org/new", data="hub:org/new"))
    assert (recipe.evaluation.data.skip, recipe.data.limit) == (5, 5)


@pytest.mark.parametrize(
    ("recipe", "overrides", "expected"),
    [
        (TRANSFER, Overrides(data="/absent"), "--data /absent: no such file or folder"),
        (
            TRANSFER,
            Overrides(held_out="/absent"),
            "--held-out /absent: no such file or folder",
        ),
        (
            TRANSFER | {"data": None, "teacher_samples": {"num": 4}},
            Overrides(data="hub:org/name"),
            "--data has no effect on a recipe whose teacher writes the text (teacher_samples);"
            " leave one of the two out",
        ),
    ],
)
def test_a_wrong_option_is_one_sentence(
    tmp_path: Path, recipe: dict[str, Any], overrides: Overrides, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, recipe, overrides)
    assert str(error.value) == expected


@pytest.mark.parametrize(("kind", "name"), PACKAGED)
def test_every_packaged_recipe_can_be_read_and_written_down(kind: Any, name: str) -> None:
    recipe, found = load_training_recipe(name, kind)
    assert (found, recipe.kind) == (name, kind)
    plain = resolved(recipe)
    assert json.loads(json.dumps(plain)) == plain
    assert recipe == load_training_recipe(name, None)[0]


@pytest.mark.parametrize("kind", [TransferRecipe, DistillRecipe])
def test_the_schema_of_recipes_names_every_key(kind: type[TrainingRecipe]) -> None:
    schema = kind.model_json_schema()
    schema = schema if "properties" in schema else schema["$defs"][kind.__name__]
    assert set(schema["properties"]) == set(kind.model_fields)
    losses = schema["properties"]["losses"]["items"]["anyOf"]
    names = {entry["properties"]["name"]["default"] for entry in losses}
    assert {"alm", "sft", "hidden_state"} <= names


def test_the_packaged_recipes_are_those_that_were_promised() -> None:
    assert packaged_training_recipes("transfer") == (
        "bytes-tiny",
        "gemma2-2b-to-bytes",
        "gemma2-2b-to-qwen2",
        "gemma3-270m-to-smollm2",
        "llama3.2-3b-to-bytes",
        "llama3.2-3b-to-qwen2",
        "smollm2-to-bytes",
        "subword-tiny",
    )
    assert packaged_training_recipes("distill") == (
        "openmath2-llama8b-to-gemma2-2b",
        "smollm2-maths",
    )


@pytest.mark.parametrize(
    "name",
    [name for name in packaged_training_recipes("transfer") if name.startswith(("ll", "gemma2"))],
)
def test_the_papers_transfers_have_its_published_hyperparameters(name: str) -> None:
    recipe, _ = load_training_recipe(name, "transfer")
    training, optimiser = recipe.training, recipe.training.optimiser
    assert (training.steps, optimiser.warmup_steps, optimiser.schedule) == (20000, 2000, "linear")
    assert (optimiser.betas, optimiser.weight_decay, optimiser.clipping) == ((0.9, 0.95), 0, 1)
    alm = recipe.losses[0]
    assert (alm.binarization_temperature, alm.gamma) == (100, 0.1)
    if name.endswith("bytes"):
        assert (training.rows_per_step, recipe.pack.byte_limit) == (32, 2048)
        assert (recipe.train, optimiser.learning_rate) == ("full", 3e-5)
        assert recipe.untie_embeddings
        assert recipe.ngram_embeddings
    else:
        assert (training.rows_per_step, recipe.pack.length) == (64, 512)
        assert (recipe.lora, optimiser.learning_rate) == (LoraConfig(rank=64, alpha=64), 1e-5)


def test_a_recipe_that_did_not_change_goes_on(tmp_path: Path) -> None:
    before = json.loads(json.dumps(resolved(loaded(tmp_path, TRANSFER))))
    assert changed_keys(before, resolved(loaded(tmp_path, TRANSFER))) == ()


def test_what_changed_is_named_with_both_values(tmp_path: Path) -> None:
    before = resolved(loaded(tmp_path, TRANSFER))
    now = TRANSFER | {"losses": [{"name": "alm", "gamma": 0.5}], "training": {"steps": 4}}
    changes = changed_keys(before, resolved(loaded(tmp_path, now)))
    assert changes == (Change("losses[0].gamma", 0.1, 0.5), Change("training.steps", 3, 4))
    begin = "runs/a: the recipe has changed since this run began: losses[0].gamma was 0.1 and is"
    end = "; give the recipe as it was, or another --output"
    assert describe_change(Path("runs/a"), changes) == f"{begin} 0.5 (and 1 more change){end}"
    assert describe_change(Path("runs/a"), changes[:1]) == f"{begin} 0.5{end}"


def test_a_list_that_grew_and_a_key_that_went_are_named_as_a_whole() -> None:
    old, new = {"a": [1], "b": {"c": 1}}, {"a": [1, 2], "b": {}}
    assert changed_keys(old, new) == (Change("a", [1], [1, 2]), Change("b.c", 1, None))
    changes = (Change("b.c", "x" * 90, None), *changed_keys(old, new))
    assert describe_change(Path("r"), changes) == (
        f'r: the recipe has changed since this run began: b.c was "{"x" * 59}... and is not given'
        " (and 2 more changes); give the recipe as it was, or another --output"
    )


def test_what_bears_on_no_weight_may_change(tmp_path: Path) -> None:
    stage = STAGE | {"checkpoints": {"every": 9}, "title": "Other"}
    first = TRANSFER | {"model": None, "first_stage": STAGE, "evaluation": {"data": DOCS}}
    second = first | {
        "title": "Other",
        "notes": ["a"],
        "first_stage": stage,
        "checkpoints": {"every": 5, "keep_last": 1},
        "training": {"steps": 3, "log_every": 2, "device": "cpu", "rows_per_pass": 1},
        "evaluation": {"data": DOCS, "every": 2, "benchmark": {"tasks": ["t"]}},
    }
    before, after = (resolved(loaded(tmp_path, recipe)) for recipe in (first, second))
    assert changed_keys(before, after) == ()
    moved = second | {"first_stage": stage | {"training": {"steps": 6}}}
    changes = changed_keys(before, resolved(loaded(tmp_path, moved)))
    assert [change.key for change in changes] == ["first_stage.training.steps"]


def test_free_keys_are_keys_of_recipes(tmp_path: Path) -> None:
    known = [resolved(loaded(tmp_path, recipe)) for recipe in (TRANSFER, DISTILL)]
    for key in FREE_KEYS:
        assert any(_has(recipe, key.split(".")) for recipe in known), key


def _has(data: Any, parts: list[str]) -> bool:
    if isinstance(data, list):
        data = data[0]
    return parts[0] in data and (len(parts) == 1 or _has(data[parts[0]], parts[1:]))
