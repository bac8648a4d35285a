"""What a fidelity record becomes on a report's page."""

from __future__ import annotations

from suite.records import Estimate
from suite.report.fidelity_record import (
    FidelityModel,
    FidelityRecord,
    OwnFigures,
    TaskFidelity,
    TeacherFigures,
    TextFidelity,
    TextVersus,
)
from suite.report.fidelity_rows import fidelity_rows
from suite.report.page_data import FidelityRow


def _known(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1, 0.95, 100, "t")


def test_every_measure_of_every_model_is_a_row_and_what_is_unknown_stays_unknown() -> None:
    unknown = Estimate(None, None, None, 0.95, 0, "t", "one item")
    record = FidelityRecord(
        models=(FidelityModel("teacher", "path:a", "a"), FidelityModel("student", "path:b", "b")),
        overall=TaskFidelity(
            "all tasks",
            100,
            {"teacher": OwnFigures(_known(0.9), _known(0.2), _known(0.3))},
            {"student": TeacherFigures(_known(0.8), unknown, _known(0.6), _known(0.7))},
        ),
        tasks=(),
        text=TextFidelity(
            "a.txt",
            1,
            10,
            "kl",
            {"teacher": 1.5},
            {"student": TextVersus(4, 0.01, 0.5, None)},
        ),
    )
    assert fidelity_rows(record) == (
        FidelityRow("accuracy, teacher", 0.9, 0.8, 1.0),
        FidelityRow("calibration error (ECE), teacher", 0.2, 0.1, 0.30000000000000004),
        FidelityRow("Brier score, teacher", 0.3, 0.19999999999999998, 0.4),
        FidelityRow("agreement with the teacher, student", 0.8, 0.7000000000000001, 0.9),
        FidelityRow("correlation of the options, student", None),
        FidelityRow("correlation of the margins, student", 0.6, 0.5, 0.7),
        FidelityRow("probability loyalty, student", 0.7, 0.6, 0.7999999999999999),
        FidelityRow("bits per byte, teacher", 1.5),
        FidelityRow("ALM divergence, student", 0.01),
        FidelityRow("mean |t - s| in nats, student", 0.5),
        FidelityRow("correlation of groups, student", None),
    )
