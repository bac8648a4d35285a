"""A folder of checkpoints is scored one by one, added, and checked; nothing is scored twice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file
from written_runs import write_run

from suite.models.manifest import write_manifest
from suite.pipelines import run_benchmark as run_module
from suite.pipelines import watch as watch_module
from suite.pipelines.recipe import load_recipe
from suite.pipelines.run_benchmark import BenchmarkResult
from suite.pipelines.track import CheckOptions, pin_run
from suite.pipelines.track_checkpoints import Found
from suite.pipelines.watch import WatchOptions, recipe_for, watch_folder
from suite.records import Failure
from suite.track.gate import Margins
from suite.track.look_report import LookReport
from suite.track.series import Store

NUM = 100
GOOD = {"a": [1.0] * NUM}
BAD = {"a": [0.0] * 40 + [1.0] * (NUM - 40)}


@dataclass
class Scorer:
    """Stands for run_benchmark: writes what each step is told to have, and keeps the calls."""

    scores: dict[str, Any]
    calls: list[str] = field(default_factory=list)
    vanish: tuple[str, ...] = ()
    fail: tuple[str, ...] = ()

    def __call__(self, recipe: Any, options: Any) -> BenchmarkResult:
        [model] = recipe.models
        place = Path(model.source.path)
        self.calls.append(place.name)
        failures: tuple[Failure, ...] = ()
        if place.name in self.vanish:
            shutil.rmtree(place)
        if place.name in self.vanish + self.fail:
            failures = (Failure(model.name, "a", "the model cannot be read"),)
        else:
            write_run(options.output / "m", model.name, self.scores.get(place.name, GOOD))
        return BenchmarkResult(None, failures, (), 1, 0, 1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(watch_module, "SETTLED_SECONDS", 0.0)
    (tmp_path / "run").mkdir()
    return tmp_path


def checkpoint(step: int) -> Path:
    folder = Path("run") / f"model-{step}"
    folder.mkdir()
    write_manifest(folder, {})
    return folder


def scorer(monkeypatch: pytest.MonkeyPatch, scores: Any = None, **facts: Any) -> Scorer:
    made = Scorer(scores or {}, **facts)
    monkeypatch.setattr(run_module, "run_benchmark", made)
    return made


def watch(**changes: Any) -> tuple[int, list[str], list[LookReport]]:
    said: list[str] = []
    shown: list[LookReport] = []
    options = WatchOptions(
        **({"folder": Path("run"), "recipe": "smoke", "is_once": True} | changes)
    )
    checks = CheckOptions(series="s", store=Path("track"), margins=Margins(0.1))
    return watch_folder(options, checks, said.append, shown.append), said, shown


def pinned() -> None:
    write_run(Path("old"), "old", GOOD)
    pin_run(Path("old"), "s", store=Path("track"))


def test_new_checkpoints_are_scored_in_order_and_only_once(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scorer(monkeypatch)
    for step in (10, 9):
        checkpoint(step)
    assert watch()[0] == 0
    checkpoint(11)
    code, said, shown = watch()
    assert made.calls == ["model-9", "model-10", "model-11"]
    assert (code, shown) == (0, [])
    assert said == ["step 11: scoring run/model-11", "step 11: added to series s"]
    assert [entry.step for entry in Store(Path("track")).entries("s")] == [9, 10, 11]
    assert (here / "reports" / "track-s" / "step-00000011").is_dir()


def test_each_new_checkpoint_is_checked_against_the_pinned_run(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned()
    scorer(monkeypatch, {"model-2": BAD, "model-3": {"a": [0.0, *GOOD["a"][1:]]}})
    for step in (1, 2, 3):
        checkpoint(step)
    code, _, shown = watch()
    assert code == 0
    assert [(report.step, report.look, report.verdict) for report in shown] == [
        (1, 1, "pass"),
        (2, 2, "regressed"),
        (3, 3, "pass"),
    ]


@pytest.mark.parametrize(
    ("flags", "scores", "code"),
    [
        ({"ends_on_regression": True}, BAD, 1),
        ({"is_strict": True}, BAD, 1),
        ({"is_strict": True}, {"a": [0.0] * 8 + [1.0] * (NUM - 8)}, 3),
        ({"ends_on_regression": True}, {"a": [0.0] * 8 + [1.0] * (NUM - 8)}, 0),
        ({"ends_on_regression": True}, {"b": [1.0]}, 4),
    ],
)
def test_a_verdict_ends_it_only_if_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch, flags: Any, scores: Any, code: int
) -> None:
    pinned()
    made = scorer(monkeypatch, {"model-1": scores})
    for step in (1, 2):
        checkpoint(step)
    assert watch(**flags)[0] == code
    assert made.calls == (["model-1"] if code else ["model-1", "model-2"])


def test_a_checkpoint_that_is_not_comparable_is_told(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned()
    scorer(monkeypatch, {"model-1": {"b": [1.0]}})
    checkpoint(1)
    code, said, _ = watch()
    assert code == 0
    assert said[-1].startswith("step 1: not compared: 1 of the 1 tasks of the pinned run")


def test_a_kill_between_adding_and_checking_loses_no_check(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned()
    scorer(monkeypatch)
    checkpoint(1)

    def killed(options: CheckOptions) -> LookReport:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(watch_module, "check_series", killed)
        with pytest.raises(KeyboardInterrupt):
            watch()
    assert [report.step for report in watch()[2]] == [1]
    assert watch()[2] == []


def test_the_pinned_run_is_not_checked_against_itself(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer(monkeypatch)
    checkpoint(1)
    watch()
    pin_run(Path("reports/track-s/step-00000001"), "s", store=Path("track"))
    assert watch()[2] == []


def test_what_is_being_written_waits(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scorer(monkeypatch)
    (Path("run") / "model-1").mkdir()
    code, said, _ = watch()
    assert (code, made.calls) == (0, [])
    assert said == ["run/model-1: not whole, config.json is not there yet; it waits"]


def test_a_checkpoint_that_vanishes_is_passed_over(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer(monkeypatch, vanish=("model-1",))
    for step in (1, 2):
        checkpoint(step)
    code, said, _ = watch()
    assert code == 0
    assert "step 1: run/model-1 has vanished while it was scored; passed over" in said
    assert [entry.step for entry in Store(Path("track")).entries("s")] == [2]


def test_a_checkpoint_that_cannot_be_scored_is_told_and_the_next_one_is_scored(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scorer(monkeypatch, fail=("model-1",))
    for step in (1, 2):
        checkpoint(step)
    code, said, _ = watch()
    assert code == 2
    assert said[1:3] == [
        "step 1: a could not be scored: the model cannot be read",
        "step 1: not added; give the same command again to try once more",
    ]
    assert made.calls == ["model-1", "model-2"]
    assert [entry.step for entry in Store(Path("track")).entries("s")] == [2]


def test_it_looks_again_until_it_is_ended(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scorer(monkeypatch)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt
        checkpoint(len(waits))

    monkeypatch.setattr(watch_module.time, "sleep", wait)
    said: list[str] = []
    options = WatchOptions(Path("run"), "smoke", interval=7.0)
    checks = CheckOptions(series="s", store=Path("track"))
    with pytest.raises(KeyboardInterrupt):
        watch_folder(options, checks, said.append, lambda report: None)
    assert waits == [7.0, 7.0, 7.0]
    assert made.calls == ["model-1", "model-2"]
    assert said[0] == "run: no checkpoint there yet"


def test_a_checkpoint_is_run_as_the_recipes_first_model(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    model = {"name": "a", "source": {"random": "tiny"}, "device": "cpu", "batch_size": 3}
    data = {"title": "Mine", "models": [model], "tasks": ["suite_spell"], "limit": 7}
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    found = Found(tmp_path / "step-00000100", 100, None)
    recipe = recipe_for(load_recipe(str(file))[0], found, tmp_path)
    [entry] = recipe.models
    assert (entry.device, entry.batch_size, entry.revision) == ("cpu", 3, None)
    assert entry.source.path == tmp_path / "step-00000100"
    assert entry.name == f"{tmp_path.name[:60]}-step-100"
    assert (recipe.limit, [task.label for task in recipe.tasks]) == (7, ["suite_spell"])


def other_weights(tiny_model: Path, folder: Path, factor: float) -> None:
    shutil.copytree(tiny_model, folder)
    (folder / "manifest.json").unlink()
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * factor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder, {})


@pytest.mark.slow
def test_real_checkpoints_are_scored_and_checked(here: Path, tiny_model: Path) -> None:
    for step, factor in ((1, 1.0), (2, 1.5)):
        other_weights(tiny_model, here / "run" / f"model-{step}", factor)
    recipe = {
        "title": "Mine",
        "models": [{"name": "a", "source": {"random": "tiny"}, "device": "cpu"}],
        "tasks": ["suite_arithmetic_choice", "suite_bits_per_byte"],
        "limit": 4,
    }
    Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert watch(recipe="mine.yaml")[0] == 0
    pin_run(Path("reports/track-s/step-00000001"), "s", store=Path("track"))
    [report] = watch(recipe="mine.yaml")[2]
    assert (report.step, report.look) == (2, 1)
    assert [task.task for task in report.tasks] == [
        "suite_arithmetic_choice",
        "suite_bits_per_byte",
    ]
    assert report.tasks[1].higher_is_better is False
    assert (
        report.tasks[1].reason == "4 documents are too few for an interval: at least 10 are needed"
    )
