"""Training steps against a plain script, and against themselves cut in another way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from trained_tokenizers import opened
from training_oracle import Heard, PlainTrainer, mean_square, say
from training_stage import (
    Pair,
    byte_pair,
    gemma_teacher_pair,
    gradients_of,
    passes_of,
    rows_between,
    same_pair,
    stepper_of,
    subword_pair,
)

from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossConfig
from suite.distill.losses.hidden_state import HiddenStateConfig
from suite.distill.losses.sft import SftConfig
from suite.distill.step import StepFigures, Stepper
from suite.pipelines.training_models import mean_squares

ALM, SFT, HIDDEN = AlmConfig(), SftConfig(), HiddenStateConfig()
TOLERANCE = 1e-5
RATE = 1e-3


def hear(pair: Pair) -> list[Heard]:
    """The teacher's signal of each row, after a look at how it was rounded."""
    teacher, heard = pair.teacher(), []
    for number, row in enumerate(pair.rows):
        with torch.no_grad():
            said = say(deepcopy(pair.teacher_model).double(), opened(pair.families[0]), row.teacher)
        given = teacher.signal(passes_of([row], 1)[0].batch.teacher, [number]).log_probs
        kept = []
        for exact, stored in ((said.token, given.token[0]), (said.boundary, given.boundary[0])):
            # The nearest float16, where sums in float32 may decide a tie.
            kept.append([])
            for one, other in zip(map(float, exact), stored.tolist(), strict=True):
                step = max(2.0 ** (math.frexp(other)[1] - 11), 2.0**-24)
                assert math.isnan(one) or abs(one - other) <= 0.5 * step + 1e-5 * abs(other)
                kept[-1].append(one if math.isnan(one) else other)
        heard.append(Heard(*kept, said.hidden))
    return heard


def plain_trainer(
    pair: Pair, losses: Sequence[LossConfig], heard: Sequence[Heard], balance: str
) -> PlainTrainer:
    sizes = pair.teacher_model.config.hidden_size, pair.student_model.config.hidden_size
    is_projected = any(getattr(loss, "projection", False) for loss in losses)
    return PlainTrainer(
        pair.student_model,
        opened(pair.families[1]),
        losses,
        balance=balance,
        mean_square=mean_square(pair.rows, [one.hidden for one in heard]),
        projection=torch.eye(*sizes).double().requires_grad_() if is_projected else None,
    )


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Between two gradients, as a share of the norm of the second one."""
    assert found.keys() <= expected.keys()
    gap = size = 0.0
    for name, values in expected.items():
        own = found[name].double() if name in found else torch.zeros_like(values)
        gap += float((own - values).square().sum())
        size += float(values.square().sum())
    return math.sqrt(gap / size)


def test_the_normaliser_of_hidden_states_is_that_of_the_first_64_rows():
    pair = byte_pair()
    hidden = [one.hidden for one in hear(pair)]
    expected = mean_square(pair.rows, hidden)
    # 64 rows are these four again and again; what follows them is left out.
    rows = [*pair.rows * 16, *pair.rows[:1] * 5]
    assert mean_square(rows, hidden * 17) == pytest.approx(expected)
    for rows_per_pass in (3, 64, 100):
        found = mean_squares(pair.teacher(), rows, rows_per_pass)
        assert found.tolist() == pytest.approx(expected, rel=TOLERANCE)


CASES: list[tuple[Callable[[], Pair], tuple[LossConfig, ...], str]] = [
    (byte_pair, (ALM,), "fixed"),
    (byte_pair, (SFT,), "fixed"),
    (byte_pair, (HIDDEN,), "fixed"),
    (byte_pair, (AlmConfig(weight=0.5), SftConfig(weight=2.0), HIDDEN), "fixed"),
    (byte_pair, (ALM, SFT, HIDDEN), "gradmag"),
    (subword_pair, (AlmConfig(binarization_temperature=5, merge=False),), "fixed"),
    (subword_pair, (AlmConfig(gamma=0.4), SFT), "gradmag"),
    (gemma_teacher_pair, (AlmConfig(append=False), HIDDEN), "fixed"),
    (gemma_teacher_pair, (ALM, HIDDEN), "gradmag"),
]


@pytest.mark.parametrize(
    ("make", "losses", "balance"),
    CASES,
    ids=[
        f"{make.__name__}-{'+'.join(one.name for one in losses)}-{balance}"
        for make, losses, balance in CASES
    ],
)
def test_two_steps_are_those_of_a_plain_script(make, losses, balance):
    check_two_steps(make(), losses, balance)


def test_a_projection_learns_as_in_a_plain_script():
    check_two_steps(byte_pair(teacher_width=48), (HiddenStateConfig(projection=True), ALM), "fixed")


def check_two_steps(pair: Pair, losses: Sequence[LossConfig], balance: str) -> None:
    heard = hear(pair)
    plain = plain_trainer(pair, losses, heard, balance)
    stepper = stepper_of(pair, losses, balance=balance, mean_square=plain.mean_square, clipping=0.5)
    figures = None
    for _ in range(2):
        with gradients_of(stepper) as found:
            figures = step_with(stepper, pair, 2, figures)
        expected = plain.step(pair.rows, heard, learning_rate=RATE, clipping=0.5)
        assert distance(found, expected) < TOLERANCE
        terms = plain.found
        assert figures.counts == {name: term.count for name, term in terms.items()}
        means = {name: float(term.sum.detach()) / term.count for name, term in terms.items()}
        assert figures.losses == pytest.approx(means, rel=TOLERANCE)
        assert figures.weights == pytest.approx(plain.weights, rel=TOLERANCE)
        assert figures.gradient_norm == pytest.approx(plain.gradient_norm, rel=TOLERANCE)
        assert figures.learning_rate == RATE
        if balance == "gradmag":
            assert figures.gradient_norms == pytest.approx(plain.norms, rel=TOLERANCE)
            assert sum(figures.weights.values()) == pytest.approx(1)
    for name, values in plain.model.named_parameters():
        # AdamW moves an entry by its sign: one whose gradient is rounding may go either way.
        own = dict(pair.student_model.named_parameters())[name].double()
        assert (own - values).abs().mean() < 0.01 * RATE


def step_with(
    stepper: Stepper, pair: Pair, rows_per_pass: int, last: StepFigures | None = None
) -> StepFigures:
    """A step over all rows of a pair, behind another one."""
    return stepper.step(
        passes_of(pair.rows, rows_per_pass),
        RATE,
        norms=None if last is None else last.gradient_norms,
        weights=None if last is None else last.weights,
    )


@pytest.mark.parametrize("balance", ["fixed", "gradmag"])
def test_one_pass_of_four_rows_is_four_passes_of_one(balance):
    found = []
    for rows_per_pass in (4, 1):
        pair = byte_pair()
        pair = Pair(pair.teacher_model, pair.student_model, pair.families, pair.rows[:4])
        square = [1.0] * 32
        stepper = stepper_of(pair, (ALM, SFT, HIDDEN), balance=balance, mean_square=square)
        first = step_with(stepper, pair, rows_per_pass)
        second = step_with(stepper, pair, rows_per_pass, first)
        found.append((first, second, pair.student_model.state_dict()))
    (first, second, weights), (own_first, own_second, own_weights) = found
    for one, other in ((first, own_first), (second, own_second)):
        assert one.counts == other.counts
        assert other.losses == pytest.approx(one.losses, rel=TOLERANCE)
        assert other.weights == pytest.approx(one.weights, rel=TOLERANCE)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=TOLERANCE)
    gap = sum(float((weights[n] - own_weights[n]).double().square().sum()) for n in weights)
    size = sum(float(weights[n].double().square().sum()) for n in weights)
    assert math.sqrt(gap / size) < TOLERANCE


def test_rows_of_prompts_alone_have_no_groups_and_train_nothing():
    pair = byte_pair(all_prompt=True)
    stepper = stepper_of(pair, (ALM, SFT))
    before = deepcopy(pair.student_model.state_dict())
    figures = step_with(stepper, pair, 2)
    assert figures.counts == {"alm": 0, "sft": 0}
    assert figures.losses == {"alm": None, "sft": None}
    assert figures.gradient_norm == 0
    for name, values in pair.student_model.state_dict().items():
        assert torch.equal(values, before[name])


@pytest.mark.parametrize("balance", ["fixed", "gradmag"])
def test_a_loss_without_groups_changes_nothing_beside_another_one(balance):
    pair = byte_pair(all_prompt=True)
    trained = []
    for losses in ((ALM, HIDDEN), (HIDDEN,)):
        student = deepcopy(pair.student_model)
        own = Pair(pair.teacher_model, student, pair.families, pair.rows)
        stepper = stepper_of(own, losses, balance=balance, mean_square=[1.0] * 32)
        figures = step_with(stepper, own, 2)
        figures = step_with(stepper, own, 2, figures)
        if len(losses) == 2:
            assert figures.losses["alm"] is None
            if balance == "gradmag":
                assert figures.gradient_norms["alm"] == 0
                assert figures.weights == {"alm": 0.5, "hidden_state": 0.5}
        trained.append(student.state_dict())
    # AdamW does not see a factor, but for its epsilon.
    for name, values in trained[0].items():
        assert (values - trained[1][name]).abs().mean() < 0.01 * RATE, name


def test_prompts_are_left_out_of_the_counts():
    families = "byte-level", "bytes:byte-level"
    rows = rows_between(*families)
    whole = byte_pair()
    figures = step_with(stepper_of(whole, (SFT,)), whole, 2)
    completions = sum(int(row.student.loss_mask.sum()) for row in rows)
    assert figures.counts["sft"] == completions
    assert completions < sum(len(row.student.ids) for row in rows)


def test_under_bfloat16_a_small_learning_rate_changes_float32_weights():
    pair = byte_pair()
    stepper = stepper_of(pair, (ALM,), autocast=torch.bfloat16)
    before = deepcopy(pair.student_model.state_dict())
    stepper.step(passes_of(pair.rows, 4), 1e-5)
    after = pair.student_model.state_dict()
    for name, values in after.items():
        assert values.dtype == torch.float32
        assert not torch.equal(values, before[name]), name


def test_a_model_that_teaches_itself_has_no_loss():
    pair = same_pair()
    figures = step_with(stepper_of(pair, (ALM,)), pair, 2)
    assert figures.counts["alm"] > 10
    assert 0 <= figures.losses["alm"] < 1e-6


def test_one_step_down_the_gradient_brings_a_perturbed_copy_nearer():
    pair = same_pair()
    weight = pair.student_model.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        weight += 1e-2 * weight.norm() / noise.norm() * noise
    heard = hear(pair)
    stepper = stepper_of(pair, (ALM,))
    stepper.optimiser = torch.optim.SGD(pair.student_model.parameters())
    found = []
    for _ in range(2):
        term = plain_trainer(pair, (ALM,), heard, "fixed").terms(pair.rows, heard)["alm"]
        found.append((float(term.sum.detach()), term.distance))
        stepper.step(passes_of(pair.rows, 4), 1e-4)
    (loss, apart), (later_loss, later_apart) = found
    assert 0 < later_loss < loss
    assert 0 < later_apart < apart
