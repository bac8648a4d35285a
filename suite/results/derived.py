"""Scores that follow from the logged samples of other runs: votes, ceilings and the best member.

Nothing is scored again. A row is derived for metrics that are a mean over items; an answer that
wins a vote has the value it has in the runs that gave it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from suite.errors import RecordError
from suite.records import MetricScore
from suite.results.chosen import LENGTHS, chosen_option
from suite.results.numbers import number

# How far the mean over items may be from the reported value: sums in another order.
TOLERANCE = 1e-9


class NotDerivableError(RecordError):
    """A score that the samples of other runs do not decide; the message says why."""


@dataclass(frozen=True)
class Item:
    """One scored item.

    `answer` is what votes are counted by: the chosen option's number, or the text after the task's
    filter; None where the item has no answer (a likelihood of one text). `value` is the item's
    value of the metric, None where that is no number.
    """

    answer: str | None
    value: float | None


# By task, position in the task, and lm-eval's hash of the item.
Items = dict[tuple[str, int, str], Item]


def item_of(sample: dict[str, Any], metric: str, delimiter: str) -> Item:
    """Answer and value of one logged sample of lm-eval, as it stands in a samples file.

    Args:
        sample: The line's keys.
        metric: Which metric; `acc_norm` and `acc_bytes` choose by likelihood per character or byte.
        delimiter: What stands between prompt and option; it is no part of an option's length.
    """
    value = sample.get(metric)
    known = number(value) if isinstance(value, int | float) else None
    return Item(_answer(sample, metric, delimiter), known)


def _answer(sample: dict[str, Any], metric: str, delimiter: str) -> str | None:
    requests = list(sample["arguments"].values())
    if isinstance(requests[0].get("arg_1"), dict):
        answers = sample["filtered_resps"]
        return str(answers[0] if len(answers) == 1 else answers)
    options = [str(request.get("arg_1", "")).removeprefix(delimiter) for request in requests]
    if len(options) == 1:
        return None
    # Where options stand in the prompts the continuations are all alike, and so are their lengths.
    if metric in LENGTHS and len(set(options)) == 1:
        return None
    likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
    return str(chosen_option(likelihoods, options, metric))


def majority_vote(members: Sequence[Items], ranking: Sequence[int]) -> list[float]:
    """Each item's value for the answer that most members give.

    Args:
        members: The same items of each member.
        ranking: The members' indices, the better first: among answers with equally many votes, the
            one wins that the best-ranked of their voters gives.

    Returns:
        One value an item.

    Raises:
        NotDerivableError: The members differ in their items, have no answers, or score one answer
            differently.
    """
    values = []
    for votes in _by_item(members):
        if any(vote.answer is None for vote in votes):
            raise NotDerivableError("the members give no answers that could be counted")
        by_answer: dict[str | None, list[int]] = {}
        for member in ranking:
            by_answer.setdefault(votes[member].answer, []).append(member)
        for voters in by_answer.values():
            if len({votes[voter].value for voter in voters}) > 1:
                raise NotDerivableError("one answer is scored differently by the members")
        # The first of the largest: answers stand in the order of their best voter.
        winners = max(by_answer.values(), key=len)
        values.append(_value(votes[winners[0]]))
    return values


def any_member_correct(members: Sequence[Items], *, higher_is_better: bool) -> list[float]:
    """Each item's best value among the members: what an ideal choice for each item would reach.

    Raises:
        NotDerivableError: The members differ in their items.
    """
    best = max if higher_is_better else min
    return [best(_value(item) for item in items) for items in _by_item(members)]


def mean_score(values: Sequence[float], like: MetricScore) -> MetricScore:
    """The mean over items with its standard error, under the names of `like`."""
    num = len(values)
    stderr = statistics.stdev(values) / math.sqrt(num) if num > 1 else None
    mean = math.fsum(values) / num
    return MetricScore(like.metric, like.filter, mean, stderr, like.higher_is_better)


def check_is_mean(items: Items, score: MetricScore) -> None:
    """Check that a reported score is the mean of its items' values.

    Raises:
        NotDerivableError: It is not; another aggregate of a vote cannot be told from items.
    """
    values = [item.value for item in items.values()]
    known = [value for value in values if value is not None]
    is_mean = (
        score.value is not None
        and len(known) == len(values) > 0
        and abs(math.fsum(known) / len(known) - score.value) <= TOLERANCE
    )
    if not is_mean:
        raise NotDerivableError(f"{score.metric} is not the mean of a value for each item")


def ranked(scores: Sequence[MetricScore]) -> list[int]:
    """The members' indices, the better first; equals stay in order.

    Raises:
        NotDerivableError: A score is missing, or it is unknown whether more is better.
    """
    values = []
    for score in scores:
        if score.value is None or not math.isfinite(score.value):
            raise NotDerivableError(f"a member has no value of {score.metric} to be chosen by")
        if score.higher_is_better is None:
            raise NotDerivableError(f"whether more of {score.metric} is better is not known")
        values.append(-score.value if score.higher_is_better else score.value)
    return sorted(range(len(values)), key=values.__getitem__)


def _by_item(members: Sequence[Items]) -> list[list[Item]]:
    """For each item, what every member made of it, in the order of the first member's items."""
    first = members[0]
    if any(member.keys() != first.keys() for member in members):
        raise NotDerivableError("the members were not scored on the same items")
    return [[member[key] for member in members] for key in first]


def _value(item: Item) -> float:
    assert item.value is not None, "check_is_mean comes first"
    return item.value
