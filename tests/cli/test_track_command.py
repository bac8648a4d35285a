"""`suite track` on the command line: what is printed, written and returned."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from written_runs import write_run

from suite.cli.main import SuiteGroup
from suite.cli.track import track
from suite.errors import RecordError

PASSED, REGRESSED, USAGE, INCONCLUSIVE, NOT_COMPARABLE = 0, 1, 2, 3, 4
FAULT = 70
NUM = 100
OLD = {"a": [1.0, 0.0] * (NUM // 2), "b": [1.0] * NUM}
NO_MARGIN = "expected a number of at least 0, or TASK= and such a number"
WORSE = OLD | {"b": [0.0] * 30 + [1.0] * (NUM - 30)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a pinned run, a worse one, and one measured in another way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SUITE_TRACK", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    write_run(tmp_path / "old", "old", OLD)
    write_run(tmp_path / "worse", "worse", WORSE)
    write_run(tmp_path / "other", "other", WORSE, shots=5)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    # watch ends on it as on an interrupt.
    signal.signal(signal.SIGTERM, handler)


def call(*arguments: str) -> Result:
    root = SuiteGroup(commands={"track": track})
    return CliRunner().invoke(root, ["track", *arguments], catch_exceptions=False)


def begin() -> None:
    for arguments in (
        ("pin", "old", "--series", "s", "--export", "ref.json"),
        ("add", "old", "--series", "s", "--step", "10"),
        ("add", "worse", "--series", "s", "--step", "20"),
    ):
        assert call(*arguments).exit_code == PASSED


def test_adding_says_whether_it_was_new() -> None:
    first = call("add", "old", "--series", "s", "--step", "10")
    assert first.stdout == "old added: series s, step 10\n"
    again = call("add", "old", "--series", "s", "--step", "10")
    assert again.stdout == "old was there already: series s, step 10\n"
    assert Path("track/s/step-00000010.json").is_file()


def test_the_store_is_named_by_an_option_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call("add", "old", "--series", "s", "--step", "1", "--store", "here")
    monkeypatch.setenv("SUITE_TRACK", "there")
    call("add", "old", "--series", "s", "--step", "1")
    assert Path("here/s/step-00000001.json").is_file()
    assert Path("there/s/step-00000001.json").is_file()
    assert not Path("track").exists()


def test_pinning_tells_the_size_of_the_file() -> None:
    said = call("pin", "old", "--series", "s", "--export", "ref.json").stdout.splitlines()
    size = Path("ref.json").stat().st_size
    assert said == [
        "old pinned for series s, judged on 2 tasks",
        f"ref.json ({size / 1000:.1f} kB)",
    ]
    assert size < 20_000


def test_a_regression_is_exit_code_one_and_three_files() -> None:
    begin()
    Path("summary.md").write_text("before\n")
    result = call(
        *("check", "s", "--json", "out/c.json", "--junit", "out/j.xml", "--summary", "summary.md")
    )
    assert result.exit_code == REGRESSED
    assert (
        "series s, step 20: regressed. Look 1 spends 0.03 of alpha 0.05, shared among 2 tasks by"
        " Holm's procedure.\n"
    ) in result.stdout
    assert json.loads(Path("out/c.json").read_text())["verdict"] == "regressed"
    assert ElementTree.parse("out/j.xml").getroot()[0].get("failures") == "1"
    assert Path("summary.md").read_text().startswith("before\n## series s, step 20: regressed\n")


def test_inconclusive_is_a_warning_and_with_strict_exit_code_three() -> None:
    begin()
    write_run(Path("near"), "near", OLD | {"b": [0.0] + [1.0] * (NUM - 1)})
    call("add", "near", "--series", "s", "--step", "30")
    loose, strict = call("check", "s"), call("check", "s", "--strict")
    assert (loose.exit_code, strict.exit_code) == (PASSED, INCONCLUSIVE)
    assert "inconclusive" in loose.stdout
    assert "(MDE = " in loose.stdout
    assert loose.stderr.splitlines()[0].startswith("warning: a is inconclusive: a drop below 0.")
    assert call("check", "s", "--margin", "0.2", "--strict").exit_code == PASSED


def test_a_run_measured_in_another_way_is_exit_code_four() -> None:
    begin()
    result = call("check", "s", "other")
    assert result.exit_code == NOT_COMPARABLE
    assert result.stderr.startswith("error: a: other and old were not measured alike (shots: 5")


def test_a_file_and_a_run_are_enough(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    runner = here / "runner"
    runner.mkdir()
    monkeypatch.chdir(runner)
    monkeypatch.setenv("SUITE_CACHE", str(runner / "cache"))
    arguments = ("check", "s", "../worse", "--reference", "../ref.json")
    assert call(*arguments, "--look", "1").exit_code == REGRESSED
    assert call(*arguments, "--planned-looks", "10").exit_code == REGRESSED
    assert list(runner.iterdir()) == []
    refused = call(*arguments)
    assert refused.exit_code == USAGE
    assert refused.stderr == (
        "error: --reference without a store cannot count looks; say which look of the series this"
        " is with --look N, or how many there will be with --planned-looks K\n"
    )


def test_only_a_regression_is_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    data = json.loads(Path("ref.json").read_text(encoding="utf-8"))
    Path("empty.json").write_text(json.dumps(data | {"tasks": []}), encoding="utf-8")
    refused = call("check", "s", "worse", "--reference", "empty.json", "--look", "1")
    assert refused.exit_code == USAGE
    assert refused.stderr == (
        "error: empty.json: a damaged file of a pinned run (ValueError: no task); export it again"
        " with suite track pin --export\n"
    )
    for error, code in ((RecordError("damaged"), USAGE), (StopIteration("a fault"), FAULT)):
        monkeypatch.setattr("suite.pipelines.track.check_series", Mock(side_effect=error))
        monkeypatch.setattr("suite.pipelines.watch.watch_folder", Mock(side_effect=error))
        for arguments in ("check s", "watch . --recipe smoke --series s"):
            result = call(*arguments.split())
            assert result.exit_code == code
            assert str(error) in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("check s --margin x", f"--margin 'x': {NO_MARGIN}"),
        ("check s --margin -0.1", f"--margin '-0.1': {NO_MARGIN}"),
        ("check s --margin a=nan", f"--margin 'a=nan': {NO_MARGIN}"),
        ("check s --margin =1", f"--margin '=1': {NO_MARGIN}"),
        ("check s --alpha 2", "--alpha is 2, expected between 0 and 1"),
        ("check s --look 0", "--look is 0, expected at least 1"),
        ("check s --planned-looks 0", "--planned-looks is 0, expected at least 1"),
        ("check s --look 1 --planned-looks 2", "give --look or --planned-looks, not both"),
        (
            "check s --reference ref.json --look 1",
            "--reference needs the checkpoint's run: suite track check S RUN",
        ),
        ("index", "suite track index does nothing without --rebuild"),
        ("index --rebuild nowhere", "nowhere does not exist; give folders with results"),
        (
            "watch nowhere --recipe smoke --series w --once",
            "nowhere is no folder; give the folder of a training run",
        ),
        ("watch . --recipe smoke --series w --interval 0", "--interval is 0, expected more than 0"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_two(arguments: str, said: str) -> None:
    result = call(*arguments.split())
    assert result.stderr == f"error: {said}\n"
    assert result.exit_code == USAGE
    assert not Path("track").exists()


def test_what_does_not_fit_the_series_is_one_line_and_exit_code_two() -> None:
    begin()
    for arguments, said in {
        "check s --margin c=1": "--margin c: the pinned run has no such task; known: a, b",
        "check s --json old": "cannot write old (Is a directory); give another --json",
        "check s --summary old": "cannot write old (Is a directory); give another --summary",
        "check s --look 3 --alpha 0.1": (
            "look 1 of the series was taken with --alpha 0.05, this one is with --alpha 0.1; a"
            " mixture keeps no error rate, give the same options, or pin another run to begin again"
        ),
        "plot s --task a --output x.gif": (
            "x.gif: a figure is written as .svg, .png or .pdf, not '.gif'"
        ),
    }.items():
        result = call(*arguments.split())
        assert result.stderr.splitlines()[-1] == f"error: {said}"
        assert result.exit_code == USAGE


def test_a_list_shows_every_run_and_its_verdict(here: Path) -> None:
    begin()
    call("check", "s")
    rows = json.loads(call("list", "--json").stdout)
    assert [(row["step"], row["is_pinned"], row["verdict"]) for row in rows] == [
        (10, True, None),
        (20, False, "regressed"),
    ]
    shown = call("list", "--series", "s").stdout
    assert "pinned" in shown
    assert "regressed" in shown
    missing = call("list", "--series", "t")
    assert missing.stderr == f"error: {here / 'track'} has no series t; known: s\n"
    assert missing.exit_code == USAGE


def test_an_empty_store_lists_nothing() -> None:
    result = call("list", "--json")
    assert (result.stdout, result.exit_code) == ("[]\n", PASSED)


def test_a_plot_is_one_file_a_task() -> None:
    begin()
    result = call("plot", "s", "--output", "out/s.svg")
    assert result.stdout.splitlines() == ["out/s-a.svg", "out/s-b.svg"]
    assert call("plot", "s", "--task", "b").stdout == "s.svg\n"
    assert "<svg" in Path("s.svg").read_text(encoding="utf-8")


def test_rebuilding_the_index_tells_lines_and_entries() -> None:
    begin()
    result = call("index", "--rebuild")
    assert result.exit_code == PASSED
    assert "with 400 sample lines in" in result.stdout
    assert result.stdout.endswith("3 entries mirrored\n")


WITHOUT_TORCH = """
import sys
from suite.cli.track import track
for line in sys.argv[1:]:
    try:
        track(line.split(), standalone_mode=False)
    except SystemExit:
        pass
heavy = ("torch", "transformers", "lm_eval", "datasets")
print()
print("HEAVY", *[name for name in heavy if name in sys.modules])
"""


def test_nothing_but_watch_loads_torch() -> None:
    calls = [
        "pin old --series s --export ref.json",
        "add worse --series s --step 1",
        "check s --margin 0.1",
        "check s worse --reference ref.json --look 1 --junit j.xml",
        "list",
        "plot s",
        "index --rebuild",
    ]
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *calls], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1].split() == ["HEAVY"]
