"""`suite transfer` on the command line: the plan, what reaches the run, and how it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from transformers import Gemma2Config

from suite.cli.main import main
from suite.distill.state import TrainingState
from suite.errors import ConfigError
from suite.models.tiny import write_tiny_model
from suite.pipelines import training
from suite.pipelines.training import TrainedRun, TrainingOptions
from suite.pipelines.training_recipe import load_training_recipe, packaged_training_recipes
from suite.text.corpus import open_corpus

USAGE, INTERRUPTED = 2, 75
RECIPE = {
    "kind": "transfer",
    "title": "Tiny",
    "model": {"name": "tiny", "source": {"random": "tiny"}, "device": "cpu"},
    "target_tokenizer": "bytes",
    "data": {"packaged": "python-docs", "skip": 30, "limit": 5},
    "pack": {"length": 64, "max_bytes": 256},
    "losses": [{"name": "alm"}],
    "training": {"steps": 3, "rows_per_step": 2, "device": "cpu"},
    "evaluation": {"data": {"packaged": "python-docs", "skip": 60}},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str | Path, **changes: Any) -> Result:
    Path("mine.yaml").write_text(yaml.safe_dump(RECIPE | changes), encoding="utf-8")
    return CliRunner().invoke(main, ["transfer", "mine.yaml", *map(str, arguments)])


def error_of(result: Result) -> str:
    return result.stderr.strip().removeprefix("error: ")


def plan_of(result: Result) -> dict[str, str]:
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if not line.startswith("note: ")]
    rows = (line.strip().split("  ", 1) for line in lines)
    return {label: value.strip() for label, value in rows}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[TrainingOptions]:
    """What reaches the pipeline, in place of training."""
    return catch(monkeypatch, lambda: False)


def catch(monkeypatch: pytest.MonkeyPatch, is_stopped: Callable[[], bool]) -> list[TrainingOptions]:
    seen: list[TrainingOptions] = []

    def train(options: TrainingOptions) -> TrainedRun:
        seen.append(options)
        return TrainedRun(
            folder=options.output,
            checkpoint=options.output / "checkpoints" / "step-00000003",
            state=TrainingState(step=3),
            facts=(("steps", "3"), ("trained bytes", "9")),
            notes=("a note",),
            was_interrupted=is_stopped(),
        )

    monkeypatch.setattr(training, "train_recipe", train)
    return seen


def test_a_plan_says_what_would_be_read_made_and_written(here: Path) -> None:
    plan = plan_of(call("--dry-run"))
    assert plan["recipe"] == "mine: Tiny"
    assert plan["model"] == "random:tiny"
    assert plan["target tokenizer"] == "bytes"
    assert plan["transplant"] == "fvt, 259 rows"
    assert plan["embeddings"] == "input and output apart"
    assert plan["text"] == "packaged:python-docs, 5 documents"
    assert plan["held-out text"] == "packaged:python-docs"
    assert plan["bytes in chunks"] == "100.0%"
    assert plan["steps"] == "3 of 2 rows"
    # The tiny tokenizer's tokens are bytes, and the byte tokenizer's too.
    assert plan["teacher tokens"] == plan["student tokens"]
    assert plan["written"] == "recipe.json, log.jsonl, start/"
    assert plan["checkpoints"] == "at the end; kept: the last 2 and the best"
    assert plan["folder"] == f"{here / 'runs' / 'mine'} (new)"
    assert os.listdir(here) == ["mine.yaml"]


def test_a_plan_of_epochs_tells_the_steps(here: Path) -> None:
    plan = plan_of(call("--dry-run", training={"epochs": 2, "rows_per_step": 4, "device": "cpu"}))
    rows = int(plan["sample"].split(" documents, ")[1].split()[0])
    assert plan["sample"] == f"5 documents, {rows} rows"
    assert plan["steps"] == f"about {2 * -(-rows // 4)} (2 epochs) of 4 rows"


def test_a_plan_of_two_stages_has_both(here: Path) -> None:
    stage = {
        "kind": "distill",
        "title": "First",
        "student": {"name": "tiny", "source": {"random": "tiny"}},
        "data": {"packaged": "python-docs", "limit": 3},
        "losses": [{"name": "sft"}],
        "training": {"steps": 4, "rows_per_step": 2},
    }
    recipe = {key: value for key, value in RECIPE.items() if key != "model"}
    Path("two.yaml").write_text(yaml.safe_dump(recipe | {"first_stage": stage}), encoding="utf-8")
    plan = plan_of(CliRunner().invoke(main, ["transfer", "two.yaml", "--dry-run"]))
    assert plan["first stage: text"] == "packaged:python-docs, 3 documents"
    assert plan["first stage: steps"] == "4 of 2 rows"
    assert "first stage: bytes in chunks" not in plan
    assert plan["model"] == "the first stage"
    assert plan["written"] == "recipe.json, log.jsonl, first_stage/, start/"


def test_a_text_without_spaces_is_warned_of(here: Path) -> None:
    Path("text.txt").write_text("漢字" * 400, encoding="utf-8")
    result = call("--dry-run", data={"path": "text.txt"})
    assert result.exit_code == 0, result.output
    (note,) = [line for line in result.stdout.splitlines() if line.startswith("note: a group")]
    assert "bytes on average (above 64)" in note


@pytest.mark.parametrize("command", ["--dry-run", "--estimate", "--resume"])
def test_rows_that_the_model_cannot_read_are_refused(command: str, here: Path) -> None:
    result = call(command, pack={"length": 600})
    assert result.exit_code == USAGE
    assert error_of(result) == (
        "pack.length is 600, but random:tiny has 512 positions; give a smaller one"
    )
    result = call(command, pack={"length": 100})
    assert error_of(result) == (
        "a row has up to 800 bytes, but random:tiny has 512 positions; set pack.max_bytes to fewer"
    )


def test_a_window_for_a_model_that_has_none_is_refused(here: Path) -> None:
    result = call("--dry-run", sliding_window=64)
    assert error_of(result) == ("sliding_window is 64, but random:tiny has none; leave it out")


def test_a_byte_student_of_gemma_is_told_of_its_window_and_licence(here: Path) -> None:
    write_tiny_model(here / "model")
    settings = Gemma2Config(vocab_size=259, num_hidden_layers=2, sliding_window=128)
    settings.save_pretrained(here / "model")
    model = {"name": "gemma", "source": {"path": "model"}, "device": "cpu"}
    result = call("--dry-run", model=model)
    assert result.exit_code == 0, result.output
    source = f"path:{here / 'model'}"
    assert [line for line in result.stdout.splitlines() if line.startswith("note: ")] == [
        f"note: {source} is a Gemma model: what is derived from it or taught by it carries Gemma's"
        " terms (ai.google.dev/gemma/terms), and suite export asks for --accept-licence",
        "note: the model's sliding window of 128 tokens becomes one of 128 bytes; set"
        " sliding_window to widen it (a token has some 4 bytes of English)",
    ]
    widened = call("--dry-run", model=model, sliding_window=512)
    assert "sliding window of" not in widened.stdout


def test_options_reach_the_run(here: Path, runs: list[TrainingOptions]) -> None:
    Path("a.txt").write_text("One.\n", encoding="utf-8")
    result = call(
        *("--data", "a.txt", "--held-out", "a.txt", "--output", "out", "--steps", "7"),
        *("--seed", "4", "--device", "cpu", "--resume"),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "steps          3",
        "trained bytes  9",
        "note: a note",
        str(here / "out" / "checkpoints" / "step-00000003"),
    ]
    (options,) = runs
    recipe = options.recipe
    assert (options.name, options.output, options.resume) == ("mine", here / "out", True)
    assert options.checkpoint is None
    assert (recipe.training.steps, recipe.training.seed) == (7, 4)
    assert recipe.data.path == recipe.evaluation.data.path == here / "a.txt"


def test_a_checkpoint_is_gone_on_from(here: Path, runs: list[TrainingOptions]) -> None:
    assert call("--checkpoint", "runs/mine/checkpoints/step-00000002").exit_code == 0
    (options,) = runs
    assert options.checkpoint == here / "runs" / "mine" / "checkpoints" / "step-00000002"
    assert options.resume
    assert options.output == here / "runs" / "mine"


def test_an_interrupted_run_says_how_to_go_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catch(monkeypatch, lambda: True)
    result = call("--steps", "7", "--output", "my runs")
    assert result.exit_code == INTERRUPTED
    assert result.stderr.splitlines() == [
        "interrupted and saved; to go on: suite transfer mine.yaml --steps 7 --output 'my runs'"
        " --resume"
    ]


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (None, "interrupted; nothing was saved yet, the same command starts again"),
        (
            "checkpoints",
            "interrupted; to go on from the last checkpoint: suite transfer mine.yaml --output run"
            " --resume",
        ),
        (
            "first_stage/checkpoints",
            "interrupted; the first stage is saved up to step 2, the same command goes on with it",
        ),
    ],
)
def test_ctrl_c_before_training_says_how_to_go_on(
    saved: str | None, expected: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(options: TrainingOptions) -> TrainedRun:
        raise KeyboardInterrupt

    if saved is not None:
        (here / "run" / saved / "step-00000002").mkdir(parents=True)
        (here / "run" / saved / "step-00000002" / "state.json").write_text("{}")
    monkeypatch.setattr(training, "train_recipe", stopped)
    result = call("--output", "run")
    assert result.exit_code == INTERRUPTED
    assert result.stderr.splitlines() == [expected]


def test_a_plan_refuses_what_training_would_refuse(here: Path) -> None:
    step = here / "run" / "checkpoints" / "step-00000002"
    step.mkdir(parents=True)
    (step / "state.json").write_text("{}")
    assert error_of(call("--dry-run", "--output", "run")) == (
        f"{here / 'run'} holds a run that is saved up to step 2; give --resume to go on, or another"
        " --output"
    )
    training = RECIPE["training"] | {"trackers": ["mlflow"]}
    assert error_of(call("--dry-run", training=training)) == (
        "training.trackers: mlflow is not installed; run: pip install mlflow"
    )
    assert error_of(call("--dry-run", teacher_cache="cache")) == (
        f"{here / 'cache'}: no teacher cache there; make one with suite cache-teacher"
    )
    assert error_of(call("--dry-run", "--output", "mine.yaml/run")) == (
        f"cannot write to {here / 'mine.yaml/run'} (Not a directory); give another --output"
    )


def test_a_missing_text_is_told_before_a_missing_model(here: Path) -> None:
    model = {"name": "none", "source": {"path": str(here)}}
    result = call("--dry-run", data={"path": "none.jsonl"}, model=model)
    assert str(here / "none.jsonl") in error_of(result)


@pytest.mark.parametrize("command", ["--dry-run", "--resume"])
def test_a_task_that_there_is_not_is_told_before_training(command: str, here: Path) -> None:
    result = call(command, evaluation={"benchmark": {"tasks": ["suite_arithmetic_choise"]}})
    assert result.exit_code == USAGE
    assert error_of(result).startswith(
        "evaluation.benchmark: unknown task 'suite_arithmetic_choise'; "
    )
    assert os.listdir(here) == ["mine.yaml"]


def test_a_text_of_empty_documents_is_told_with_what_was_read(here: Path) -> None:
    Path("text.jsonl").write_text('{"text": ""}\n' * 3, encoding="utf-8")
    assert error_of(call("--dry-run", data={"path": "text.jsonl"})) == (
        f"data {here / 'text.jsonl'}: no text to make rows of (3 documents read, 3 of them empty);"
        " give other text"
    )


def test_an_estimate_prints_facts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "estimate_training", lambda options: (("time", "1 hour"),))
    assert call("--estimate").stdout == "time  1 hour\n"


def test_a_plan_and_an_estimate_exclude_each_other(here: Path) -> None:
    result = call("--dry-run", "--estimate")
    assert result.exit_code == USAGE
    assert error_of(result) == (
        "--dry-run and --estimate exclude each other; leave one of them out"
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in ("transfer", "distill")
        for name in packaged_training_recipes(kind)
        if not name.endswith("-tiny")
    ],
)
def test_a_real_recipe_without_hub_and_path_says_both(kind: Any, name: str) -> None:
    data = load_training_recipe(name, kind)[0].data
    assert data is not None
    with pytest.raises(ConfigError) as error:
        open_corpus(data)
    assert str(error.value) == (
        f"hub:{data.hub} is not in the local cache and the hub is switched off (HF_HUB_OFFLINE);"
        " go online, or give a path with files instead (--data PATH)"
    )
