"""Which parts of two definitions must agree before scores are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compared_scores import refusal, run

from suite.results.comparability import Difference, check_comparable, differences
from suite.results.scored import Scored

DEFINITION = {"doc_to_text": "Q: {{q}}", "filters": "[]", "arguments of acc": "none"}


def defined(model: str = "new", *, prompts: Sequence[str] | None = None, **parts: Any) -> Scored:
    """A run whose task's definition has other parts."""
    return run(model=model, prompts=prompts, task_definition=DEFINITION | parts)


def test_the_part_of_a_definition_that_differs_is_named() -> None:
    assert refusal(defined(), defined("old", filters="[1]")) == (
        "arc: new and old were not measured alike (filters: [] against [1]); evaluate both in the"
        " same way"
    )


def test_what_prompts_were_made_of_is_not_asked_where_all_are_known_and_agree() -> None:
    first, second = defined(), defined("old", doc_to_text="def f(doc):\n    return doc['q']")
    assert differences(first, second) == ()
    # Here one prompt is not told.
    second = defined("old", prompts=["", *[f"prompt {i}" for i in (2, 3, 4)]], doc_to_text="A")
    assert "(doc_to_text: Q: {{q}} against A)" in refusal(first, second, shared_items=True)


def test_what_prompts_were_made_of_is_told_where_they_differ() -> None:
    prompts = ["another", *[f"prompt {i}" for i in (2, 3, 4)]]
    first, second = defined(), defined("old", prompts=prompts, doc_to_text="A")
    assert "(doc_to_text: Q: {{q}} against A; prompts of 1 of 4" in refusal(first, second)
    left, _, _ = check_comparable(first, second, shared_items=True)
    assert len(left) == 3


def test_a_delimiter_counts_where_options_are_measured() -> None:
    first, second = (
        run(model=name, task_definition={"target_delimiter": text})
        for name, text in (("new", " "), ("old", ""))
    )
    assert differences(first, second) == ()
    first, second = (
        replace(side, score=replace(side.score, metric="acc_norm")) for side in (first, second)
    )
    assert [found.what for found in differences(first, second)] == ["target_delimiter"]


def test_only_the_shown_metrics_arguments_count() -> None:
    other = {"arguments of f1": "x"}
    assert differences(defined(), defined("old", **other)) == ()
    second = defined("old", **{"arguments of acc": '{"ignore_case": true}'})
    assert differences(defined(), second) == (
        Difference("arguments of acc", "none", '{"ignore_case": true}'),
    )


def test_which_data_was_used_counts_only_without_items() -> None:
    first, second = run(split="test"), run(model="old", split="validation")
    assert differences(first, second) == ()
    second = replace(second, items=None, tables=())
    assert differences(first, second) == (Difference("split", "test", "validation"),)


def test_opposite_directions_are_refused() -> None:
    first, second = run(), run(model="old")
    second = replace(second, score=replace(second.score, higher_is_better=False))
    assert differences(first, second) == (Difference("which is better", "more", "less"),)
