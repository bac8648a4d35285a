"""`--jobs N`: pairs side by side, each process with a device of its own."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any

from rich.console import Console

from suite.config import content_hash
from suite.errors import ConfigError
from suite.harness.tasks import TaskCatalog
from suite.pipelines.ranks import Ranks
from suite.pipelines.recipe import Recipe
from suite.pipelines.run_log import noise_to
from suite.pipelines.scoring import score_unit
from suite.pipelines.session import RunOptions, Session
from suite.pipelines.work import Job, Work, plan_work
from suite.progress import RunProgress
from suite.records import Failure

# How long to wait for a message before looking whether a process has ended.
_SECONDS_BETWEEN_LOOKS = 0.2


def score_in_processes(work: Work, session: Session) -> list[Failure]:
    """Score all pairs in `jobs` processes; returns the failures that they told of.

    Each takes the next pair that no other has taken, beginning with different models. Results are
    on disk afterwards.

    Raises:
        ConfigError: There are fewer devices than processes.
    """
    options = session.options
    devices = visible_devices(options.jobs)
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    with _claims_in(options.output) as claims:
        arguments = [
            (session.recipe, options, (number, devices[number]), claims, session.finished, messages)
            for number in range(options.jobs)
        ]
        workers = [context.Process(target=_work, args=given) for given in arguments]
        try:
            for worker in workers:
                worker.start()
            return _listen(messages, workers, session.progress)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.terminate()
                worker.join()


def visible_devices(jobs: int) -> list[str | None]:
    """For each process the CUDA device it sees; None where there are no accelerators.

    Raises:
        ConfigError: There are fewer devices than processes.
    """
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return [None] * jobs
    if count < jobs:
        raise ConfigError(f"--jobs is {jobs}, but there are only {count} CUDA devices; lower it")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(number) for number in range(count)]
    return list(names[:jobs])


def share_cores(jobs: int) -> None:
    """Compute in this process's share of the threads; with all of them each would slow the rest."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


@contextmanager
def _claims_in(output: Path) -> Iterator[Path]:
    """A folder in which a pair is taken by making a file."""
    folder = output / ".claims"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listen(messages: Any, workers: Sequence[Any], progress: RunProgress) -> list[Failure]:
    """Print what the processes say until all have ended."""
    failures: list[Failure] = []
    while True:
        is_over = not any(worker.is_alive() for worker in workers)
        with suppress(Empty):
            while True:
                message = messages.get(timeout=_SECONDS_BETWEEN_LOOKS)
                if isinstance(message, str):
                    progress.line(message)
                else:
                    failures += message
        if is_over:
            return failures


def _work(
    recipe: Recipe,
    options: RunOptions,
    place: tuple[int, str | None],
    claims: Path,
    finished: set[str],
    messages: Any,
) -> None:
    """One process: all units, beginning at its own, and of each the jobs that nobody took."""
    number, device = place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    if device is None:
        share_cores(options.jobs)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    with noise_to(options.output / "run.log"):
        catalog = TaskCatalog(recipe.task_folders)
        tasks = [catalog.plan(entry, confirm_unsafe_code=True) for entry in recipe.tasks]
        work = plan_work(recipe, tasks, catalog)
        console = Console(file=_Sent(messages, number), width=1000)
        progress = RunProgress(console, work.num_jobs)
        alone = Ranks(0, 1)
        session = Session(
            recipe, tasks, catalog, options, progress, alone, finished, claim=_Claim(claims)
        )
        start = number * len(work.units) // options.jobs
        for unit in (*work.units[start:], *work.units[:start]):
            score_unit(unit, session)
        messages.put(list(session.outcome.failures))


class _Claim:
    """Takes a job, unless another process has; ends this one where the run itself was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = os.getppid()

    def __call__(self, job: Job) -> bool:
        if os.getppid() != self.run:
            raise SystemExit
        name = content_hash([job.entry.name, job.label])
        try:
            (self.folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class _Sent(io.StringIO):
    """A text file whose lines are sent to the first process."""

    def __init__(self, messages: Any, number: int) -> None:
        super().__init__()
        self.messages = messages
        self.number = number

    def write(self, text: str) -> int:
        """Send each line of `text`."""
        for line in text.splitlines():
            if line.strip():
                self.messages.put(f"[process {self.number}] {line.strip()}")
        return len(text)
