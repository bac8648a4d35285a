"""What a model card says of a run: figures with units and their text, and whose terms apply."""

from __future__ import annotations

from typing import Any

import pytest

from suite.distill.state import TrainingState
from suite.pipelines.export_card import CardInputs, model_card
from suite.report.model_card import ModelCard

FIGURES = {
    "step": 20,
    "num_groups": 1234,
    "mean_distance": 0.5,
    "rank_correlation": None,
    "loss": 0.25,
    "student_bits_per_byte": 1.5,
    "teacher_bits_per_byte": 1.25,
}
MEASURED = (
    ("step", "20"),
    ("groups", "1,234"),
    ("mean |t - s| (nats a group)", "0.5"),
    ("loss (mean a group)", "0.25"),
    ("student bits per byte", "1.5"),
    ("teacher bits per byte", "1.25"),
)


def card(**facts: Any) -> ModelCard:
    return model_card(CardInputs(facts, TrainingState(), "float32", None, "", "out"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ({"path": "/home/me/held.txt", "split": "train", "skip": 0}, "held.txt (local)"),
        (
            {"hub": "org/name", "split": "train", "limit": 64},
            "hub:org/name (split train, limit 64)",
        ),
        ({"packaged": "python-docs", "skip": 55}, "packaged:python-docs (skip 55)"),
    ],
)
def test_figures_have_units_and_name_their_text(text: dict[str, Any], shown: str) -> None:
    found = card(figures=FIGURES, recipe={"evaluation": {"data": text}}).figures
    assert found == (("held-out text", shown), *MEASURED)


def test_without_held_out_text_none_is_named() -> None:
    recipe = {"evaluation": {"data": None}}
    assert card(figures={}, recipe=recipe).figures == ()
    assert card(figures=FIGURES, recipe=recipe).figures == MEASURED


def test_bytes_are_no_model_with_terms() -> None:
    (terms,) = card(sources={"model": "hub:org/name", "tokenizer": "bytes"}).licence
    assert terms == (
        "The terms of every model that this one was made from or taught by apply to it:"
        " hub:org/name."
    )
