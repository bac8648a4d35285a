"""The README of a published model: complete, and inert whatever a recipe's texts hold."""

from __future__ import annotations

import dataclasses

import yaml

from suite.report.model_card import ModelCard, render_model_card

CARD = ModelCard(
    title="A model",
    summary="Trained.",
    sources=(("model", "hub:org/name"),),
    training=(("steps", "1,000"),),
    figures=(("bits per byte", "1.2"),),
    usage=("import this",),
    usage_note="",
    licence=("Terms.",),
    front_matter={"license": "gemma", "base_model": ("org/name",), "tags": (), "other": None},
)


def test_a_whole_card() -> None:
    assert render_model_card(CARD) == (
        "---\n"
        "license: gemma\n"
        "base_model:\n"
        "- org/name\n"
        "---\n"
        "\n"
        "# A model\n"
        "\n"
        "Trained.\n"
        "\n"
        "## Made from\n"
        "\n"
        "| | |\n"
        "| --- | --- |\n"
        "| model | hub:org/name |\n"
        "\n"
        "## Training\n"
        "\n"
        "| | |\n"
        "| --- | --- |\n"
        "| steps | 1,000 |\n"
        "\n"
        "## Figures\n"
        "\n"
        "| | |\n"
        "| --- | --- |\n"
        "| bits per byte | 1.2 |\n"
        "\n"
        "## Use\n"
        "\n"
        "```python\n"
        "import this\n"
        "```\n"
        "\n"
        "## Licence\n"
        "\n"
        "Terms.\n"
    )


def test_a_part_without_content_is_left_out() -> None:
    assert "## Figures" not in render_model_card(dataclasses.replace(CARD, figures=()))


def test_a_note_on_use_comes_before_the_lines() -> None:
    text = render_model_card(dataclasses.replace(CARD, usage_note="Only here."))
    assert "## Use\n\nOnly here.\n\n```python\n" in text


def test_texts_of_a_recipe_are_shown_literally() -> None:
    nasty = "a|b <script> `x` [y](z)\n---\n# heading"
    card = dataclasses.replace(
        CARD, title=nasty, sources=((nasty, nasty),), licence=(nasty,), front_matter={"k": nasty}
    )
    text = render_model_card(card)
    shown = "a\\|b &lt;script&gt; \\`x\\` \\[y\\](z) --- # heading"
    assert f"# {shown}\n" in text
    assert f"| {shown} | {shown} |\n" in text
    assert "<script>" not in text.split("\n---\n", 1)[1]
    front = text.split("\n---\n", 1)[0].removeprefix("---\n")
    assert yaml.safe_load(front) == {"k": nasty}
