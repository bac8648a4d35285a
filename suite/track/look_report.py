"""What one check found, as a record and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from suite.stats.verdict import Verdict
from suite.track.entries import SCHEMA_VERSION, place_from
from suite.track.history import LookTerms, terms_to_json
from suite.track.looks import Spending
from suite.track.regress import TaskResult, overall

PASSED, REGRESSED, INCONCLUSIVE = 0, 1, 3


@dataclass(frozen=True)
class LookReport:
    """One look at a checkpoint of a series.

    Attributes:
        series: The series.
        step: The checkpoint's step; None for a run that is not in the series.
        model: The checkpoint's model.
        run: Its folder.
        checkpoint: Fingerprint of its scores.
        pinned_model: The pinned run's model.
        pinned: Fingerprint of the pinned run's scores.
        look: The look's number; None where only planned looks are told.
        spending: How the error rate of all looks is shared.
        alpha: What this look spends.
        tasks: One result a task.
        notes: What else a reader should know, one sentence each.
        terms: What items add to each task's difference, by label, as later looks need it.
    """

    series: str
    step: int | None
    model: str
    run: str
    checkpoint: str
    pinned_model: str
    pinned: str
    look: int | None
    spending: Spending
    alpha: float
    tasks: tuple[TaskResult, ...]
    notes: tuple[str, ...] = ()
    terms: Mapping[str, LookTerms] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """One word for the look."""
        return overall([task.verdict for task in self.tasks])

    def exit_code(self, *, strict: bool) -> int:
        """0 pass or improved (or inconclusive, unless `strict`), 1 regressed, 3 inconclusive."""
        if self.verdict == "regressed":
            return REGRESSED
        return INCONCLUSIVE if strict and self.verdict == "inconclusive" else PASSED

    @property
    def title(self) -> str:
        """`series S, step 100: regressed`."""
        step = "" if self.step is None else f", step {self.step}"
        return f"series {self.series}{step}: {self.verdict}"

    @property
    def spent(self) -> str:
        """How much was spent on this look, as a sentence."""
        look = "One look" if self.look is None else f"Look {self.look}"
        planned = self.spending.planned_looks
        of_planned = "" if planned is None else f" of {planned} planned"
        num = len(self.tasks)
        among = "" if num == 1 else f", shared among {num} tasks by Holm's procedure"
        share = f"{self.alpha:.2g} of alpha {self.spending.alpha:g}"
        return f"{look}{of_planned} spends {share}{among}."


def report_to_json(report: LookReport, *, strict: bool) -> dict[str, Any]:
    """Plain data of a check, for programs."""
    return {
        "schema_version": SCHEMA_VERSION,
        "series": report.series,
        "step": report.step,
        "model": report.model,
        "run": report.run,
        "checkpoint": report.checkpoint,
        "pinned_model": report.pinned_model,
        "pinned": report.pinned,
        "look": report.look,
        "planned_looks": report.spending.planned_looks,
        "alpha": report.spending.alpha,
        "alpha_of_look": report.alpha,
        "verdict": report.verdict,
        "exit_code": report.exit_code(strict=strict),
        "tasks": [asdict(task) for task in report.tasks],
        "notes": list(report.notes),
    }


def report_for_store(report: LookReport, base: Path) -> dict[str, Any]:
    """Plain data of a check as it is kept, with what later looks need.

    A run below `base` is named from there, as in the entries.
    """
    terms = {label: terms_to_json(found) for label, found in report.terms.items()}
    data = report_to_json(report, strict=False)
    return {**data, "run": place_from(Path(report.run), base), "terms": terms}


def verdict_text(task: TaskResult) -> str:
    """`inconclusive (MDE = 0.0310)`: a verdict as it is printed."""
    if task.verdict != "inconclusive":
        return task.verdict
    return f"inconclusive (MDE = {number(task.mde)})"


def interval_text(task: TaskResult) -> str:
    """`-0.0210 [-0.0400, -0.0020]`: a difference with its interval, in the metric's unit."""
    if task.low is None or task.high is None:
        return f"{number(task.difference, sign=True)} (no interval)"
    low, high = number(task.low, sign=True), number(task.high, sign=True)
    return f"{number(task.difference, sign=True)} [{low}, {high}]"


def number(value: float | None, *, sign: bool = False) -> str:
    """Four decimals, two of what is large, two digits of what is tiny; a dash for the unknown."""
    if value is None:
        return "–"
    size = abs(value)
    kind = ".2f" if size >= 10 else ".4f" if size >= 1e-3 or size == 0 else ".1e"
    return f"{value:{'+' if sign else ''}{kind}}"


def sentence(task: TaskResult, report: LookReport) -> str:
    """What happened to one task, for a message in a log or a test report."""
    text = (
        f"{task.task} {task.metric}: {number(task.new)} against the pinned {number(task.pinned)},"
        f" difference {interval_text(task)} at level {task.level:.2g}, margin {task.margin:g},"
        f" {task.num_items} items: {verdict_text(task)}"
    )
    return ". ".join([text, *filter(None, [task.reason]), *task.flags]) + "."
