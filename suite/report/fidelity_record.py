"""How close a student is to its teacher: what `suite fidelity` measured, as its file holds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from suite.errors import RecordError
from suite.records import Estimate

SCHEMA_VERSION = 1

Role = Literal["teacher", "before", "student"]


@dataclass(frozen=True)
class FidelityModel:
    """One of the models: the teacher, the student before training, the student.

    `source` is what the user gave, `weights` which weights were read and in which dtype.
    """

    role: Role
    source: str
    weights: str


@dataclass(frozen=True)
class OwnFigures:
    """What one model's choices are worth by themselves, against the right options.

    Attributes:
        accuracy: Share of items whose most probable option is the right one.
        calibration_error: Expected calibration error of that option's probability, 0-1.
        brier_score: Of the probabilities of all options, 0-2.
    """

    accuracy: Estimate
    calibration_error: Estimate
    brier_score: Estimate


@dataclass(frozen=True)
class TeacherFigures:
    """How a model's choices compare with the teacher's on the same items.

    Attributes:
        agreement: Share of items on which both choose the same (label loyalty).
        option_correlation: Spearman's correlation of the options' log-likelihoods within an item,
            mean over items.
        margin_correlation: Spearman's correlation over items of the right option's log-likelihood
            minus that of the best other one; of all tasks together, the mean over tasks.
        probability_loyalty: 1 - sqrt(Jensen-Shannon divergence in bits) of the probabilities of the
            options, mean over items.
        recovered: Share of the gap between the student before training and the teacher, in
            accuracy, that is closed; None in a row of the student before training.
    """

    agreement: Estimate
    option_correlation: Estimate
    margin_correlation: Estimate
    probability_loyalty: Estimate
    recovered: Estimate | None = None


@dataclass(frozen=True)
class TaskFidelity:
    """One task, or all of them together.

    Attributes:
        label: Of the task, or `all tasks`.
        num_items: Items that all models have.
        own: By role.
        versus_teacher: By role, of all but the teacher.
    """

    label: str
    num_items: int
    own: dict[Role, OwnFigures]
    versus_teacher: dict[Role, TeacherFigures]


@dataclass(frozen=True)
class TextVersus:
    """A model against the teacher on groups of byte-aligned chunks, as the ALM loss makes them.

    Attributes:
        num_groups: Groups that count.
        divergence: Mean of the binarised divergence, a group.
        mean_distance: Mean of |t - s|, nats a group, of the groups' log-probabilities.
        rank_correlation: Spearman's, of s with t; None for fewer than 3 groups or where one side's
            are all equal.
    """

    num_groups: int
    divergence: float | None
    mean_distance: float | None
    rank_correlation: float | None


@dataclass(frozen=True)
class TextFidelity:
    """The models on one text.

    Attributes:
        place: Where the text is.
        num_documents: Read of it.
        num_bytes: Of these documents, as far as the teacher reads them.
        divergence: Which one, with its temperature.
        bits_per_byte: By role.
        versus_teacher: By role, of all but the teacher.
    """

    place: str
    num_documents: int
    num_bytes: int
    divergence: str
    bits_per_byte: dict[Role, float | None]
    versus_teacher: dict[Role, TextVersus]


@dataclass(frozen=True)
class FidelityRecord:
    """Everything that was measured.

    Attributes:
        models: The teacher first, the student last.
        overall: All tasks together.
        tasks: One by one.
        text: The models on a text.
        notes: What was left out and why, one sentence each.
        provenance: A heading and one line of text.
        schema_version: Of the file.
    """

    models: tuple[FidelityModel, ...]
    overall: TaskFidelity
    tasks: tuple[TaskFidelity, ...]
    text: TextFidelity
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def fidelity_json(record: FidelityRecord) -> str:
    """The file's text."""
    return json.dumps(asdict(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_fidelity(path: Path) -> FidelityRecord:
    """Read a `fidelity.json`.

    Raises:
        RecordError: It cannot be read, or another version wrote it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["schema_version"]
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be read ({error.strerror}); give a file that suite fidelity wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: not a readable file of suite fidelity ({error}); run the command again"
        ) from error
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: has schema version {version}, expected {SCHEMA_VERSION}; run suite fidelity"
            " again"
        )
    try:
        return TypeAdapter(FidelityRecord).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordError(
            f"{path}: {place} is damaged ({first['msg']}); run suite fidelity again"
        ) from error
