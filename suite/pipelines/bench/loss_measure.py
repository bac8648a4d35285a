"""From a case to rows: what can run, its memory, its results against a reference, its time.

Each stage takes the rows of the one before; a row that says why it is not measured passes the
further ones unchanged.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TypeVar

import torch

from suite.errors import is_out_of_memory
from suite.pipelines.bench.loss_contenders import (
    Contender,
    Results,
    contenders,
    reference_results,
)
from suite.pipelines.bench.loss_memory import added_bytes, cuda_added_bytes
from suite.pipelines.bench.loss_problem import Case, Inputs, four_products
from suite.pipelines.bench.loss_table import PRODUCTS, LossRow, with_ratios

NUM_RUNS = 5

# Half precision rounds away less than this; what differs by more has other gradients.
LARGEST_DIFFERENCE = 0.1

NEEDS_CUDA = "needs a CUDA device"
OUT_OF_MEMORY = "out of memory"
WRONG = "wrong result"

Rows = dict[Contender, LossRow]
Say = Callable[[str], None]
# Notes the time; a run calls it between its parts.
Mark = Callable[[], None]

_Found = TypeVar("_Found")


def can_run(case: Case) -> bool:
    """Whether the case's device is there."""
    return case.device == "cpu" or torch.cuda.is_available()


def measure_case(case: Case, say: Say) -> list[LossRow]:
    """A row for each implementation at each task, and one for the four bare products.

    Args:
        case: The problem; where its device is missing, all rows say so.
        say: Called with a line at each step.

    Raises:
        SuiteError: A process that measures memory failed.
    """
    rows = {one: _start(case, one) for one in contenders()}
    products = LossRow(PRODUCTS, "logits, gradients", **asdict(case))
    if not can_run(case):
        return [replace(row, not_measured=NEEDS_CUDA) for row in (*rows.values(), products)]
    if case.device == "cpu":
        rows = _advance(rows, lambda one, row: _with_memory(one, row, say))
    inputs = _unless_out_of_memory(lambda: Inputs.of(case))
    if inputs is None:
        rows = _advance(rows, lambda _, row: _without(row, OUT_OF_MEMORY))
        return [*rows.values(), _without(products, OUT_OF_MEMORY)]
    for has_boundary in (True, False):
        rows = _checked(rows, inputs, has_boundary, say)
    return with_ratios(_timed(rows, products, inputs, say))


def _start(case: Case, contender: Contender) -> LossRow:
    implementation = contender.implementation
    return LossRow(
        contender.name,
        contender.outputs,
        **asdict(case),
        version=implementation.version(),
        not_measured=implementation.missing(case.device),
    )


def _advance(
    rows: Mapping[Contender, LossRow], stage: Callable[[Contender, LossRow], LossRow]
) -> Rows:
    return {one: row if row.not_measured else stage(one, row) for one, row in rows.items()}


def _without(row: LossRow, reason: str) -> LossRow:
    """A row that drops out; the memory it took to get there is no figure."""
    return replace(row, not_measured=reason, added_bytes=None)


def _with_memory(contender: Contender, row: LossRow, say: Say) -> LossRow:
    say(f"{row.case.name}: memory of {contender.name} ({contender.outputs})")
    found = added_bytes(contender, row.case)
    return _without(row, OUT_OF_MEMORY) if found is None else replace(row, added_bytes=found)


def _checked(rows: Rows, inputs: Inputs, has_boundary: bool, say: Say) -> Rows:
    """Compare results at one of the tasks with the reference; on CUDA, measure memory too."""
    reference = reference_results(inputs, has_boundary=has_boundary)

    def check(contender: Contender, row: LossRow) -> LossRow:
        if contender.has_boundary != has_boundary:
            return row
        say(f"{row.case.name}: results of {contender.name} ({contender.outputs})")
        try:
            differences = Results.of(contender, inputs).differences(reference)
            if inputs.hidden.is_cuda:
                row = replace(row, added_bytes=cuda_added_bytes(contender, inputs))
        except Exception as error:
            return _without(row, _reason(contender, error))
        row = replace(row, output_difference=differences[0], gradient_difference=differences[1])
        is_right = all(it is not None and it <= LARGEST_DIFFERENCE for it in differences)
        return row if is_right else _without(row, WRONG)

    return _advance(rows, check)


def _reason(contender: Contender, error: Exception) -> str:
    """Why a contender dropped out; our own may do so only for want of memory."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if contender.implementation.has_boundary:
        raise error
    first = (str(error).strip() or repr(error)).splitlines()[0]
    return f"failed ({first})"


def _timed(rows: Rows, products: LossRow, inputs: Inputs, say: Say) -> list[LossRow]:
    """Median times over runs taken in turns, so that a slow moment hits all of them."""
    runs: dict[Contender | None, Callable[[Mark], object]] = {
        one: _run(one, inputs) for one, row in rows.items() if not row.not_measured
    }
    multiply = _unless_out_of_memory(lambda: _warm_products(inputs))
    if multiply is not None:
        runs[None] = lambda _: multiply()
    seconds: dict[Contender | None, list[list[float]]] = {one: [] for one in runs}
    for number in range(1, NUM_RUNS + 1):
        say(f"{products.case.name}: times, run {number} of {NUM_RUNS}")
        for one, run in runs.items():
            seconds[one].append(_stopwatch(run, inputs.hidden.is_cuda))

    def stage(one: Contender | None, row: LossRow) -> LossRow:
        *forward, whole = (statistics.median(times) for times in zip(*seconds[one], strict=True))
        row = replace(row, num_runs=NUM_RUNS, seconds=whole)
        return replace(row, forward_seconds=forward[0]) if forward else row

    timed = _advance(rows, stage)
    products = stage(None, products) if None in seconds else _without(products, OUT_OF_MEMORY)
    return [*timed.values(), products]


def _run(contender: Contender, inputs: Inputs) -> Callable[[Mark], object]:
    return lambda mark: Results.of(contender, inputs, between=mark)


def _warm_products(inputs: Inputs) -> Callable[[], None]:
    multiply = four_products(inputs)
    multiply()
    return multiply


def _stopwatch(run: Callable[[Mark], object], on_cuda: bool) -> list[float]:
    """Seconds from the start to each mark and to the end."""
    times = []

    def mark() -> None:
        if on_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    mark()
    run(mark)
    mark()
    return [moment - times[0] for moment in times[1:]]


def _unless_out_of_memory(call: Callable[[], _Found]) -> _Found | None:
    """What a call gives; None where memory does not suffice."""
    try:
        return call()
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise
