"""Log-likelihoods of the answer options, for rank correlations and calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from suite.records import RunRecord
from suite.results.numbers import number
from suite.results.sample_lines import Line, item_hash, option_likelihoods, requests_of
from suite.results.sample_texts import options_of
from suite.results.samples_file import SamplesFile, item_keys, open_samples


@dataclass(frozen=True, eq=False)
class Choices:
    """The n items of a run that are a choice among options.

    Attributes:
        keys: `[n]` bytes, unique and sorted, as in `ItemScores`.
        log_likelihoods: One float64 array an item, one value an option, in nats.
        correct: int64 `[n]`, the right option's number; -1 where it is not known.
        num_unusable: Further items that are left out, since a likelihood is no number or all are
            minus infinity.
    """

    keys: NDArray[np.bytes_]
    log_likelihoods: tuple[NDArray[np.float64], ...]
    correct: NDArray[np.int64]
    num_unusable: int = 0


def read_choices(record: RunRecord, filter_name: str) -> Choices | None:
    """The options of a run's items under one filter; None where no item is a choice.

    Raises:
        RecordError: A samples file is damaged.
    """
    files = open_samples(record)
    keys: list[bytes] = []
    likelihoods: list[NDArray[np.float64]] = []
    correct: list[int] = []
    num_unusable = 0
    for file in files:
        found = list(file.read(partial(_read, file), filter_name))
        # Equal items are numbered, so all of them count for the keys.
        names = item_keys(record, files, file.task, [item for item, *_ in found])
        for key, (_, options, right) in zip(names, found, strict=True):
            if options is not None and not _are_usable(options):
                num_unusable += 1
            elif options is not None:
                keys.append(key)
                likelihoods.append(np.array(options))
                correct.append(right)
    if not keys:
        return None
    sorted_keys = np.array(keys)
    order = np.argsort(sorted_keys)
    return Choices(
        keys=sorted_keys[order],
        log_likelihoods=tuple(likelihoods[position] for position in order),
        correct=np.array(correct, dtype=np.int64)[order],
        num_unusable=num_unusable,
    )


def _are_usable(likelihoods: Sequence[float]) -> bool:
    return not any(math.isnan(x) for x in likelihoods) and math.isfinite(max(likelihoods))


def _read(file: SamplesFile, line: Line) -> tuple[tuple[str, int], list[float] | None, int]:
    """An item's hash and number, its options, and the right one."""
    options = option_likelihoods(line)
    right = -1 if options is None else correct_option(line, options)
    return (item_hash(line, file.path), line["doc_id"]), options, right


def correct_option(line: Line, likelihoods: Sequence[float]) -> int:
    """The right option's number, -1 where the line does not tell.

    The target is its number or its text. Where `acc` was scored it must agree, since a task may
    log another target than it scores; between two options it decides alone.
    """
    chosen = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    acc = number(line.get("acc")) if not isinstance(line.get("acc"), list) else None
    if acc == 1:
        return chosen
    told = _told_option(line, len(likelihoods))
    if acc == 0:
        if len(likelihoods) == 2:
            return 1 - chosen
        return -1 if told == chosen else told
    return told


def _told_option(line: Line, num_options: int) -> int:
    target = str(line.get("target", "")).strip()
    if target.isdecimal() and int(target) < num_options:
        return int(target)
    _, options = options_of(requests_of(line), num_options)
    return options.index(target) if options.count(target) == 1 else -1
