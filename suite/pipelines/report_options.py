"""What a report of existing runs is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.stats.resamples import SEED

Style = Literal["paper", "delta", "regression"]


@dataclass(frozen=True)
class ReportOptions:
    """The runs to show, and how.

    Attributes:
        runs: Folders and results files.
        output: Folder of the report.
        reference: The model that others are compared with.
        style: Scores as in papers, differences from the reference, or verdicts task by task.
        teacher: What transferred models are measured by; the reference where it is None.
        start: What they began as.
        groups: (model, section) where a run's record does not tell.
        metrics: (task, metric or metric,filter) instead of the task's first.
        tasks: To show only these.
        models: To show only these, in this order.
        renames: (old, new) names of models.
        clusters: (task, field of its items) whose equal values make a cluster.
        level: Nominal coverage of intervals.
        margin: The smallest difference that matters to a verdict, in the metric's unit.
        published: Name of a packaged table.
        title: Of the report.
        shared_items: Compare runs of different item sets on what both have.
        all_runs: Show older runs of the same model and task as well.
        max_flips: Items in the page's browser.
        seed: Of the resamples.
        series: Of checkpoints, whose curves the page shows.
        store: Where the series are.
        fidelity: Files of `suite fidelity` that the page shows.
        use_cache: Read items through the index.
    """

    runs: tuple[Path, ...]
    output: Path
    reference: str | None = None
    style: Style = "paper"
    teacher: str | None = None
    start: str | None = None
    groups: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, str], ...] = ()
    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    clusters: tuple[tuple[str, str], ...] = ()
    level: float = 0.95
    margin: float = 0.02
    published: str | None = None
    title: str = "Results"
    shared_items: bool = False
    all_runs: bool = False
    max_flips: int = 5_000
    seed: int = SEED
    series: tuple[str, ...] = ()
    store: Path = Path("track")
    fidelity: tuple[Path, ...] = ()
    use_cache: bool = True
