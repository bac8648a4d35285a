from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from suite.cli.main import main
from suite.errors import SuiteError
from suite.pipelines.bench import loss as bench
from suite.pipelines.bench import loss_contenders, loss_measure, loss_memory
from suite.pipelines.bench.loss import LossBench
from suite.pipelines.bench.loss_contenders import (
    IMPLEMENTATIONS,
    Contender,
    Implementation,
    Results,
    contenders,
    reference_results,
)
from suite.pipelines.bench.loss_problem import Case, Inputs, four_products
from suite.pipelines.bench.loss_table import PRODUCTS, LossRow, render_loss, with_ratios

TINY = Case("cpu", "float32", 8, 4, 12)
ON_CUDA = (Case("cuda", "bfloat16", 16, 8, 32), Case("cuda", "bfloat16", 16, 4, 64))
RIVALS = ("cut-cross-entropy", "cut-cross-entropy, no filter", "liger-kernel")
BYTES = {"plain": 4000, "blockwise": 500}


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    """Tiny cases, no CUDA device, no rival installed, memory made up."""
    patch.setattr(bench, "CPU_CASES", (TINY,))
    patch.setattr(bench, "CUDA_CASES", ON_CUDA)
    patch.setattr(loss_measure, "NUM_RUNS", 2)
    patch.setattr(loss_measure, "added_bytes", lambda one, case: BYTES.get(one.name, 1))
    patch.setattr(torch.cuda, "is_available", lambda: False)
    for name in RIVALS:
        absent = dataclasses.replace(IMPLEMENTATIONS[name], module="no_such_module")
        patch.setitem(IMPLEMENTATIONS, name, absent)


@pytest.fixture
def tiny_world(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    make_tiny(monkeypatch)
    return monkeypatch


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `suite bench loss` prints and writes in the tiny world."""
    folder = tmp_path_factory.mktemp("bench") / "new"
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        result = call("--output", folder)
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "loss.json").read_text(encoding="utf-8"))
    return result, folder, record, (folder / "loss.md").read_text(encoding="utf-8")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", "loss", *map(str, arguments)])


def measured(*implementations: tuple[str, Implementation]) -> dict[tuple[str, str], LossRow]:
    """Rows of the tiny case with other implementations."""
    with pytest.MonkeyPatch.context() as patch:
        for name, implementation in implementations:
            patch.setitem(IMPLEMENTATIONS, name, implementation)
        rows = loss_measure.measure_case(TINY, lambda line: None)
    return {(row.implementation, row.outputs): row for row in rows}


def raising(error: Exception, *, has_boundary: bool) -> Implementation:
    def fail(inputs: Inputs, mask: object) -> tuple[torch.Tensor, ...]:
        raise error

    return Implementation(fail, has_boundary=has_boundary)


def test_every_implementation_has_a_row_in_every_case(answer: Any) -> None:
    rows = answer[2]["rows"]
    assert len(rows) == 3 * (len(contenders()) + 1) == 30
    for case in (TINY, *ON_CUDA):
        found = [row for row in rows if dataclasses.asdict(case).items() <= row.items()]
        assert [row["implementation"] for row in found] == [
            *("plain", "blockwise", "triton"),
            *("plain", "blockwise", "triton", *RIVALS),
            PRODUCTS,
        ]
        assert [row["outputs"] for row in found[:-1]] == ["token, boundary"] * 3 + ["token"] * 6


def test_rows_without_figures_say_why(answer: Any) -> None:
    rows = answer[2]["rows"]
    for row in rows:
        figures = [row[name] for name in ("seconds", "forward_seconds", "added_bytes", "num_runs")]
        if row["device"] == "cuda":
            assert row["not_measured"] == "needs a CUDA device"
        elif row["implementation"] in RIVALS:
            assert row["not_measured"] == "not installed"
        elif row["implementation"] == "triton":
            assert row["not_measured"] in ("needs a CUDA device", "not installed")
        elif row["implementation"] == PRODUCTS:
            assert row["not_measured"] is row["added_bytes"] is row["forward_seconds"] is None
            assert row["seconds"] > 0
        else:
            assert row["not_measured"] is None
            assert all(figures)
            assert row["num_runs"] == 2
            assert 0 < row["forward_seconds"] < row["seconds"]
            assert row["added_bytes"] == BYTES[row["implementation"]]
            assert row["output_difference"] < 1e-5
            assert row["gradient_difference"] < 1e-5
        if row["not_measured"]:
            assert figures == [None] * 4


def test_ratios_compare_with_the_plain_of_the_same_outputs_and_with_the_products() -> None:
    case = dataclasses.asdict(TINY)
    rows = with_ratios(
        [
            LossRow("plain", "token, boundary", **case, seconds=4.0, added_bytes=1000),
            LossRow("blockwise", "token, boundary", **case, seconds=5.0, added_bytes=100),
            LossRow("plain", "token", **case, not_measured="out of memory"),
            LossRow("liger-kernel", "token", **case, seconds=6.0, added_bytes=10),
            LossRow(PRODUCTS, "logits, gradients", **case, seconds=2.0),
        ]
    )
    ratios = [(r.ratio_to_plain, r.memory_ratio_to_plain, r.ratio_to_products) for r in rows]
    assert ratios == [
        (1.0, 1.0, 2.0),
        (1.25, 0.1, 2.5),
        (None, None, None),
        (None, None, 3.0),
        (None, None, None),
    ]


def test_the_table_shows_every_row_the_machine_and_the_command(answer: Any) -> None:
    result, folder, record, markdown = answer
    lines = markdown.splitlines()
    table = [line for line in lines if line.startswith("| ") and "---" not in line]
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == [f"## {case.name}" for case in (TINY, *ON_CUDA)]
    assert headings[1] == "## cuda, bfloat16, T=16 D=8 V=32"
    assert len(table) == len(headings) + len(record["rows"])
    for row in record["rows"]:
        name = f"{row['implementation']} {row['version'] or ''}".strip()
        end = f"| {row['not_measured'] or ''} |"
        assert any(
            line.startswith(f"| {name} | {row['outputs']} |") and line.endswith(end)
            for line in table
        )
    assert f"- Hardware: {record['hardware']}" in lines
    assert f"- PyTorch: {record['versions']['torch']}" in lines
    assert "- Repeat with: suite bench loss" in lines
    assert result.stdout == f"{markdown}\n{folder / 'loss.json'}\n{folder / 'loss.md'}\n"


def test_a_row_of_the_table_is_rounded() -> None:
    row = LossRow(
        "triton",
        "token",
        **dataclasses.asdict(TINY),
        version="3.5.0",
        forward_seconds=0.0123,
        seconds=12.3456,
        added_bytes=1_234_567_890,
        ratio_to_plain=0.987,
        memory_ratio_to_plain=0.0387,
        ratio_to_products=1.2,
        output_difference=0.0,
        gradient_difference=0.00123,
    )
    assert (
        "| triton 3.5.0 | token | 0.012 | 12.346 | 0.99 | 1.20 | 1,235 | 0.039 | 0 | 0.001 |  |"
        in render_loss([row], {})
    )


def test_each_step_is_a_line_on_standard_error(answer: Any) -> None:
    lines = answer[0].stderr.splitlines()
    assert lines[0] == "cpu, float32, T=8 D=4 V=12: memory of plain (token, boundary)"
    assert lines[-1] == "cpu, float32, T=8 D=4 V=12: times, run 2 of 2"
    assert len(lines) == 4 + 4 + 2


def test_a_wrong_result_gets_no_figures(tiny_world: pytest.MonkeyPatch) -> None:
    def other_gradients(inputs: Inputs, mask: object) -> tuple[torch.Tensor, ...]:
        right = IMPLEMENTATIONS["plain"].log_probs(inputs, None)[0]
        return (right.detach() + 2 * (right - right.detach()),)

    def no_number(inputs: Inputs, mask: object) -> tuple[torch.Tensor, ...]:
        return (IMPLEMENTATIONS["plain"].log_probs(inputs, None)[0] * torch.nan,)

    rows = measured(
        ("liger-kernel", Implementation(other_gradients)),
        ("cut-cross-entropy", Implementation(no_number)),
    )
    doubled, broken = rows["liger-kernel", "token"], rows["cut-cross-entropy", "token"]
    assert doubled.not_measured == broken.not_measured == "wrong result"
    assert doubled.output_difference == 0
    assert doubled.gradient_difference == pytest.approx(1)
    assert broken.output_difference is broken.gradient_difference is None
    for row in (doubled, broken):
        assert row.seconds is row.added_bytes is row.ratio_to_products is None


def test_a_rival_that_fails_costs_the_others_nothing(tiny_world: pytest.MonkeyPatch) -> None:
    broken = raising(ValueError("no such kernel\nand more"), has_boundary=False)
    rows = measured(("liger-kernel", broken))
    assert rows["liger-kernel", "token"].not_measured == "failed (no such kernel)"
    assert rows["blockwise", "token"].ratio_to_plain is not None


def test_a_fault_of_our_own_is_not_hidden(tiny_world: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a bug"):
        measured(("blockwise", raising(ValueError("a bug"), has_boundary=True)))


def test_what_does_not_fit_in_memory_says_so(tiny_world: pytest.MonkeyPatch) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB")
    rows = measured(("blockwise", raising(error, has_boundary=True)))
    assert rows["blockwise", "token"].not_measured == "out of memory"
    assert rows["plain", "token"].ratio_to_plain == 1
    tiny_world.setattr(loss_measure, "added_bytes", lambda one, case: None)
    assert measured()["plain", "token"].not_measured == "out of memory"


def test_inputs_and_products_that_do_not_fit_say_so(tiny_world: pytest.MonkeyPatch) -> None:
    def fail(given: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    tiny_world.setattr(loss_measure, "four_products", fail)
    rows = measured()
    tiny_world.setattr(Inputs, "of", fail)
    nothing = measured()
    assert rows[PRODUCTS, "logits, gradients"].not_measured == "out of memory"
    assert rows["plain", "token"].ratio_to_products is None
    assert rows["plain", "token"].ratio_to_plain == 1
    assert nothing["plain", "token"].not_measured == "out of memory"
    assert nothing[PRODUCTS, "logits, gradients"].not_measured == "out of memory"


def test_another_error_of_pytorch_is_not_taken_for_want_of_memory(
    tiny_world: pytest.MonkeyPatch,
) -> None:
    def fail(given: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    tiny_world.setattr(loss_measure, "four_products", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        measured()


@pytest.mark.parametrize("has_boundary", [True, False])
def test_the_reference_is_plain_over_all_tokens(
    has_boundary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_contenders, "_REFERENCE_TOKENS", 3)
    inputs = Inputs.of(TINY)
    found = reference_results(inputs, has_boundary=has_boundary)
    hidden = inputs.hidden.detach().double().requires_grad_()
    head_weight = inputs.head_weight.detach().double().requires_grad_()
    log_probs = torch.log_softmax(hidden @ head_weight.T, dim=1)
    outputs = [log_probs[range(TINY.num_tokens), inputs.targets]]
    if has_boundary:
        outputs.append(log_probs[:, inputs.boundary_mask].exp().sum(dim=1).log())
    upstream = inputs.upstream[: len(outputs)].double().unbind()
    gradients = torch.autograd.grad(outputs, (hidden, head_weight), upstream)
    for one, other in zip((*found.outputs, *found.gradients), (*outputs, *gradients), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_targets_are_likely_and_the_softmax_is_neither_flat_nor_one_hot() -> None:
    inputs = Inputs.of(Case("cpu", "float32", 64, 256, 4000))
    log_probs = torch.log_softmax((inputs.hidden @ inputs.head_weight.T).detach(), dim=1)
    assert -4 < log_probs[range(64), inputs.targets].mean() < -1
    entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
    assert 1 < entropy < 6


def test_the_same_case_gives_the_same_inputs() -> None:
    one, other = Inputs.of(TINY), Inputs.of(TINY)
    assert torch.equal(one.hidden, other.hidden)
    assert torch.equal(one.upstream, other.upstream)


def test_the_four_products_are_of_the_problems_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    multiply = torch.mm

    def watch(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        shapes.append((*left.shape, right.shape[1]))
        return multiply(left, right, out=out)

    run = four_products(Inputs.of(TINY))
    monkeypatch.setattr(torch, "mm", watch)
    run()
    assert shapes == [(8, 4, 12), (8, 4, 12), (8, 12, 4), (12, 8, 4)]


def test_plain_adds_several_matrices_of_logits_to_its_process() -> None:
    case = Case("cpu", "float32", 512, 16, 16384)
    logits = case.num_tokens * case.vocab_size * 4
    found = loss_memory.added_bytes(Contender("plain", has_boundary=True), case)
    assert found is not None
    assert 3 * logits < found < 8 * logits


def test_a_request_is_answered_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    contender = {"name": "blockwise", "has_boundary": False}
    request = {"contender": contender, "case": dataclasses.asdict(TINY)}
    loss_memory.main(json.dumps(request))
    assert list(json.loads(capsys.readouterr().out)) == ["added_bytes"]


def test_a_system_without_proc_measures_the_peak_of_the_whole_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_memory, "_CLEAR", tmp_path / "no" / "clear_refs")
    monkeypatch.setattr(loss_memory, "_STATUS", tmp_path / "status")
    case = Case("cpu", "float32", 8, 8, 64)
    found = loss_memory.measure_here(Contender("plain", has_boundary=True), case)
    assert found is not None
    assert found < 1e6


def test_memory_that_cannot_be_had_is_no_crash() -> None:
    case = Case("cpu", "float32", 10**7, 1, 10**7)
    assert loss_memory.measure_here(Contender("plain", has_boundary=True), case) is None


@pytest.mark.parametrize(
    ("stderr", "reason"), [("Traceback\nKeyError: 'x'\n", "KeyError: 'x'"), ("", "no output")]
)
def test_a_process_that_fails_is_named(
    stderr: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(SuiteError) as error:
        loss_memory.added_bytes(Contender("plain", has_boundary=True), TINY)
    assert str(error.value) == f"measuring the memory of plain failed ({reason})"


def test_a_process_killed_by_the_system_ran_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert loss_memory.added_bytes(Contender("plain", has_boundary=True), TINY) is None


def test_a_release_with_wrong_gradients_is_named() -> None:
    version = pytest.importorskip("hypothesis").__version__
    old = Implementation(IMPLEMENTATIONS["plain"].log_probs, "hypothesis", minimum=(999, 1))
    assert old.missing("cuda") == f"{version} has wrong gradients; 999.1 or newer is needed"
    new = dataclasses.replace(old, minimum=(1, 0, 0))
    assert (new.missing("cuda"), new.missing("cpu")) == (None, "needs a CUDA device")


def test_given_sizes_replace_those_of_each_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    wanted = LossBench(device="cuda", dtype="float16", tokens=64)
    assert [(c.dtype, c.num_tokens, c.vocab_size) for c in wanted.cases()] == [
        ("float16", 64, 128256),
        ("float16", 64, 256000),
    ]
    assert LossBench(hidden_size=8, vocab_size=9).cases() == [Case("cuda", "bfloat16", 8192, 8, 9)]
    assert LossBench(device="cpu").cases() == list(bench.CPU_CASES)
    assert wanted.command == "suite bench loss --device cuda --dtype float16 --tokens 64"


def test_sizes_on_a_cpu_leave_out_the_cases_of_cuda(tiny_world: pytest.MonkeyPatch) -> None:
    assert LossBench(tokens=2).cases() == [Case("cpu", "float32", 2, 4, 12)]


@pytest.mark.parametrize(
    ("arguments", "sentence", "exit_code"),
    [
        (["--tokens", "0"], "--tokens is 0, expected at least 1", 2),
        (["--hidden-size", "-1"], "--hidden-size is -1, expected at least 1", 2),
        (["--vocab-size", "1"], "--vocab-size is 1, expected at least 2", 2),
        (
            ["--device", "cuda"],
            "device cuda is not available on this machine; give --device or device: cpu",
            1,
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str],
    sentence: str,
    exit_code: int,
    tiny_world: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    tiny_world.setattr(torch.backends.mps, "is_available", lambda: False)
    result = call(*arguments, "--output", tmp_path / "new")
    assert (result.stderr, result.exit_code) == (f"error: {sentence}\n", exit_code)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, tiny_world: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    result = call("--output", file)
    assert result.stderr == f"error: cannot write to {file} (File exists); give another --output\n"
    assert result.exit_code == 2
    tiny_world.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    result = call("--output", tmp_path)
    assert result.stderr == (
        f"error: cannot write to {tmp_path} (Permission denied); give another --output\n"
    )
    assert result.exit_code == 2


@pytest.mark.gpu
def test_on_cuda_every_implementation_of_ours_has_figures() -> None:
    case = Case("cuda", "bfloat16", 256, 64, 8192)
    rows = loss_measure.measure_case(case, lambda line: None)
    ours = [row for row in rows if row.implementation in ("plain", "blockwise", "triton")]
    assert len(ours) == 6
    for row in ours:
        assert row.not_measured is None
        assert row.added_bytes
        assert row.ratio_to_products
    rivals = [row for row in rows if row.implementation in RIVALS]
    assert all(row.not_measured in (None, "not installed") for row in rivals)


@pytest.mark.gpu
def test_on_cuda_memory_is_counted_beyond_inputs_and_gradients() -> None:
    case = Case("cuda", "float32", 512, 16, 16384)
    inputs = Inputs.of(case)
    contender = Contender("plain", has_boundary=True)
    Results.of(contender, inputs)
    logits = case.num_tokens * case.vocab_size * 4
    assert 3 * logits < loss_memory.cuda_added_bytes(contender, inputs) < 8 * logits
