"""Whole training runs of tiny models, from a recipe to checkpoints."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from suite.config import parse_config
from suite.distill.training_log import read_log
from suite.errors import ConfigError, SuiteError
from suite.models.adapters import load_adapter
from suite.models.manifest import read_facts
from suite.pipelines.run_benchmark import BenchmarkResult
from suite.pipelines.stop_request import StopRequest
from suite.pipelines.training import TrainedRun, TrainingOptions, estimate_training, train_recipe
from suite.pipelines.training_recipe import DistillRecipe, TransferRecipe
from suite.records import Failure

QUICK = {"learning_rate": 1e-3, "warmup_steps": 2}
TRAINING = {"steps": 4, "rows_per_step": 2, "autocast": "none", "optimiser": QUICK}
TEXT = {"packaged": "python-docs", "limit": 3}
HELD_OUT = {"rows": 4, "data": {"packaged": "python-docs", "skip": 60}}
COMMON: dict[str, Any] = {
    "title": "A tiny run",
    "data": TEXT,
    "pack": {"length": 32},
    "losses": [{"name": "alm", "binarization_temperature": 5}],
    "training": TRAINING,
}
TO_WORDS = COMMON | {
    "kind": "transfer",
    "model": {"name": "tiny", "source": "random:tiny-bpe"},
    "target_tokenizer": "random:tiny-words",
}
TO_BYTES = TO_WORDS | {"target_tokenizer": "bytes"}
TAUGHT = COMMON | {
    "kind": "distill",
    "student": {"name": "student", "source": "random:tiny-words"},
    "teachers": [{"name": "teacher", "source": "random:tiny-bpe"}],
}

STAGED = {key: value for key, value in TAUGHT.items() if key != "teachers"} | {
    "first_stage": {
        **COMMON,
        "kind": "distill",
        "title": "the teacher",
        "student": {"name": "teacher", "source": "random:tiny-bpe"},
        "losses": [{"name": "sft"}],
        "training": {**TRAINING, "steps": 2},
    },
    "checkpoints": {"every": 2},
}
BENCHMARK = {"evaluation": {"benchmark": {"tasks": ["suite_arithmetic_choice"]}}}


def recipe_of(data: dict[str, Any]) -> TransferRecipe | DistillRecipe:
    kind = TransferRecipe if data["kind"] == "transfer" else DistillRecipe
    return parse_config(kind, data, "recipe")


def run(data: dict[str, Any], folder: Path, **options: Any) -> TrainedRun:
    found = TrainingOptions(recipe_of(data), "tiny", folder, **options)
    return train_recipe(found, console=Console(file=io.StringIO()))


def weights_of(trained: TrainedRun) -> dict[str, torch.Tensor]:
    (file,) = trained.checkpoint.glob("*/*model.safetensors")
    ends = file.parent / "ends.safetensors"
    return load_file(file) | (load_file(ends) if ends.is_file() else {})


@pytest.mark.parametrize(
    "data",
    [
        TO_WORDS
        | {"train": "lora", "lora": {"rank": 2, "alpha": 4, "dropout": 0.2}}
        | {"losses": [{"name": "alm"}, {"name": "sft"}]},
        TO_BYTES
        | {"losses": [{"name": "alm"}, {"name": "hidden_state"}]}
        | {"training": TRAINING | {"balance": "gradmag", "gradient_checkpointing": True}},
    ],
    ids=["adapters-with-dropout", "bytes-under-gradmag"],
)
def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(data, tmp_path):
    data = data | {"checkpoints": {"every": 2}}
    whole = run(data, tmp_path / "whole")
    run(data, tmp_path / "parts")
    middle = tmp_path / "parts/checkpoints/step-00000002"
    again = run(data, tmp_path / "parts", checkpoint=middle)
    expected, found = weights_of(whole), weights_of(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    log = [read_log(folder.folder) for folder in (whole, again)]
    for mine, yours in zip(*log, strict=True):
        assert mine | {"seconds": 0} == yours | {"seconds": 0}


def test_adapters_stand_on_the_start_that_is_kept_beside_them(tmp_path):
    for number, data in enumerate((TO_WORDS, TAUGHT)):
        made = run(data | {"train": "lora", "lora": {"rank": 2}}, tmp_path / str(number))
        facts = read_facts(made.checkpoint)
        base = made.folder / facts["base"]
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        adapted = load_adapter(model, made.checkpoint / "adapter", trainable=False)
        trains_ends = data["kind"] == "transfer"
        assert (made.checkpoint / "adapter/ends.safetensors").is_file() == trains_ends
        assert any("lora" in name for name, _ in adapted.named_parameters())


def test_a_first_stage_makes_the_teacher_and_is_not_trained_again(tmp_path):
    data = STAGED
    made = run(data, tmp_path)
    teacher = tmp_path / "first_stage/checkpoints/step-00000002"
    assert read_facts(made.checkpoint)["sources"]["teacher"] == f"path:{teacher}"
    time = (teacher / "manifest.json").stat().st_mtime_ns
    run(data, tmp_path, checkpoint=tmp_path / "checkpoints/step-00000002")
    assert (teacher / "manifest.json").stat().st_mtime_ns == time


def test_several_teachers_are_one_that_draws_among_them(tmp_path):
    two = [TAUGHT["teachers"][0], {"name": "other", "source": "random:tiny-bpe"}]
    one = run(TAUGHT | {"evaluation": HELD_OUT}, tmp_path / "one")
    same = run(TAUGHT | {"evaluation": HELD_OUT, "teachers": two}, tmp_path / "two")
    pairs = zip(read_log(one.folder), read_log(same.folder), strict=True)
    for mine, yours in pairs:
        if mine["kind"] == "step":
            assert mine["losses"]["alm"] == pytest.approx(yours["losses"]["alm"], rel=1e-4)
            assert mine["counts"] == yours["counts"]
        else:
            assert mine["mean_distance"] == pytest.approx(yours["mean_distance"], rel=1e-4)


def test_epochs_read_all_of_the_text_as_often(tmp_path):
    training = {key: value for key, value in TRAINING.items() if key != "steps"}
    data = TO_BYTES | {
        "data": {"packaged": "python-docs", "limit": 1},
        "pack": {"length": 256, "max_bytes": 512},
        "training": training | {"epochs": 2, "rows_per_step": 3},
    }
    made = run(data, tmp_path)
    from suite.text.corpus import CorpusConfig, open_corpus

    ((_, document),) = open_corpus(CorpusConfig(**data["data"])).documents(epochs=1)
    assert made.state.num_bytes == 2 * len(document.text.encode())
    assert not made.was_interrupted


def test_embeddings_that_were_tied_are_trained_apart_if_asked(tmp_path):
    data = TO_WORDS | {"untie_embeddings": True}
    made = run(data, tmp_path)
    found = weights_of(made)
    assert not torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
    start = load_file(tmp_path / "start/model.safetensors")
    assert torch.equal(start["lm_head.weight"], start["model.embed_tokens.weight"])


def test_without_a_teacher_the_best_step_has_the_fewest_bits_per_byte(tmp_path):
    data = {key: value for key, value in TAUGHT.items() if key != "teachers"}
    data = data | {"losses": [{"name": "sft"}], "evaluation": HELD_OUT | {"every": 2}}
    made = run(data, tmp_path)
    figures = [line for line in read_log(made.folder) if line["kind"] == "held_out"]
    assert [line["step"] for line in figures] == [0, 2, 4]
    assert all(line["mean_distance"] is None for line in figures)
    best = min(figures[1:], key=lambda line: line["student_bits_per_byte"])
    assert (made.state.best_step, made.state.best_value) == (best["step"], best["objective"])
    assert figures[-1]["student_bits_per_byte"] < figures[0]["student_bits_per_byte"]


def test_a_folder_with_a_run_is_not_trained_over(tmp_path):
    run(TO_WORDS, tmp_path)
    with pytest.raises(ConfigError) as caught:
        run(TO_WORDS, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds a run that is saved up to step 4; give --resume to go on, or another"
        " --output"
    )


def test_what_was_finished_is_not_loaded_again(tmp_path, monkeypatch):
    made = run(TO_WORDS, tmp_path)
    monkeypatch.setattr("suite.pipelines.training.open_session", _fail)
    again = run(TO_WORDS, tmp_path, resume=True)
    assert dict(again.facts)["steps"] == "already finished at step 4"
    assert (again.checkpoint, again.was_interrupted) == (made.checkpoint, False)


def test_a_run_that_failed_before_its_first_checkpoint_blocks_no_other_recipe(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("suite.pipelines.training.train", _fail)
        with pytest.raises(RuntimeError, match="before the first checkpoint"):
            run(STAGED, tmp_path)
    first = STAGED["first_stage"] | {"data": {"packaged": "python-docs", "limit": 2}}
    said = Console(file=io.StringIO())
    options = TrainingOptions(
        recipe_of(STAGED | {"first_stage": first}), "tiny", tmp_path, resume=True
    )
    assert train_recipe(options, console=said).state.step == 4
    told = said.file.getvalue().splitlines()
    assert told[:3] == [
        f"no checkpoint in {tmp_path} yet: starting at step 0",
        "first stage: the teacher",
        "loading the models",
    ]


def test_a_benchmark_that_fails_leaves_the_trained_run(tmp_path, monkeypatch):
    def fails(*_: Any, **__: Any) -> None:
        raise SuiteError("no room")

    monkeypatch.setattr("suite.pipelines.training_benchmark.run_benchmark", fails)
    made = run(TO_WORDS | BENCHMARK, tmp_path)
    assert made.notes[-1] == "the benchmark of step-00000004 failed: no room"
    assert dict(made.facts)["steps"] == "4 of 4"


def test_the_place_of_the_benchmark_is_told(tmp_path, monkeypatch):
    failure = Failure("step-00000004", "suite_arithmetic_choice", "no room")
    result = BenchmarkResult(None, (failure,), (), 0, 0, 1)
    monkeypatch.setattr("suite.pipelines.training_benchmark.run_benchmark", lambda *_, **__: result)
    made = run(TO_WORDS | BENCHMARK, tmp_path)
    assert dict(made.facts)["benchmark"] == str(tmp_path / "benchmark/step-00000004")
    assert made.notes[-1] == "the benchmark failed on suite_arithmetic_choice: no room"


def test_held_out_text_without_rows_is_told_with_what_was_read(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n' * 2, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        run(TO_WORDS | {"evaluation": {"data": {"path": str(empty)}}}, tmp_path / "run")
    assert str(caught.value) == (
        f"held-out text {empty}: no text to make rows of (2 documents read, 2 of them empty); give"
        " other text"
    )


def test_a_run_that_is_told_to_stop_says_what_it_saves(tmp_path, monkeypatch):
    def stopped(self: StopRequest) -> Any:
        self.is_set = True
        return contextlib.nullcontext()

    monkeypatch.setattr(StopRequest, "training", stopped)
    said = Console(file=io.StringIO())
    options = TrainingOptions(recipe_of(TO_WORDS), "tiny", tmp_path)
    assert train_recipe(options, console=said).was_interrupted
    assert "stopping: saving step 1" in said.file.getvalue().splitlines()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    made = run(TO_WORDS, tmp_path / "one")
    with pytest.raises(ConfigError) as caught:
        run(TO_WORDS, tmp_path / "two", checkpoint=made.checkpoint)
    assert str(caught.value) == (
        f"--checkpoint {made.checkpoint} is no checkpoint of {tmp_path / 'two'}; give a folder of"
        f" {tmp_path / 'two/checkpoints'}"
    )


def test_a_start_that_another_recipe_made_is_made_again(tmp_path):
    def begun(method: str) -> torch.Tensor:
        data = TO_WORDS | {"transplant": {"method": method}}
        options = TrainingOptions(recipe_of(data), "tiny", tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("suite.pipelines.training.train", _fail)
            with pytest.raises(RuntimeError, match="before the first checkpoint"):
                train_recipe(options, console=Console(file=io.StringIO()))
        return load_file(tmp_path / "start/model.safetensors")["model.embed_tokens.weight"]

    first = begun("fvt")
    assert torch.equal(begun("fvt"), first)
    assert not torch.equal(begun("zeros"), first)


def _fail(*_: Any) -> None:
    raise RuntimeError("before the first checkpoint")


def test_settings_that_a_student_would_not_get_are_refused():
    cases = (
        (TO_WORDS, "model", {"revision": "old", "source": {"hub": "org/name"}}),
        (TAUGHT, "student", {"adapter": "org/adapter"}),
    )
    for data, key, given in cases:
        name = next(iter(given))
        with pytest.raises(ConfigError) as caught:
            recipe_of(data | {key: data[key] | given})
        assert str(caught.value) == (
            f"recipe: {key}.{name}: the student begins with weights and tokenizer of {key}.source"
            " alone; save the model as you want it and give path:FOLDER"
        )


def test_adapters_learn_hidden_states_from_the_trunk_they_share(tmp_path):
    losses = [{"name": "alm"}, {"name": "hidden_state"}]
    made = run(TO_WORDS | {"train": "lora", "losses": losses}, tmp_path)
    first, *_ = read_log(made.folder)
    assert first["losses"]["hidden_state"] > 0


def test_an_estimate_tells_what_a_run_costs_and_leaves_nothing(tmp_path):
    options = TrainingOptions(recipe_of(TO_WORDS), "tiny", tmp_path / "run")
    facts = dict(estimate_training(options, console=Console(file=io.StringIO())))
    assert not (tmp_path / "run").exists()
    assert facts["steps"] == "4"
    trained, _, every = facts["trained parameters"].partition(" of ")
    assert trained == every
    # Model and two moments, 4 bytes each number.
    size = 3 * 4 * int(trained.replace(",", "")) / 1e6
    assert facts["disk"] == f"about {size:.1f} MB a checkpoint, 3 kept"
    assert re.fullmatch(r"about \d+ s, without measuring and saving", facts["training"])


def test_the_manifest_says_what_the_student_is(tmp_path):
    made = run(TO_WORDS | {"evaluation": HELD_OUT}, tmp_path)
    facts = read_facts(made.checkpoint)
    assert facts["sources"] == {"model": "random:tiny-bpe", "tokenizer": "random:tiny-words"}
    assert facts["model_types"] == ["llama"]
    assert facts["weights"] == "float32, transfer by alm, step 4"
    assert facts["figures"]["step"] == 4
    assert math.isfinite(facts["figures"]["mean_distance"])
    assert json.loads((tmp_path / "recipe.json").read_text()) == facts["recipe"]
