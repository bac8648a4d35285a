"""One model's runs against another's: every task both have, joined item by item and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.errors import ConfigError, NotComparableError, RecordError, near_names
from suite.pipelines.compared_tasks import TestedTask, adjusted, average, tested_task
from suite.records import MetricScore, RunRecord
from suite.report.compare_record import Comparisons, Side
from suite.results.importer import load_runs, scored
from suite.results.index import ResultsIndex
from suite.results.results_file import leaves, read_results
from suite.results.scored import Scored
from suite.stats.compare import Test


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and how.

    Attributes:
        first: Folder or results file of the model that is subtracted.
        second: Folder or results file of the model in question.
        first_model: Its name, where `first` holds several.
        second_model: Its name, where `second` holds several.
        tasks: Labels; all that both have where it is empty.
        metric: By default each task's first.
        filter_name: By default the first that the metric has.
        shared_items: Join what both share where item sets or single prompts differ.
        level: Coverage of intervals; tests are made at 1 - level.
        test: "auto" chooses by the kind of metric.
        seed: Of the resamples.
    """

    first: Path
    second: Path
    first_model: str | None = None
    second_model: str | None = None
    tasks: tuple[str, ...] = ()
    metric: str | None = None
    filter_name: str | None = None
    shared_items: bool = False
    level: float = 0.95
    test: Test = "auto"
    seed: int = 0


@dataclass(frozen=True)
class _Runs:
    """The runs of one model by label."""

    model: str
    path: Path
    by_label: Mapping[str, RunRecord]
    notes: tuple[str, ...]


def compare_runs(options: CompareOptions) -> Comparisons:
    """Compare two models on every task both have.

    Raises:
        ConfigError: A path, model, task or metric that is not there, or a level outside 0-1.
        RecordError: No results file of a folder is readable.
        NotComparableError: Tasks that were not measured alike; names every difference of each.
    """
    if not 0 < options.level < 1:
        raise ConfigError(f"--level is {options.level:g}; give a number between 0 and 1, as 0.95")
    same_model = options.first_model == options.second_model
    if same_model and options.first.resolve() == options.second.resolve():
        raise ConfigError(
            f"{options.first} is given twice; give another run, or two of its models with --model-a"
            " and --model-b"
        )
    first = _runs(options.first, options.first_model, "--model-a")
    second = _runs(options.second, options.second_model, "--model-b")
    labels = _shared_labels(first, second, options.tasks)
    with ResultsIndex.open() as index:
        found = {
            label: _pair(first.by_label[label], second.by_label[label], options, index)
            for label in labels
        }
    pairs, notes = _chosen(found, first, second, options)
    tested = _tested(pairs, options)
    alone = [label for label in pairs if _is_made_of_others(label, pairs)]
    if alone:
        notes.append(
            "not part of the average, having no items while the single tasks have: "
            + "; ".join(alone)
        )
    return Comparisons(
        first=Side(first.model, str(first.path)),
        second=Side(second.model, str(second.path)),
        tasks=adjusted(tested, options.level),
        average=average([one for one in tested if one.task.label not in alone], options.level),
        level=options.level,
        test=options.test,
        seed=options.seed,
        notes=(*first.notes, *second.notes, *notes, *(n for one in tested for n in one.notes)),
    )


def _runs(path: Path, model: str | None, option: str) -> _Runs:
    loaded = load_runs([path])
    models = sorted({record.model for record in loaded.records})
    if model is None and len(models) > 1:
        raise ConfigError(
            f"{path}: holds {len(models)} models, so give {option}: {'; '.join(models)}"
        )
    chosen = models[0] if model is None else model
    if chosen not in models:
        raise ConfigError(f"{option} {chosen!r}: not in {path}; {near_names(chosen, models)}")
    runs = {record.label: record for record in loaded.records if record.model == chosen}
    return _Runs(chosen, path, runs, loaded.notes)


def _shared_labels(first: _Runs, second: _Runs, wanted: Sequence[str]) -> tuple[str, ...]:
    shared = tuple(label for label in first.by_label if label in second.by_label)
    if not shared:
        told = (f"{side.path}: {'; '.join(side.by_label)}" for side in (first, second))
        raise ConfigError(f"no task was run by both models ({'; '.join(told)}); run one with both")
    for label in wanted:
        if label not in shared:
            raise ConfigError(
                f"--task {label!r}: not run by both models; {near_names(label, shared)}"
            )
    return tuple(label for label in shared if not wanted or label in wanted)


def _pair(
    first: RunRecord, second: RunRecord, options: CompareOptions, index: ResultsIndex
) -> tuple[Scored, Scored] | None:
    """Both runs under the metric asked for, or under the first's own; None where one has none."""
    left = _pick(first, options.metric, options.filter_name)
    if left is None:
        return None
    right = _pick(second, left.metric, options.filter_name or left.filter)
    if right is None and options.filter_name is None:
        # The filters differ: the guard says so.
        right = _pick(second, left.metric, None)
    if right is None and options.metric is None:
        right = _pick(second, None, options.filter_name)
    if right is None:
        return None
    return _scored(first, left, index), _scored(second, right, index)


def _pick(record: RunRecord, metric: str | None, filter_name: str | None) -> MetricScore | None:
    fits = (
        score
        for score in record.task.scores
        if metric in (None, score.metric) and filter_name in (None, score.filter)
    )
    return next(fits, None)


def _scored(record: RunRecord, score: MetricScore, index: ResultsIndex) -> Scored:
    wanted = f"{score.metric},{score.filter}"
    try:
        found = scored(record, wanted, index.tables(record))
    except RecordError as error:
        # The aggregate still stands, and the note says what is wrong with the items.
        return Scored(record, score, None, str(error))
    assert found is not None, "the score was picked from this run"
    return found


def _chosen(
    found: Mapping[str, tuple[Scored, Scored] | None],
    first: _Runs,
    second: _Runs,
    options: CompareOptions,
) -> tuple[dict[str, tuple[Scored, Scored]], list[str]]:
    """The pairs to be compared, and a sentence for each kind of task that is not."""
    pairs = {label: pair for label, pair in found.items() if pair is not None}
    score = " and ".join(
        f"{option} {value}"
        for option, value in (("--metric", options.metric), ("--filter", options.filter_name))
        if value is not None
    )
    lacking = [label for label in found if label not in pairs]
    if lacking and (options.tasks or not pairs):
        runs = [side.by_label[lacking[0]] for side in (first, second)]
        known = sorted({f"{s.metric},{s.filter}" for run in runs for s in run.task.scores})
        raise ConfigError(
            f"{score or 'a score'}: not known to both models on {lacking[0]}; known:"
            f" {'; '.join(known) or 'none'}"
        )
    notes = [f"not compared, because one of the models lacks {score}: {'; '.join(lacking)}"] * bool(
        lacking
    )
    dropped = [label for label in _covered(pairs) if label not in options.tasks]
    if dropped:
        notes.append(f"not compared on their own, being part of a group: {'; '.join(dropped)}")
    for side, other in ((first, second), (second, first)):
        alone = [label for label in side.by_label if label not in other.by_label]
        if alone and not options.tasks:
            notes.append(f"not compared, found only in {side.path}: {'; '.join(alone)}")
    return {label: pair for label, pair in pairs.items() if label not in dropped}, notes


def _covered(pairs: Mapping[str, tuple[Scored, Scored]]) -> list[str]:
    """The labels whose items are all among those of another one that is compared as well.

    A group without items covers nothing that has some.
    """
    spans = {label: _span(pair[0].record) for label, pair in pairs.items()}
    paired = {label for label, pair in pairs.items() if all(one.items is not None for one in pair)}
    order = list(pairs)

    def is_inside(label: str, other: str) -> bool:
        if label in paired and other not in paired:
            return False
        if spans[label] != spans[other]:
            return spans[label] < spans[other]
        task, group = (pairs[one][0].record.task.task for one in (label, other))
        if task == group:
            # A recipe that names one task twice wants both.
            return False
        singles = {name for name, *_ in spans[label]}
        return task in singles or (group not in singles and order.index(label) > order.index(other))

    return [label for label in pairs if any(is_inside(label, other) for other in pairs)]


def _span(record: RunRecord) -> frozenset[tuple[str, str, str]]:
    """The single tasks behind a run's score, samples or not, each with how it was asked."""
    assert record.file is not None, "runs were read from files"
    below = read_results(Path(record.file)).get("group_subtasks") or {}
    shots, template = record.conditions.get("shots"), str(record.conditions.get("chat template"))
    return frozenset(
        (leaf, str(shots.get(leaf) if isinstance(shots, Mapping) else shots), template)
        for leaf in leaves(record.task.task, below)
    )


def _is_made_of_others(label: str, pairs: Mapping[str, tuple[Scored, Scored]]) -> bool:
    """Whether a task without items shares single tasks with another one, whose items are known."""
    if all(one.items is not None for one in pairs[label]):
        return False
    own = _span(pairs[label][0].record)
    return any(
        other != label
        and all(one.items is not None for one in pair)
        and bool(own & _span(pair[0].record))
        for other, pair in pairs.items()
    )


def _tested(
    pairs: Mapping[str, tuple[Scored, Scored]], options: CompareOptions
) -> tuple[TestedTask, ...]:
    tested, refused = [], []
    for first, second in pairs.values():
        try:
            tested.append(
                tested_task(
                    first,
                    second,
                    level=options.level,
                    test=options.test,
                    seed=options.seed,
                    shared_items=options.shared_items,
                    num_tests=len(pairs),
                )
            )
        except NotComparableError as error:
            refused.append(str(error))
    if len(refused) == 1:
        raise NotComparableError(refused[0])
    if refused:
        told = "".join(f"\n  {sentence}" for sentence in refused)
        raise NotComparableError(
            f"{len(refused)} of {len(pairs)} tasks were not measured alike, so nothing is compared;"
            f" mend them or name the others with --task:{told}"
        )
    return tuple(tested)
