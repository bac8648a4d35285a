"""The samples files of one run as columns, as texts, and as features of tokenisation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from suite.errors import ConfigError, RecordError
from suite.records import RunRecord, Sample
from suite.results.chosen import LENGTHS, chosen_option
from suite.results.item_table import ItemTable
from suite.results.numbers import number
from suite.results.passages import passage_field
from suite.results.results_file import features_files, leaves, read_results, samples_files
from suite.results.sample_lines import (
    Line,
    item_hash,
    metric_names,
    option_likelihoods,
    read_lines,
    requests_of,
)
from suite.results.sample_texts import sample_of
from suite.results.task_definition import metric_entries

ReadT = TypeVar("ReadT")

FEATURES = ("num_bytes", "num_tokens", "num_boundary_splits", "num_digits", "num_non_ascii")

# Metrics that are a ratio of sums over items: [log-likelihood, weight] an item.
_RATIOS = frozenset({"bits_per_byte", "byte_perplexity", "word_perplexity"})
_ODD_LINES = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
_RATIO_AGGREGATIONS = frozenset({"bits_per_byte", "weighted_perplexity"})


@dataclass(frozen=True)
class SamplesFile:
    """The logged items of one single task of a run.

    `filters` are the task's in lm-eval's order, `ratios` its metrics that are a ratio of sums.
    """

    task: str
    path: Path
    filters: tuple[str, ...]
    ratios: frozenset[str]
    config: dict[str, Any]

    def read(
        self, convert: Callable[[Line], ReadT], filter_name: str | None = None
    ) -> Iterator[ReadT]:
        """What `convert` makes of each item under one filter, or under all.

        Raises:
            RecordError: The file is damaged.
        """
        for line in read_lines(self.path, self.filters):
            if filter_name in (None, line["filter"]):
                try:
                    yield convert(line)
                except _ODD_LINES as error:
                    raise RecordError(
                        f"{self.path}: item {line['doc_id']} is not in the form that lm-eval writes"
                        f" ({type(error).__name__}: {error}); evaluate the task again"
                    ) from error


def open_samples(record: RunRecord) -> tuple[SamplesFile, ...]:
    """The samples files of a run's single tasks, in lm-eval's order; empty without any.

    Raises:
        RecordError: The results file cannot be read any more.
    """
    if record.file is None:
        return ()
    file = Path(record.file)
    data = read_results(file)
    paths = samples_files(file, leaves(record.task.task, data.get("group_subtasks") or {}))
    configs = data.get("configs") or {}
    return tuple(
        SamplesFile(
            task,
            path,
            _filters(data["results"].get(task) or {}),
            _ratios(configs.get(task) or {}),
            configs.get(task) or {},
        )
        for task, path in paths.items()
    )


def is_group(record: RunRecord, files: Sequence[SamplesFile] | Sequence[ItemTable]) -> bool:
    """Whether a run's items belong to other tasks than the one it is named after."""
    return any(file.task != record.task.task for file in files)


def group_key(task: str, key: bytes) -> bytes:
    """An item's key among those of a group: single tasks may hold the same items."""
    return task.encode() + b"\0" + key


def _filters(block: dict[str, Any]) -> tuple[str, ...]:
    names = (name.partition(",")[2] for name in block)
    return tuple(dict.fromkeys(name for name in names if name)) or ("none",)


def _ratios(config: dict[str, Any]) -> frozenset[str]:
    return _RATIOS | {
        str(entry.get("metric"))
        for entry in metric_entries(config)
        if str(entry.get("aggregation")) in _RATIO_AGGREGATIONS
    }


def read_item_tables(
    record: RunRecord, *, cluster_field: str | None = None
) -> tuple[ItemTable, ...]:
    """The items of all single tasks of a run under all filters, () where no samples were written.

    Args:
        record: The run.
        cluster_field: The field of an item whose text tells which items belong together; by default
            the passage of tasks known to have one.

    Raises:
        RecordError: A file is damaged.
        ConfigError: An item lacks the field.
    """
    tables: list[ItemTable] = []
    for file in open_samples(record):
        passages = cluster_field or passage_field(file.task)
        columns: dict[str, _Columns] = {}
        make = partial(_Columns, file, passages, cluster_field is not None)
        for _ in file.read(partial(_add, columns, make)):
            pass
        tables += (found.table(name) for name, found in columns.items())
    return tuple(tables)


def _add(columns: dict[str, _Columns], make: Callable[[], _Columns], line: Line) -> None:
    name = line["filter"]
    if name not in columns:
        columns[name] = make()
    columns[name].add(line)


@dataclass
class _Columns:
    """The columns of one table while its file is read."""

    file: SamplesFile
    passage: str | None
    is_asked: bool
    doc_ids: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    prompts: list[bytes] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    weights: dict[str, list[float]] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)
    by_length: dict[str, list[bytes]] = field(default_factory=dict)
    confidence: list[float] = field(default_factory=list)
    clusters: list[bytes] = field(default_factory=list)

    def add(self, line: Line) -> None:
        """One more item."""
        requests = requests_of(line)
        num_before = len(self.doc_ids)
        self.doc_ids.append(line["doc_id"])
        self.hashes.append(item_hash(line, self.file.path))
        self.prompts.append(_hash_of_prompts(requests))
        options = option_likelihoods(line)
        answer, confidence = _answer(line, requests, options)
        self.answers.append(answer)
        self.confidence.append(confidence)
        if self.passage is not None:
            self.clusters.append(self._cluster(line))
        for name in metric_names(line):
            value = line[name]
            if name in LENGTHS:
                column = self.by_length.setdefault(name, [])
                column += [b""] * (num_before - len(column))
                column.append(self._answer_by_length(requests, options, name))
            if name in self.file.ratios and type(value) is list and len(value) == 2:
                value, weight = value
                _append(self.weights, name, _float(weight), num_before)
            _append(self.metrics, name, _float(value), num_before)

    def _answer_by_length(
        self, requests: list[list[Any]], likelihoods: list[float] | None, metric: str
    ) -> bytes:
        """Empty where options stand in the prompts: lengths of what follows say nothing."""
        if likelihoods is None or any(x != x for x in likelihoods):
            return b""
        delimiter = str(self.file.config.get("target_delimiter", " "))
        options = [
            str(request[1]).removeprefix(delimiter)
            for request in requests[: len(likelihoods)]
            if len(request) > 1
        ]
        if len(options) < len(likelihoods) or len(set(options)) == 1:
            return b""
        return _option_digest(chosen_option(likelihoods, options, metric))

    def _cluster(self, line: Line) -> bytes:
        doc = line.get("doc")
        text = doc.get(self.passage) if isinstance(doc, dict) else None
        if text is None and self.is_asked:
            known = ", ".join(sorted(doc)) if isinstance(doc, dict) else "none"
            raise ConfigError(
                f"{self.file.path}: item {line['doc_id']} has no field '{self.passage}' to cluster"
                f" by; its fields: {known}"
            )
        # An item without a passage stands for itself.
        return _digest(str(text)) if text is not None else _digest(f"item {line['doc_id']}")

    def table(self, filter_name: str) -> ItemTable:
        """The finished table, sorted by key."""
        doc_ids = np.array(self.doc_ids, dtype=np.int64)
        keys = unique_keys(self.hashes, self.doc_ids)
        order = np.argsort(keys)
        num = len(keys)

        def numbers(values: list[float]) -> NDArray[np.float64]:
            column = np.full(num, math.nan)
            column[: len(values)] = values
            return column[order]

        def answers(values: list[bytes]) -> NDArray[np.bytes_]:
            return np.array(values + [b""] * (num - len(values)), dtype="S32")[order]

        has_clusters = bool(self.clusters) and len(set(self.clusters)) < num
        return ItemTable(
            task=self.file.task,
            filter=filter_name,
            keys=keys[order],
            doc_ids=doc_ids[order],
            prompts=np.array(self.prompts, dtype="S32")[order],
            metrics={name: numbers(values) for name, values in self.metrics.items()},
            weights={name: numbers(values) for name, values in self.weights.items()},
            answers=answers(self.answers),
            answers_by_length={name: answers(values) for name, values in self.by_length.items()},
            confidence=np.array(self.confidence, dtype=np.float64)[order],
            clusters=np.array(self.clusters, dtype="S32")[order] if has_clusters else None,
        )


def _append(columns: dict[str, list[float]], name: str, value: float, position: int) -> None:
    """Set a column's value at a position; what was left out before has no number."""
    column = columns.setdefault(name, [])
    if len(column) < position:
        column += [math.nan] * (position - len(column))
    column.append(value)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    found = number(value)
    return math.nan if found is None else found


def _digest(text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


@lru_cache(maxsize=64)
def _option_digest(option: int) -> bytes:
    return _digest(str(option))


def _hash_of_prompts(requests: list[list[Any]]) -> bytes:
    if not requests:
        return b""
    # What follows a prompt in a request for text are settings: facts of the run, not of the item.
    return _digest(
        "\0".join([text for request in requests for text in request if type(text) is str])
    )


def _answer(
    line: Line, requests: list[list[Any]], options: list[float] | None
) -> tuple[bytes, float]:
    """Hash of the answer, and probability of the chosen option."""
    if len(requests) == 1 and len(requests[0]) > 1 and type(requests[0][1]) is dict:
        answers = line.get("filtered_resps") or [""]
        return _digest(str(answers[0] if len(answers) == 1 else answers)), math.nan
    if options is None or any(option != option for option in options):
        return b"", math.nan
    best = max(options)
    return _option_digest(options.index(best)), 1 / sum(math.exp(x - best) for x in options)


def unique_keys(hashes: Sequence[str], doc_ids: Sequence[int]) -> NDArray[np.bytes_]:
    """Keys of items in their own order, with `#2`, `#3` ... for items that are equal."""
    if len(set(hashes)) == len(hashes):
        return np.array(hashes, dtype="S36")
    counts: dict[str, int] = {}
    keys = list(hashes)
    for position in sorted(range(len(keys)), key=doc_ids.__getitem__):
        found = hashes[position]
        counts[found] = counts.get(found, 0) + 1
        if counts[found] > 1:
            keys[position] = f"{found}#{counts[found]}"
    return np.array(keys, dtype=f"S{max(36, *map(len, keys))}")


def iterate_texts(record: RunRecord, filter_name: str) -> Iterator[tuple[bytes, Sample]]:
    """Each item's key, as `ItemScores` has it, and its texts, which are untrusted.

    Raises:
        RecordError: A file is damaged.
    """
    files = open_samples(record)
    for file in files:

        def read(line: Line, path: Path = file.path) -> tuple[str, int, Sample]:
            return item_hash(line, path), line["doc_id"], sample_of(record, line)

        found = list(file.read(read, filter_name))
        keys = item_keys(record, files, file.task, [(key, doc_id) for key, doc_id, _ in found])
        yield from zip(keys, (sample for *_, sample in found), strict=True)


def item_keys(
    record: RunRecord,
    files: Sequence[SamplesFile],
    task: str,
    items: Sequence[tuple[str, int]],
) -> list[bytes]:
    """The keys, as `ItemScores` has them, of a task's items given by hash and number."""
    keys: list[bytes] = unique_keys([key for key, _ in items], [i for _, i in items]).tolist()
    return [group_key(task, key) for key in keys] if is_group(record, files) else keys


def read_features(record: RunRecord) -> dict[bytes, dict[str, int]]:
    """Counts over each item's text (`FEATURES`) by its key, as far as the run has written them.

    Raises:
        RecordError: A file is damaged.
    """
    files = open_samples(record)
    if record.file is None or not files:
        return {}
    paths = features_files(Path(record.file), [file.task for file in files])
    features: dict[bytes, dict[str, int]] = {}
    for task, path in paths.items():
        rows = list(_feature_rows(path))
        items = [(item_hash(row, path), int(row["doc_id"])) for row in rows]
        for key, row in zip(item_keys(record, files, task, items), rows, strict=True):
            features[key] = {name: int(row[name]) for name in FEATURES if name in row}
    return features


def _feature_rows(path: Path) -> Iterable[Line]:
    with path.open("rb") as lines:
        for position, text in enumerate(lines, 1):
            try:
                row = json.loads(text)
                row["doc_id"]
            except (ValueError, KeyError, TypeError) as error:
                raise RecordError(
                    f"{path}: line {position} is not a readable row of features; evaluate the task"
                    " again"
                ) from error
            yield row
