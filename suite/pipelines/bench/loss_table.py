"""The rows of `suite bench loss`, what they are compared with, and the table in Markdown.

Legend: T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from suite.pipelines.bench.loss_problem import Case
from suite.report.formatting import MISSING
from suite.report.markdown import escape_markdown

BASE = "plain"
PRODUCTS = "four bare products"

_COLUMNS = (
    "implementation",
    "outputs",
    "forward, s",
    "forward + backward, s",
    "time to plain",
    "time to products",
    "added memory, MB",
    "memory to plain",
    "difference of outputs",
    "difference of gradients",
    "not measured",
)
_TEXT_COLUMNS = {"implementation", "outputs", "not measured"}

_LEGEND = (
    "Outputs are log-probabilities: of the target (token), and of the boundary set in the same"
    " row (boundary). Backward takes a random gradient of each output and gives those of hidden"
    " states and head.",
    "Seconds are medians of runs taken in turns.",
    "Added memory is the peak beyond the inputs and the two gradients that are returned; a MB is"
    " 10^6 bytes.",
    "Ratios to plain compare with the row of plain that has the same outputs. The four bare"
    " products are the matrix products of a backward pass that computes logits again: logits"
    " twice, the gradient of hidden states, the gradient of the head; same dtype, same process.",
    "A difference is the largest one from plain in float32, divided by the largest value there;"
    " beyond 10 % the result is wrong and nothing else of it is measured.",
    "cut-cross-entropy skips blocks of small probabilities unless it is told not to (no filter).",
)


@dataclass(frozen=True)
class LossRow:
    """One implementation at one task and size.

    Attributes:
        implementation: Its name, or `four bare products`.
        outputs: What it computes: `token, boundary` or `token`.
        device: Where it runs.
        dtype: Of hidden states and head.
        num_tokens: T.
        hidden_size: D.
        vocab_size: V.
        version: Of a package of its own.
        not_measured: Why figures are missing; None where they are not.
        num_runs: Over which medians were taken.
        forward_seconds: Median of the forward pass, with what the backward pass needs.
        seconds: Median of forward and backward together.
        added_bytes: Peak memory beyond inputs and returned gradients.
        ratio_to_plain: Of `seconds`.
        memory_ratio_to_plain: Of `added_bytes`.
        ratio_to_products: Of `seconds` to the four bare products'.
        output_difference: Largest difference of an output over the largest output; None also
            where one is no number.
        gradient_difference: The same of gradients.
    """

    implementation: str
    outputs: str
    device: str
    dtype: str
    num_tokens: int
    hidden_size: int
    vocab_size: int
    version: str | None = None
    not_measured: str | None = None
    num_runs: int | None = None
    forward_seconds: float | None = None
    seconds: float | None = None
    added_bytes: int | None = None
    ratio_to_plain: float | None = None
    memory_ratio_to_plain: float | None = None
    ratio_to_products: float | None = None
    output_difference: float | None = None
    gradient_difference: float | None = None

    @property
    def case(self) -> Case:
        """Its problem."""
        return Case(self.device, self.dtype, self.num_tokens, self.hidden_size, self.vocab_size)


def with_ratios(rows: Sequence[LossRow]) -> list[LossRow]:
    """Rows of one case, compared with its products and with the plain of the same outputs."""
    [products] = [row for row in rows if row.implementation == PRODUCTS]
    plain = {row.outputs: row for row in rows if row.implementation == BASE}
    found = []
    for row in rows:
        if row is not products:
            base = plain[row.outputs]
            row = replace(
                row,
                ratio_to_plain=_ratio(row.seconds, base.seconds),
                memory_ratio_to_plain=_ratio(row.added_bytes, base.added_bytes),
                ratio_to_products=_ratio(row.seconds, products.seconds),
            )
        found.append(row)
    return found


def render_loss(rows: Sequence[LossRow], provenance: Mapping[str, str]) -> str:
    """A table for each case, what the columns mean, and where the figures are from."""
    lines = ["# Token log-probabilities: time and memory", ""]
    lines += [f"- {name}: {escape_markdown(text)}" for name, text in provenance.items()]
    for case in dict.fromkeys(row.case for row in rows):
        lines += ["", f"## {escape_markdown(case.name)}", "", _line(_COLUMNS)]
        lines.append(_line("---" if name in _TEXT_COLUMNS else "---:" for name in _COLUMNS))
        lines += [_line(_cells(row)) for row in rows if row.case == case]
    lines += ["", *(f"- {escape_markdown(text)}" for text in _LEGEND)]
    return "\n".join(lines) + "\n"


def _cells(row: LossRow) -> list[str]:
    name = f"{row.implementation} {row.version}" if row.version else row.implementation
    megabytes = None if row.added_bytes is None else row.added_bytes / 1e6
    return [
        escape_markdown(name),
        row.outputs,
        _number(row.forward_seconds, ".3f"),
        _number(row.seconds, ".3f"),
        _number(row.ratio_to_plain, ".2f"),
        _number(row.ratio_to_products, ".2f"),
        _number(megabytes, ",.0f"),
        _number(row.memory_ratio_to_plain, ".3f"),
        _number(row.output_difference, ".1g"),
        _number(row.gradient_difference, ".1g"),
        escape_markdown(row.not_measured or ""),
    ]


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
