"""Steps of one process or of several, as a script that a launcher starts.

Run as `python distributed_steps.py FILE`; the first process writes its findings there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from training_stage import Pair, byte_pair, passes_of, stepper_of, subword_pair

from suite.distill.distribute import distribute, open_accelerator
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossConfig
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.sft import SftConfig
from suite.distill.optimiser import make_optimiser
from suite.distill.settings import OptimiserConfig
from suite.distill.snapshot import take_tensors, whole_state
from suite.distill.step import NotFiniteError, Processes

ALM, SFT, HIDDEN = AlmConfig(), SftConfig(), HiddenStateConfig()


@dataclass(frozen=True)
class Case:
    """What is trained, and how it is shared out."""

    sharding: str
    balance: str
    losses: tuple[LossConfig, ...]
    rows_per_pass: int = 1
    is_tied: bool = False
    is_projected: bool = False

    def pair(self) -> Pair:
        if self.is_tied:
            return subword_pair()
        return byte_pair(teacher_width=48 if self.is_projected else 32)


CASES = {
    "ddp, fixed": Case("ddp", "fixed", (ALM, SFT, HIDDEN), rows_per_pass=2),
    "ddp, gradmag": Case("ddp", "gradmag", (ALM, SFT, HIDDEN)),
    "ddp, tied ends": Case("ddp", "gradmag", (ALM, SFT), is_tied=True),
    "ddp, head unused": Case("ddp", "fixed", (HIDDEN,)),
    "ddp, projection": Case(
        "ddp", "fixed", (ALM, HiddenStateConfig(projection=True)), is_projected=True
    ),
    "fully_shard": Case("fully_shard", "fixed", (ALM, SFT, HIDDEN), rows_per_pass=2),
    "fully_shard, passes": Case("fully_shard", "fixed", (ALM, SFT)),
    "fully_shard, tied ends": Case("fully_shard", "fixed", (ALM, SFT), is_tied=True),
    "fully_shard, projection": Case(
        "fully_shard", "fixed", (ALM, HiddenStateConfig(projection=True)), is_projected=True
    ),
}
# Two steps: of all rows, and of so many that one process has none for its last pass.
NUM_ROWS = (None, 3)


def take_steps(case: Case, accelerator: Any = None) -> dict[str, Any]:
    """Two steps of a case, on this process's share if there is an accelerator."""
    pair = case.pair()
    width = pair.teacher_model.config.hidden_size
    square = [1.0 + 0.1 * channel for channel in range(width)]
    stepper = stepper_of(pair, case.losses, balance=case.balance, mean_square=square, clipping=0.5)
    processes = Processes()
    if accelerator is not None:
        shared = distribute(accelerator, stepper.student, case.sharding)
        stepper.wrapped, stepper.is_sharded = shared.wrapped, shared.is_sharded
        stepper.processes = processes
        parameters = (p for p in stepper.student.parameters() if p.requires_grad)
        stepper.optimiser = make_optimiser(parameters, OptimiserConfig())
    figures, found = None, []
    for num_rows in NUM_ROWS:
        rows = pair.rows[:num_rows]
        passes = passes_of(
            rows, case.rows_per_pass, rank=processes.rank, num_processes=processes.count
        )
        figures = stepper.step(
            passes,
            1e-4,
            norms=figures and figures.gradient_norms,
            weights=figures and figures.weights,
        )
        found.append(vars(figures))
    weights = whole_state(pair.student_model)
    moments = take_tensors(stepper.student, stepper.optimiser)
    return {
        "figures": found,
        "weights": weights,
        "moments": dict(moments.optimiser),
        "losses": dict(moments.losses),
    }


def refused(sharding: str, accelerator: Any) -> list[str]:
    """What each process says of a step in which the second one's row is no number."""
    pair = byte_pair()
    first, second = (set(row.student.ids.tolist()) for row in pair.rows[:2])
    own = min(second - first)
    stepper = stepper_of(pair, (SFT,))
    with torch.no_grad():
        pair.student_model.model.embed_tokens.weight[own] = torch.nan
    shared = distribute(accelerator, stepper.student, sharding)
    stepper.wrapped, stepper.is_sharded = shared.wrapped, shared.is_sharded
    stepper.processes = processes = Processes()
    stepper.optimiser = make_optimiser(stepper.student.parameters(), OptimiserConfig())
    said: list[str] = [""] * processes.count
    passes = passes_of(pair.rows[:2], 1, rank=processes.rank, num_processes=processes.count)
    try:
        stepper.step(passes, 1e-4)
    except NotFiniteError as error:
        torch.distributed.all_gather_object(said, str(error))
    return said


def main(output: str) -> None:
    accelerator = open_accelerator("cpu")
    found: dict[str, Any] = {}
    for sharding in ("ddp", "fully_shard"):
        found[f"no number, {sharding}"] = refused(sharding, accelerator)
    for name, case in CASES.items():
        try:
            found[name] = take_steps(case, accelerator)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    if accelerator.is_main_process:
        torch.save(found, output)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
