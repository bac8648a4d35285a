"""The README of a published model: what it was made from, how, what it reaches, whose terms it has.

Its front matter is what the Hugging Face hub reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from suite.report.markdown import escape_markdown

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ModelCard:
    """What a card says.

    Attributes:
        title: Of the model.
        summary: Sentences under it.
        sources: What it was made from: part and place.
        training: How: label and value.
        figures: What it reaches: label and value.
        usage: Lines of Python that load it.
        usage_note: Why they are no plain ones; empty where they are.
        licence: Sentences on its terms.
        front_matter: Keys for the hub; what is None or empty is left out.
    """

    title: str
    summary: str
    sources: Facts
    training: Facts
    figures: Facts
    usage: tuple[str, ...]
    usage_note: str
    licence: tuple[str, ...]
    front_matter: Mapping[str, str | tuple[str, ...] | None] = field(default_factory=dict)


def render_model_card(card: ModelCard) -> str:
    """The card as Markdown with YAML before it; texts of recipes and paths are shown literally."""
    keys = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in card.front_matter.items()
        if value
    }
    front = yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)
    lines = ["---", *front.splitlines(), "---", "", f"# {escape_markdown(card.title)}", ""]
    lines += [escape_markdown(card.summary), ""]
    lines += _section("Made from", card.sources)
    lines += _section("Training", card.training)
    lines += _section("Figures", card.figures)
    lines += ["## Use", ""]
    lines += [escape_markdown(card.usage_note), ""] if card.usage_note else []
    lines += ["```python", *card.usage, "```", "", "## Licence", ""]
    for sentence in card.licence:
        lines += [escape_markdown(sentence), ""]
    return "\n".join(lines).rstrip() + "\n"


def _section(heading: str, facts: Facts) -> list[str]:
    if not facts:
        return []
    rows = [f"| {escape_markdown(label)} | {escape_markdown(value)} |" for label, value in facts]
    return [f"## {heading}", "", "| | |", "| --- | --- |", *rows, ""]
