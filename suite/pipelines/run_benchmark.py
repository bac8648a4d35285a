"""`suite run-benchmark`: every row on its tasks, one pair at a time, then one table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from suite.ensemble.config import EnsembleEntry
from suite.errors import ConfigError, SuiteError
from suite.harness.tasks import TaskCatalog
from suite.pipelines.benchmark_report import write_benchmark_report
from suite.pipelines.jobs import score_in_processes
from suite.pipelines.members import weights_text
from suite.pipelines.plan import check_recipe
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_log import noise_to
from suite.pipelines.scoring import collect_unit, score_unit
from suite.pipelines.session import RunOptions, Session
from suite.pipelines.work import Work, plan_work
from suite.progress import RunProgress
from suite.records import Failure, ModelRow, Table
from suite.results.importer import load_results

__all__ = ["BenchmarkResult", "RunOptions", "run_benchmark"]


@dataclass(frozen=True)
class BenchmarkResult:
    """The table, the pairs that failed, and the files written.

    Of several processes the first has it; the others have no table and no files.
    """

    table: Table | None
    failures: tuple[Failure, ...]
    files: tuple[Path, ...]
    num_scored: int
    num_skipped: int
    num_pairs: int


def run_benchmark(
    recipe: Recipe, options: RunOptions, *, console: Console | None = None
) -> BenchmarkResult:
    """Score all pairs that are not finished, write the report, and return it.

    A pair that fails is reported and leaves the others alone. After a kill, the same call goes on
    with the pairs that are left.

    Raises:
        SuiteError: Recipe, models or tasks are wrong, or the output folder cannot be used; nothing
            was scored.
    """
    ranks = Ranks.of_environment()
    served = any(model.source.lm_eval is not None for model in recipe.all_models)
    ranks.check(recipe.backend, has_served_models=served, jobs=options.jobs)
    catalog = TaskCatalog(recipe.task_folders)
    tasks = check_recipe(recipe, catalog, confirm_unsafe_code=options.confirm_unsafe_code)
    work = plan_work(recipe, tasks, catalog)
    with ExitStack() as stack:
        terminal = stack.enter_context(_only_run(options.output, ranks))
        progress = RunProgress(console or terminal, work.num_jobs)
        stack.enter_context(progress)
        finished = ranks.from_first(lambda: _finished_keys(options))
        session = Session(recipe, tasks, catalog, options, progress, ranks, finished)
        if options.jobs > 1:
            _score_side_by_side(work, session)
        else:
            for unit in work.units:
                score_unit(unit, session)
        return _result(recipe, work, session)


def _score_side_by_side(work: Work, session: Session) -> None:
    """Have other processes score all pairs, and note what is on disk afterwards."""
    output, before = session.options.output, frozenset(session.finished)
    old = {run.file for run in load_results(output)}
    failures = score_in_processes(work, session)
    # With --fresh, what was there before does not stand for what a process did not finish.
    session.finished |= {run.key for run in load_results(output) if run.file not in old}
    for unit in work.units:
        collect_unit(unit, session, failures)
    outcome = session.outcome
    outcome.num_scored = sum(key not in before for key in outcome.keys.values())
    outcome.num_skipped -= outcome.num_scored


def _result(recipe: Recipe, work: Work, session: Session) -> BenchmarkResult:
    """The report of a run, which the first process writes."""
    outcome = session.outcome
    scored, skipped, pairs = (
        outcome.num_scored,
        outcome.num_skipped,
        work.num_jobs + work.num_derived,
    )
    if not session.ranks.is_first:
        return BenchmarkResult(None, tuple(outcome.failures), (), scored, skipped, pairs)
    table, files, failures = write_benchmark_report(
        recipe, work, _rows(session), outcome=outcome, output=session.options.output
    )
    return BenchmarkResult(table, failures, files, scored, skipped, pairs)


def _rows(session: Session) -> list[ModelRow]:
    """What the table says about each row; a model that was not found shows its source."""
    rows = []
    for entry in session.recipe.models:
        if isinstance(entry, EnsembleEntry):
            weights = weights_text(entry)
        else:
            try:
                weights = session.plan(entry).weights
            except Exception:  # reported with its pairs
                weights = str(entry.source)
        rows.append(ModelRow(entry.name, weights, entry.name == session.recipe.reference))
    return rows


def _finished_keys(options: RunOptions) -> set[str]:
    return set() if options.fresh else {run.key for run in load_results(options.output)}


@contextmanager
def _only_run(output: Path, ranks: Ranks) -> Iterator[Console]:
    """The output folder for this run alone; libraries' noise goes into its log.

    Of several processes the first holds the folder, and only its console speaks.
    """
    error = None
    with ExitStack() as stack:
        try:
            if ranks.is_first:
                _check_writable(output)
                stack.enter_context(_OnlyRunIn(output))
        except SuiteError as raised:
            error = raised
        ranks.raise_together(error)
        terminal = stack.enter_context(noise_to(output / "run.log"))
        if ranks.is_first:
            yield Console(file=terminal)
        else:
            silent = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            yield Console(file=silent)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), (folder / "run.log").open("a"):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot write to {folder} ({reason}); give another --output") from error


class _OnlyRunIn:
    """Holds a folder's lock, so that two runs never write one report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = FileLock(folder / ".lock")

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise SuiteError(
                f"another run is writing to {self.folder}; wait for it or give another --output"
            ) from error

    def __exit__(self, *details: object) -> None:
        self.lock.release()
