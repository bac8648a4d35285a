"""What `suite fidelity` measured as rows of a report's page."""

from __future__ import annotations

from collections.abc import Iterator

from suite.records import Estimate
from suite.report.fidelity_record import FidelityRecord, Role
from suite.report.page_data import FidelityRow


def fidelity_rows(record: FidelityRecord) -> tuple[FidelityRow, ...]:
    """All tasks together and the text, one row a measure and model."""
    return (*_of_answers(record), *_of_text(record))


def _of_answers(record: FidelityRecord) -> Iterator[FidelityRow]:
    for role, own in record.overall.own.items():
        yield _row("accuracy", role, own.accuracy)
        yield _row("calibration error (ECE)", role, own.calibration_error)
        yield _row("Brier score", role, own.brier_score)
    for role, found in record.overall.versus_teacher.items():
        yield _row("agreement with the teacher", role, found.agreement)
        yield _row("correlation of the options", role, found.option_correlation)
        yield _row("correlation of the margins", role, found.margin_correlation)
        yield _row("probability loyalty", role, found.probability_loyalty)
        if found.recovered is not None:
            yield _row("share of the gap recovered", role, found.recovered)


def _of_text(record: FidelityRecord) -> Iterator[FidelityRow]:
    for role, bits in record.text.bits_per_byte.items():
        yield FidelityRow(f"bits per byte, {role}", bits)
    for role, found in record.text.versus_teacher.items():
        yield FidelityRow(f"ALM divergence, {role}", found.divergence)
        yield FidelityRow(f"mean |t - s| in nats, {role}", found.mean_distance)
        yield FidelityRow(f"correlation of groups, {role}", found.rank_correlation)


def _row(measure: str, role: Role, found: Estimate) -> FidelityRow:
    return FidelityRow(f"{measure}, {role}", found.value, found.low, found.high)
