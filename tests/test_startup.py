"""Answers that need no model come at once: nothing heavy is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import suite

HEAVY = ("torch", "transformers", "lm_eval", "datasets", "peft", "matplotlib", "scipy")

CALL_AND_LIST_HEAVY = f"""
import sys
from suite.cli.main import main
try:
    main(sys.argv[1:], prog_name="suite")
except SystemExit as end:
    assert not end.code, end.code
print()
print("HEAVY", *[name for name in {HEAVY} if name in sys.modules])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run-benchmark", "--help"],
        ["align", "--help"],
        ["report", "--help"],
        ["compare", "--help"],
        ["track", "check", "--help"],
        ["fidelity", "--help"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_a_call_that_needs_no_model_imports_nothing_heavy(arguments: list[str]) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CALL_AND_LIST_HEAVY, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines()[-1].split() == ["HEAVY"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import suite, sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []


def test_the_package_can_be_started_as_a_module() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "suite", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"suite, version {suite.__version__}\n"


def test_help_names_every_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "suite", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("run-benchmark", "report", "compare", "track", "fidelity", "schema"):
        assert command in answer.stdout


@pytest.mark.parametrize("name", suite.__all__)
def test_every_public_name_can_be_loaded(name: str) -> None:
    assert getattr(suite, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'suite' has no attribute 'run_benchmrk'"):
        suite.run_benchmrk  # noqa: B018
