"""The rows of `suite bench learning`, what they say, and the tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.report.formatting import MISSING
from suite.report.markdown import escape_markdown

ALM, SFT, PERMUTED = "alm", "sft", "alm_permuted"
CONTROLS = (SFT, PERMUTED)
# Of the control's mean distance.
AIM = 0.8

_LEGEND = (
    "Distance: mean |t - s| over the groups of held-out rows, nats a group; t is the teacher's"
    " log-probability of a group and s the student's. Rank correlation: Spearman's, of s with t.",
    "The three runs of a seed begin with the same student, read the same rows in the same order and"
    " take as many steps with the same optimiser; nothing but the loss differs. alm_permuted: ALM"
    " whose teacher values are permuted among the groups of a batch.",
    "The teacher learnt one part of the text, students learn from another, and the third part is"
    " held out. The teacher is trained once; a seed decides the order of the text.",
    f"Reached: after the last step ALM's rank correlation is higher than the control's, and its"
    f" distance at most {AIM:g} x the control's.",
)


@dataclass(frozen=True)
class LearningRow:
    """A student at a step.

    Attributes:
        recipe: Name.
        seed: Of the run.
        arm: Its loss.
        step: Steps done.
        num_groups: Of the held-out rows.
        mean_distance: Mean |t - s|, nats a group.
        rank_correlation: Spearman's; None where it is not defined.
        student_bits_per_byte: On the held-out rows.
        teacher_bits_per_byte: On the same text.
    """

    recipe: str
    seed: int
    arm: str
    step: int
    num_groups: int
    mean_distance: float
    rank_correlation: float | None
    student_bits_per_byte: float
    teacher_bits_per_byte: float


@dataclass(frozen=True)
class RatioRow:
    """ALM against a control of the same recipe and seed at a step.

    Attributes:
        recipe: Name.
        seed: Of both runs.
        control: The other's loss.
        step: Steps done.
        distance_ratio: ALM's mean distance over the control's.
        rank_gain: ALM's rank correlation less the control's; None where one is not defined.
    """

    recipe: str
    seed: int
    control: str
    step: int
    distance_ratio: float
    rank_gain: float | None

    @property
    def is_reached(self) -> bool:
        """Whether ALM is as far ahead as it should be."""
        return self.distance_ratio <= AIM and self.rank_gain is not None and self.rank_gain > 0


def ratios(rows: Sequence[LearningRow]) -> list[RatioRow]:
    """ALM against each control at every step of every run."""
    found = {(row.recipe, row.seed, row.arm, row.step): row for row in rows}
    pairs = [
        (row, found[row.recipe, row.seed, control, row.step])
        for row in rows
        if row.arm == ALM
        for control in CONTROLS
    ]
    return [
        RatioRow(
            recipe=own.recipe,
            seed=own.seed,
            control=other.arm,
            step=own.step,
            distance_ratio=own.mean_distance / other.mean_distance,
            rank_gain=_difference(own.rank_correlation, other.rank_correlation),
        )
        for own, other in pairs
    ]


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def last_steps(compared: Sequence[RatioRow]) -> list[RatioRow]:
    """Those of the last step of each recipe."""
    last = {row.recipe: max(r.step for r in compared if r.recipe == row.recipe) for row in compared}
    return [row for row in compared if row.step == last[row.recipe]]


def render_learning(
    rows: Sequence[LearningRow], compared: Sequence[RatioRow], provenance: Mapping[str, str]
) -> str:
    """For each recipe the last step of every run, and both ratios over the steps."""
    lines = ["# Learning: ALM against its controls on held-out text", ""]
    lines += [f"- {name}: {escape_markdown(text)}" for name, text in provenance.items()]
    ends = last_steps(compared)
    num_reached = sum(row.is_reached for row in ends)
    lines += ["", f"Reached in {num_reached} of {len(ends)} comparisons."]
    for recipe in dict.fromkeys(row.recipe for row in rows):
        own = [row for row in rows if row.recipe == recipe]
        lines += ["", f"## {escape_markdown(recipe)}", "", *_ends(own)]
        for control in CONTROLS:
            against = [r for r in compared if (r.recipe, r.control) == (recipe, control)]
            lines += [
                "",
                f"ALM's distance over {escape_markdown(control)}'s",
                "",
                *_curves(against),
            ]
    return "\n".join([*lines, "", *(f"- {escape_markdown(text)}" for text in _LEGEND)]) + "\n"


def _ends(rows: Sequence[LearningRow]) -> list[str]:
    """The last step of every run, and the step that all begin with."""
    last = max(row.step for row in rows)
    names = ("seed", "loss", "step", "distance", "rank correlation", "bits per byte")
    lines = [_line(names), _line(("---:", "---", *["---:"] * 4))]
    shown = [rows[0], *(row for row in rows if row.step == last)]
    for row in shown:
        is_start = row.step == 0
        lines.append(
            _line(
                (
                    MISSING if is_start else str(row.seed),
                    "none yet" if is_start else escape_markdown(row.arm),
                    f"{row.step:,}",
                    f"{row.mean_distance:.4f}",
                    _number(row.rank_correlation, ".4f"),
                    f"{row.student_bits_per_byte:.4f}",
                )
            )
        )
    teacher = rows[0].teacher_bits_per_byte
    return [*lines, "", f"Teacher: {teacher:.4f} bits per byte; {rows[0].num_groups:,} groups."]


def _curves(rows: Sequence[RatioRow]) -> list[str]:
    """A row for each step, a column for each seed."""
    seeds = list(dict.fromkeys(row.seed for row in rows))
    lines = [
        _line(("step", *(f"seed {seed}" for seed in seeds))),
        _line(["---:"] * (len(seeds) + 1)),
    ]
    for step in sorted({row.step for row in rows}):
        cells = {row.seed: f"{row.distance_ratio:.3f}" for row in rows if row.step == step}
        lines.append(_line((f"{step:,}", *(cells[seed] for seed in seeds))))
    return lines


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
