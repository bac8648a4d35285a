"""The measurements of `suite bench scoring` in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from suite.pipelines.bench.scoring_measure import EnsembleRow, SpeedRow
from suite.pipelines.bench.scoring_memory import MemoryRow
from suite.report.formatting import MISSING
from suite.report.markdown import escape_markdown

_LEGEND = (
    "Seconds are medians of runs in turns, tokenisation included. hf is lm-eval's own backend with"
    " a float32 softmax.",
    "Places are tokens that the model reads: by hf with padding; distinct ones are the different"
    " beginnings of all texts, none of which needs reading twice.",
    "The ceiling is the speed-up there is to be had by operations: hf takes all its places through"
    " trunk and head, and only distinct places need the trunk, only scored tokens the head."
    " Attention is left out of this count.",
    "Differences are between log-likelihoods in nats; different answers are greedy flags, or"
    " generated texts.",
)


def render_scoring(
    speeds: Sequence[SpeedRow],
    ensembles: Sequence[EnsembleRow],
    memories: Sequence[MemoryRow],
    provenance: Mapping[str, str],
) -> str:
    """Tables of speed, of ensembles and of memory, and what they mean."""
    lines = ["# Scoring and generation against lm-eval's hf backend", ""]
    lines += _table(
        (
            "requests",
            "task",
            "shots",
            "number",
            "hf, s",
            "suite, s",
            "speed-up",
            "ceiling",
            "share of it",
            "places of hf",
            "distinct places",
            "scored tokens",
            "largest difference",
            "different answers",
        ),
        [_speed_line(row) for row in speeds],
        num_text=2,
    )
    if ensembles:
        lines += ["", "## An ensemble of the model with itself", ""]
        lines += _table(
            ("task", "members", "ensemble, s", "model alone, s", "to the sum of its members"),
            [
                (
                    row.task,
                    str(row.num_members),
                    f"{row.seconds:.2f}",
                    f"{row.alone_seconds:.2f}",
                    f"{row.ratio:.2f}",
                )
                for row in ensembles
            ],
            num_text=1,
        )
    if memories:
        lines += ["", "## Memory", ""]
        lines += _table(
            ("texts", "tokens of each", "peak of the process, GB"),
            [
                (str(row.num_texts), f"{row.length:,}", f"{row.peak_bytes / 1e9:.2f}")
                for row in memories
            ],
            num_text=0,
        )
    lines += ["", *(f"- {line}" for line in _LEGEND), "", "## Provenance", ""]
    lines += [f"- {name}: {escape_markdown(text)}" for name, text in provenance.items()]
    return "\n".join(lines) + "\n"


def _speed_line(row: SpeedRow) -> tuple[str, ...]:
    def count(value: int | None) -> str:
        return MISSING if value is None else f"{value:,}"

    return (
        row.group,
        row.task,
        "own" if row.num_fewshot is None else str(row.num_fewshot),
        f"{row.num_requests:,}",
        f"{row.hf_seconds:.2f}",
        f"{row.suite_seconds:.2f}",
        f"{row.speedup:.2f}",
        MISSING if row.ceiling is None else f"{row.ceiling:.2f}",
        MISSING if row.share is None else f"{row.share:.0%}",
        count(row.hf_places),
        count(row.distinct_places),
        count(row.num_scored),
        MISSING if row.max_difference is None else f"{row.max_difference:.1e}",
        str(row.num_different),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int) -> list[str]:
    ruler = ["---"] * num_text + ["---:"] * (len(columns) - num_text)
    cells = [list(columns), ruler, *([escape_markdown(text) for text in row] for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]
