"""The loop around the steps: runs that go on, stop, measure, save, and meet what is no number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from training_stage import byte_pair, passes_of, stepper_of

from suite.align.rows import Row
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.sft import SftConfig
from suite.distill.passes import make_passes
from suite.distill.settings import OptimiserConfig, TrainConfig
from suite.distill.snapshot import restore_tensors, take_tensors
from suite.distill.state import DataPlace, SavedTensors, TrainingState
from suite.distill.step import NotFiniteError
from suite.distill.train import TrainingRun, train
from suite.distill.training_log import TrainingLog, read_log
from suite.distill.training_rows import StepRows, TrainingRows
from suite.errors import ConfigError
from suite.text.corpus import Position

LOSSES = (AlmConfig(), SftConfig(), HiddenStateConfig(projection=True))
ROWS_PER_STEP = 3


def epochs_of(rows: tuple[Row, ...]) -> TrainingRows:
    """Rows in order, and in the reverse one in every other epoch."""

    def epoch_rows(place: DataPlace) -> Iterator[Row]:
        epoch = place.position.epoch
        order = rows if epoch % 2 == 0 else rows[::-1]
        behind = [Position(epoch, number + 1) for number in range(len(rows))]
        behind[-1:] = [Position(epoch + 1)] * (len(rows) > 0)
        found = [replace(row, resume=own) for row, own in zip(order, behind, strict=True)]
        return iter(found[place.row :])

    return TrainingRows(epoch_rows, "text.txt")


class Trial:
    """A tiny run whose checkpoints stay in memory, as JSON and tensors."""

    def __init__(self, folder: Path, *, balance: str = "fixed", **changes: Any) -> None:
        self.folder = folder
        self.pair = byte_pair()
        model = self.pair.student_model
        # Dropout draws random numbers, whose generator must go on, too.
        model.config.attention_dropout = 0.3
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.3
        stepper = stepper_of(self.pair, LOSSES, balance=balance, mean_square=[1.0] * 32)
        stepper.student.train()
        self.saved: list[tuple[str, SavedTensors, dict[str, Tensor]]] = []
        self.run = TrainingRun(
            stepper=stepper,
            rows=epochs_of(self.pair.rows),
            config=TrainConfig(
                steps=5,
                rows_per_step=ROWS_PER_STEP,
                rows_per_pass=2,
                optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=2),
            ),
            num_steps=5,
            device=torch.device("cpu"),
            save=self._save,
            save_every=2,
            saves_best=True,
            evaluate=None,
            evaluate_every=None,
            should_stop=lambda: False,
        )
        self.run = replace(self.run, **changes)

    def _save(self, state: TrainingState) -> None:
        stepper = self.run.stepper
        tensors = take_tensors(stepper.student, stepper.optimiser)
        weights = deepcopy(self.pair.student_model.state_dict())
        self.saved.append((json.dumps(state.to_json()), tensors, weights))

    def go_on_from(self, saved: tuple[str, SavedTensors, dict[str, Tensor]]) -> TrainingState:
        state, tensors, weights = saved
        self.pair.student_model.load_state_dict(weights)
        restore_tensors(self.run.stepper.student, self.run.stepper.optimiser, tensors)
        return TrainingState.from_json(json.loads(state))

    def train(self, state: TrainingState | None = None) -> TrainingState:
        state = state or TrainingState()
        log = TrainingLog(
            self.folder, Console(quiet=True), self.run.num_steps, from_step=state.step
        )
        with log:
            return train(self.run, state, log)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in read_log(self.folder) if line["kind"] == kind]


@pytest.mark.parametrize("balance", ["fixed", "gradmag"])
def test_a_run_that_goes_on_ends_with_the_bits_of_one_that_was_never_stopped(
    balance: str, tmp_path: Path
) -> None:
    whole = Trial(tmp_path, balance=balance)
    end = whole.train()
    steps = [line["step"] for line in whole.lines("step")]
    assert steps == [1, 2, 3, 4, 5]
    assert [json.loads(saved[0])["step"] for saved in whole.saved] == [2, 4, 5]
    first_log = [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in whole.lines("step")
    ]
    for saved in whole.saved[:2]:
        torch.manual_seed(1234)
        other = Trial(tmp_path, balance=balance)
        assert replace(other.train(other.go_on_from(saved)), random_states=()) == end
        for name, values in whole.pair.student_model.state_dict().items():
            assert torch.equal(other.pair.student_model.state_dict()[name], values), name
        last, expected = other.saved[-1], whole.saved[-1]
        assert last[0] == expected[0]
        for name, values in expected[1].optimiser.items():
            assert torch.equal(last[1].optimiser[name], values), name
        for name, values in expected[1].losses.items():
            assert torch.equal(last[1].losses[name], values), name
        # The lines of the steps done twice are there once.
        assert [
            {key: value for key, value in line.items() if key != "seconds"}
            for line in other.lines("step")
        ] == first_log


def test_the_lines_of_steps_that_a_killed_run_could_not_save_are_replaced(tmp_path: Path) -> None:
    Trial(tmp_path).train()
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text() + '{"kind": "step", "st')
    TrainingLog(tmp_path, Console(quiet=True), 5, from_step=2)
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]


def test_held_out_figures_are_taken_at_both_ends_and_in_between_and_the_best_step_is_saved(
    tmp_path: Path,
) -> None:
    figures = {0: 5.0, 2: 1.0, 4: 3.0, 5: 2.0}
    trial = Trial(
        tmp_path,
        save_every=None,
        evaluate=lambda step: {"objective": figures[step]},
        evaluate_every=2,
    )
    end = trial.train()
    assert [(line["step"], line["objective"]) for line in trial.lines("held_out")] == [
        *figures.items()
    ]
    assert (end.best_step, end.best_value) == (2, 1.0)
    assert [json.loads(saved[0])["step"] for saved in trial.saved] == [2, 5]


def test_a_held_out_value_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    figures = {0: math.nan, 2: 3.0, 4: math.nan, 5: None}
    trial = Trial(tmp_path, evaluate=lambda step: {"objective": figures[step]}, evaluate_every=2)
    end = trial.train()
    assert (end.best_step, end.best_value) == (2, 3.0)


def test_a_run_that_is_asked_to_stop_saves_the_step_it_is_at(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    trial = Trial(tmp_path, save_every=None, should_stop=lambda: next(asked))
    assert trial.train().step == 3
    assert [json.loads(saved[0])["step"] for saved in trial.saved] == [3]


def test_a_finished_run_that_goes_on_does_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    end = trial.train()
    trial.saved.clear()
    assert trial.train(end) == end
    assert trial.saved == []


def test_what_is_counted_is_what_the_rows_hold(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    end = trial.train()
    rows = trial.pair.rows
    assert len(rows) == 4
    # Steps of 3 + 1 rows, of the reverse 3 + 1, and of the first 3 again.
    read = [*rows, *rows, *rows[:3]]
    assert end.num_bytes == sum(row.counts.num_bytes for row in read)
    assert end.num_teacher_tokens == sum(len(row.teacher.ids) for row in read)
    assert end.num_student_tokens == sum(len(row.student.ids) for row in read)


def test_steps_end_where_an_epoch_does_and_go_on_from_any_place() -> None:
    rows = epochs_of(byte_pair().rows)
    steps = [step for step, _ in zip(rows.steps(DataPlace(), 3), range(6), strict=False)]
    assert [step.numbers for step in steps] == [(0, 1, 2), (3,)] * 3
    for place in range(5):
        again = rows.steps(steps[place].behind, 3)
        for expected in steps[place + 1 :]:
            found = next(again)
            assert found.numbers == expected.numbers
            assert [row.pieces for row in found.rows] == [row.pieces for row in expected.rows]
            assert found.behind == expected.behind
    assert rows.num_steps(3, 3) == 6
    assert rows.num_steps(3, 4) == 3


def test_data_without_rows_is_one_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        next(epochs_of(()).steps(DataPlace(Position(2)), 3))
    assert str(caught.value) == "text.txt: no text to make training rows of"


def test_every_process_takes_as_many_passes_and_every_row_counts_once() -> None:
    pair = byte_pair()
    for num_rows in range(1, 5):
        for num_processes in (1, 2, 3):
            for rows_per_pass in (1, 2):
                step = StepRows(pair.rows[:num_rows], tuple(range(num_rows)), DataPlace())
                dealt = [
                    make_passes(
                        step,
                        rows_per_pass,
                        torch.device("cpu"),
                        rank=rank,
                        num_processes=num_processes,
                    )
                    for rank in range(num_processes)
                ]
                assert len({len(passes) for passes in dealt}) == 1
                counting = [
                    number
                    for passes in dealt
                    for one in passes
                    if bool(one.batch.hidden_mask.any())
                    for number in one.row_numbers
                ]
                assert sorted(counting) == list(range(num_rows))


def poisoned(trial: Trial, token: int) -> None:
    """Make the student's embedding of a token no number."""
    with torch.no_grad():
        trial.pair.student_model.model.embed_tokens.weight[token] = math.nan


def test_a_loss_that_is_no_number_stops_the_run_names_the_row_and_changes_nothing(
    tmp_path: Path,
) -> None:
    trial = Trial(tmp_path)
    row = trial.pair.rows[2]
    others = {int(i) for n, one in enumerate(trial.pair.rows) if n != 2 for i in one.student.ids}
    poisoned(trial, next(int(i) for i in row.student.ids if int(i) not in others))
    before = deepcopy(trial.pair.student_model.state_dict())
    with pytest.raises(NotFiniteError) as caught:
        trial.train()
    documents = ", ".join(map(str, row.documents))
    noun = "document" if len(set(row.documents)) == 1 else "documents"
    assert str(caught.value) == (
        "step 1: loss alm is not a finite number, in row 2 of this epoch"
        f" ({noun} {documents} of the data); nothing was saved over the last checkpoint; train into"
        " another --output with a lower learning rate, or leave the document out"
    )
    assert trial.saved == []
    for name, values in trial.pair.student_model.state_dict().items():
        assert torch.equal(values.nan_to_num(9), before[name].nan_to_num(9)), name


def test_a_gradient_that_is_no_number_stops_the_run_and_changes_nothing() -> None:
    pair = byte_pair()
    stepper = stepper_of(pair, (SftConfig(),))
    before = deepcopy(pair.student_model.state_dict())
    handle = pair.student_model.model.norm.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(NotFiniteError) as caught:
        stepper.step(passes_of(pair.rows[:2], 1), 1e-3)
    handle.remove()
    assert str(caught.value) == (
        "the gradient is not a finite number, of rows 0, 1 of this epoch (documents 0, 1 of the"
        " data)"
    )
    for name, values in pair.student_model.state_dict().items():
        assert torch.equal(values, before[name]), name
