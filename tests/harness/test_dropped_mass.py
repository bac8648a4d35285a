"""What an ensemble's results say of the mass that its members do not share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_requests import ensemble, member, pairs, prompts

from suite.harness.ensemble_backend import KeptStore, SuiteEnsembleLM
from suite.harness.ensemble_scores import DroppedMass
from suite.harness.opening import OpenedModel

RULES = ["mean_probs", "mean_log_probs", "sequence_mixture"]
PROMPT, ANSWERS = "Question", [" four", " five"]


@pytest.fixture
def members(tiny_model: Path, tiny_model_bos: Path) -> list[OpenedModel]:
    return [member(tiny_model, "plain"), member(tiny_model_bos, "begun")]


def masses(own: OpenedModel) -> torch.Tensor:
    """Probability of the begin and the padding token before each token of the answers."""
    found = []
    for answer in ANSWERS:
        before, ids = own.text.encode(PROMPT), own.text.encode(answer, False)
        with torch.no_grad():
            rows = own.member.model(torch.tensor([before + ids])).logits[0].softmax(-1)
        found.append(rows[len(before) - 1 : -1][:, [256, 258]].sum(1))
    return torch.cat(found)


def facts(backend: SuiteEnsembleLM) -> Any:
    return backend.get_model_info()["ensemble"]["dropped_mass"]


@pytest.mark.parametrize("combine", RULES)
@pytest.mark.parametrize("renormalise", [False, True])
def test_dropped_mass_is_that_of_scored_tokens_whoever_ran_them(
    members: list[OpenedModel], combine: str, renormalise: bool
) -> None:
    store = KeptStore(with_contexts=True)
    asked = pairs([(PROMPT, answer) for answer in ANSWERS])
    for _ in range(2):
        backend = ensemble(members, combine, store=store, renormalise=renormalise)
        backend.loglikelihood([*asked, asked[0]])
        for own in members:
            dropped = facts(backend)[own.member.name]
            assert dropped["mean"] == pytest.approx(float(masses(own).mean()), abs=1e-6)
            assert dropped["max"] == pytest.approx(float(masses(own).max()), abs=1e-6)


def test_a_member_of_weight_0_and_generated_tokens_drop_nothing(members: list[OpenedModel]) -> None:
    backend = ensemble(members, "mean_probs", weights=(1.0, 0.0), store=KeptStore())
    backend.generate_until(prompts(["a"]))
    assert facts(backend) == {"plain": None, "begun": None}
    backend.loglikelihood(pairs([(PROMPT, ANSWERS[0])]))
    assert facts(backend)["begun"] is None


def test_nothing_is_known_of_what_mined_members_drop(members: list[OpenedModel]) -> None:
    backend = ensemble(members, "mined")
    backend.loglikelihood(pairs([(PROMPT, ANSWERS[0])]))
    assert facts(backend) is None


def test_ranks_drop_together() -> None:
    ranks = [DroppedMass(2), DroppedMass(2)]
    ranks[0].add([0, 1], torch.tensor([[0.1, 0.2], [0.5, 0.3]]).log())
    ranks[1].add([1], torch.tensor([[0.7]]).log())
    whole = torch.stack([own.totals for own in ranks])
    ranks[0].share(lambda own: whole)
    assert ranks[0].facts(["a", "b"]) == {
        "a": {"mean": pytest.approx(0.15), "max": pytest.approx(0.2)},
        "b": {"mean": pytest.approx(0.5), "max": pytest.approx(0.7)},
    }
