"""The words and numbers of a comparison, the same in every rendering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suite.records import Comparison, Estimate
from suite.report.compare_record import ComparedAverage, ComparedTask, Comparisons, outcome_of
from suite.report.formatting import MISSING, format_delta, format_score

SMALLEST_P = 1e-4


@dataclass(frozen=True)
class CompareLine:
    """One task as text: each cell is one or more lines, the first of which counts most."""

    task: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...]
    difference: tuple[str, ...]
    p_value: tuple[str, ...]
    items: tuple[str, ...]
    outcome: tuple[str, ...]

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """All cells, in the order of `header`."""
        return (
            self.task,
            self.first,
            self.second,
            self.difference,
            self.p_value,
            self.items,
            self.outcome,
        )


def title(found: Comparisons) -> str:
    """Which model is compared with which."""
    first, second = model_names(found)
    return f"{second} compared with {first}"


def model_names(found: Comparisons) -> tuple[str, str]:
    """The two models' names, told apart by their folders where they are the same."""
    first, second = found.first, found.second
    if first.model != second.model:
        return first.model, second.model
    return f"{first.model} ({first.path})", f"{second.model} ({second.path})"


def header(found: Comparisons) -> tuple[tuple[str, ...], ...]:
    """The columns' names, in lines as in `CompareLine`."""
    first, second = model_names(found)
    return (
        ("Task",),
        ("A", first),
        ("B", second),
        ("B − A",),
        ("p", "Holm"),
        ("B better, worse", "same answers"),
        ("Finding",),
    )


def lines(found: Comparisons) -> tuple[CompareLine, ...]:
    """One line a task, and one for the average."""
    tasks = [_task_line(task, found.level) for task in found.tasks]
    average = [_average_line(found.average, found.level)] if found.average is not None else []
    return (*tasks, *average)


def _task_line(task: ComparedTask, level: float) -> CompareLine:
    percent, comparison = task.unit_interval, task.comparison
    arrow = {True: " ↑", False: " ↓", None: ""}[task.higher_is_better]
    metric = task.metric + " %" * percent
    named = (metric if task.filter in {"", "none"} else f"{metric}, {task.filter}") + arrow
    size = () if task.n is None else (f"n={task.n:,}",)
    items: tuple[str, ...] = (MISSING,)
    if comparison.num_better is not None and comparison.num_worse is not None:
        items = (f"{comparison.num_better:,}, {comparison.num_worse:,}",)
    if task.agreement.value is not None:
        items += (f"{format_score(task.agreement.value, percent=True)} %",)
    return CompareLine(
        task=(task.label, named, *size),
        first=_score(task.first, percent=percent),
        second=_score(task.second, percent=percent),
        difference=_difference(comparison.difference, percent=percent),
        p_value=(format_p(comparison.p_value), format_p(comparison.p_adjusted)),
        items=items,
        outcome=_outcome(
            comparison, level, higher_is_better=task.higher_is_better, percent=percent
        ),
    )


def _average_line(average: ComparedAverage, level: float) -> CompareLine:
    comparison = average.comparison
    return CompareLine(
        task=("Average", "%", f"{len(average.labels)} tasks"),
        first=_score(average.first, percent=True),
        second=_score(average.second, percent=True),
        difference=_difference(comparison.difference, percent=True),
        p_value=(format_p(comparison.p_value),),
        items=(MISSING,),
        outcome=_outcome(comparison, level, higher_is_better=True, percent=True),
    )


def _score(estimate: Estimate, *, percent: bool) -> tuple[str, ...]:
    interval = format_limits(estimate, percent=percent)
    return (format_score(estimate.value, percent=percent), *[interval] * bool(interval))


def _difference(estimate: Estimate, *, percent: bool) -> tuple[str, ...]:
    interval = format_limits(estimate, percent=percent, signed=True)
    value = format_delta(estimate.value, percent=percent) or MISSING
    return (value, *[interval] * bool(interval))


def format_limits(estimate: Estimate, *, percent: bool, signed: bool = False) -> str:
    """`43.1 to 47.5`, nothing without an interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    shown = format_delta if signed else format_score
    return f"{shown(estimate.low, percent=percent)} to {shown(estimate.high, percent=percent)}"


def format_p(p_value: float | None) -> str:
    """A p-value with two digits that count, `<0.0001` below that."""
    if p_value is None:
        return MISSING
    if p_value < SMALLEST_P:
        return f"<{SMALLEST_P:.4f}"
    return f"{p_value:.4f}" if p_value < 0.01 else f"{p_value:.3f}"


def _outcome(
    comparison: Comparison, level: float, *, higher_is_better: bool | None, percent: bool
) -> tuple[str, ...]:
    found = outcome_of(comparison, higher_is_better=higher_is_better, level=level)
    if found != "no difference":
        return (found,)
    if comparison.mde is None:
        return (found, "MDE unknown")
    return (found, f"MDE {format_score(comparison.mde, percent=percent)}")


def legend(found: Comparisons) -> tuple[str, ...]:
    """How to read the numbers, one sentence each."""
    level = f"{100 * found.level:g} %"
    num_tested = sum(task.comparison.p_value is not None for task in found.tasks)
    told = [f"B − A with its {level} interval; ↑ more is better, ↓ less is better."]
    told += [
        f"p is two-sided, below it Holm's correction over {num_tested} tested"
        f" task{'s' * (num_tested != 1)}, by which findings go at {1 - found.level:.2g}."
    ] * bool(num_tested)
    told += [
        "MDE: the smallest true difference that the test finds with 80 % power at the level that"
        " Holm left for the task; a smaller one may be there."
    ] * any("no difference" in line.outcome for line in lines(found))
    told += [f"Tests: {'; '.join(_tests(found.tasks))}."] * bool(num_tested)
    if found.average is not None:
        told.append(
            "Average: plain mean of the tasks in percent, items drawn within fixed tasks"
            f" ({found.average.comparison.test}); not in Holm's family."
        )
    return tuple(told)


def _tests(tasks: Sequence[ComparedTask]) -> list[str]:
    by_test: dict[str, list[str]] = {}
    for task in tasks:
        if task.comparison.p_value is not None:
            by_test.setdefault(task.comparison.test, []).append(task.label)
    if len(by_test) == 1:
        return list(by_test)
    return [f"{test} ({', '.join(labels)})" for test, labels in by_test.items()]


def reasons(found: Comparisons) -> tuple[str, ...]:
    """Why something is a dash or has no interval, one sentence a task and reason."""
    told = []
    for task in found.tasks:
        for reason in (
            task.comparison.reason,
            task.comparison.difference.reason,
            task.first.reason,
            task.second.reason,
            task.agreement.reason,
        ):
            told += [f"{task.label}: {reason}"] * bool(reason)
    if found.average is not None:
        comparison = found.average.comparison
        for reason in (comparison.reason, found.average.first.reason, found.average.second.reason):
            told += [f"Average: {reason}"] * bool(reason)
    return tuple(dict.fromkeys(told))
