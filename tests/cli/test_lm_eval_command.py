"""`suite lm-eval`: arguments and exit codes pass through."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from suite.cli.lm_eval import lm_eval


def test_arguments_reach_lm_eval_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval.__main__ as upstream

    seen: list[list[str]] = []
    monkeypatch.setattr(upstream, "cli_evaluate", lambda: seen.append(list(sys.argv)))
    before = list(sys.argv)
    given = ["run", "--model", "suite", "--model_args", "path=a", "--include_path", "mine"]
    for arguments in (["--", *given], given):
        assert CliRunner().invoke(lm_eval, arguments).exit_code == 0
    assert seen == [["lm-eval", *given]] * 2
    assert sys.argv == before


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["run", "--limit", "x"], 2)])
def test_lm_evals_exit_code_is_passed_on(arguments: list[str], code: int) -> None:
    result = CliRunner().invoke(lm_eval, ["--", *arguments])
    assert result.exit_code == code
    assert "usage: lm-eval" in result.output
