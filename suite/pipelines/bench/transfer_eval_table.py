"""The rows of `suite bench transfer`, what follows from them, and the tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.report.formatting import MISSING
from suite.report.markdown import escape_markdown

MIXTURE = "trained + member"

_LEGEND = (
    "Bits per byte are -sum log p / (ln 2 x bytes) over the first part of each document, read in"
    " passages behind a begin token; totals are over all bytes.",
    "original: the model before anything was changed; start: with the new vocabulary, before"
    " training; trained: after it; member: another model with that vocabulary.",
    "trained + member: their token mixture with equal weights, log of the mean probability.",
    "The gap lies between start and original; documents are those where a model is better than"
    " start, and the mixture better than both of its members.",
)


@dataclass(frozen=True)
class DocumentRow:
    """A model, or the mixture, at one document.

    Attributes:
        model: Its role.
        document: The file.
        num_bytes: Of the text.
        num_tokens: That the model reads it as.
        nats: -sum log p.
    """

    model: str
    document: str
    num_bytes: int
    num_tokens: int
    nats: float

    @property
    def bits_per_byte(self) -> float:
        """Of this document."""
        return self.nats / (math.log(2) * self.num_bytes)


@dataclass(frozen=True)
class TransferSummary:
    """What follows from all documents.

    Attributes:
        bits_per_byte: Of each model over all bytes.
        gap_closed: Share of the gap between start and original; None where there is no gap.
        num_documents: All of them.
        num_better: Documents where a model is better than start; for the mixture, better than both
            of its members.
    """

    bits_per_byte: dict[str, float]
    gap_closed: float | None
    num_documents: int
    num_better: dict[str, int]


def summarise(rows: Sequence[DocumentRow]) -> TransferSummary:
    """Totals over documents; every model has been at all of them."""
    models = {model: _of(model, rows) for model in dict.fromkeys(row.model for row in rows)}
    bits = {
        model: sum(row.nats for row in own) / (math.log(2) * sum(row.num_bytes for row in own))
        for model, own in models.items()
    }
    rivals = {model: ["start"] for model in models if model != "start"}
    if MIXTURE in models:
        rivals[MIXTURE] = ["trained", "member"]
    gap = bits["start"] - bits["original"]
    return TransferSummary(
        bits_per_byte=bits,
        gap_closed=(bits["start"] - bits["trained"]) / gap if gap > 0 else None,
        num_documents=len(models["start"]),
        num_better={
            model: sum(
                row.nats < min(own.nats for own in others)
                for row, *others in zip(
                    models[model], *(models[rival] for rival in named), strict=True
                )
            )
            for model, named in rivals.items()
        },
    )


def _of(model: str, rows: Iterable[DocumentRow]) -> list[DocumentRow]:
    return [row for row in rows if row.model == model]


def render_transfer(rows: Sequence[DocumentRow], provenance: Mapping[str, str]) -> str:
    """A table of models, one of documents, and where the figures are from."""
    found = summarise(rows)
    closed = MISSING if found.gap_closed is None else f"{found.gap_closed:.1%}"
    lines = ["# Transfer: bits per byte on held-out documents", ""]
    lines += [f"- {name}: {escape_markdown(text)}" for name, text in provenance.items()]
    lines += ["", f"Share of the gap that training closed: {closed}", ""]
    lines += [_line(("model", "bits per byte", "tokens", "documents better"))]
    lines += [_line(("---", "---:", "---:", "---:"))]
    for model, bits in found.bits_per_byte.items():
        better = found.num_better.get(model)
        count = MISSING if better is None else f"{better} of {found.num_documents}"
        tokens = sum(row.num_tokens for row in _of(model, rows))
        lines.append(_line((model, f"{bits:.4f}", f"{tokens:,}", count)))
    models = list(found.bits_per_byte)
    lines += ["", _line(("document", "bytes", *models))]
    lines += [_line(("---", *["---:"] * (1 + len(models))))]
    for row in _of("start", rows):
        own = [other for other in rows if other.document == row.document]
        cells = [f"{other.bits_per_byte:.4f}" for other in own]
        lines.append(_line((escape_markdown(row.document), f"{row.num_bytes:,}", *cells)))
    return "\n".join([*lines, "", *(f"- {escape_markdown(text)}" for text in _LEGEND)]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
