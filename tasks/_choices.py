"""Multiple-choice tasks about arithmetic, facts, word forms, sequences and grammar."""

import string
from collections.abc import Callable, Sequence

from _draw import Block, Draw, Row, split_blocks, split_words
from _facts import (
    CAPITALS,
    CATEGORIES,
    CITIES,
    EVERYDAY,
    IRREGULAR_VERBS,
    OPPOSITES,
    REGULAR_VERBS,
)

NUM_BLOCKS = 63
SUBJECT_KINDS = split_words(
    "old young rich poor tall tired happy angry clever lazy famous little new"
)
SUBJECTS = split_words(
    "man woman boy girl teacher farmer doctor king queen student soldier sailor cook singer "
    "lawyer nurse artist baker driver neighbour"
)
DAYS = split_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = split_words(
    "January February March April May June July August September October November December"
)


def arithmetic_choice(draw: Draw) -> dict[str, list[Row]]:
    """One-step arithmetic, the wrong choices being results of similar problems."""
    makers = [_products] * 21 + [_sums] * 21 + [_differences] * 21
    return split_blocks(draw, _fresh_blocks(draw, makers))


def _products(draw: Draw) -> Block:
    factor = draw.between(2, 12)
    others = draw.sample(range(2, 13), 4)
    questions = tuple(f"{factor} * {other} =" for other in others)
    return Block("product", questions, tuple(str(factor * other) for other in others))


def _sums(draw: Draw) -> Block:
    results = draw.sample(range(6, 21), 4)
    first = [draw.between(1, result - 1) for result in results]
    pairs = zip(first, results, strict=True)
    questions = tuple(f"{one} + {result - one} =" for one, result in pairs)
    return Block("sum", questions, tuple(str(result) for result in results))


def _differences(draw: Draw) -> Block:
    results = draw.sample(range(1, 13), 4)
    less = [draw.between(1, 12) for _ in results]
    pairs = zip(results, less, strict=True)
    questions = tuple(f"{result + minus} - {minus} =" for result, minus in pairs)
    return Block("difference", questions, tuple(str(result) for result in results))


def _fresh_blocks(draw: Draw, makers: Sequence[Callable[[Draw], Block]]) -> list[list[Block]]:
    """A block of each maker, drawn again while it repeats a question."""
    seen: set[str] = set()
    units = []
    for maker in makers:
        block = maker(draw)
        while seen.intersection(block.questions):
            block = maker(draw)
        seen.update(block.questions)
        units.append([block])
    return units


def lexical(draw: Draw) -> dict[str, list[Row]]:
    """Opposites and category membership."""
    units = [
        # Both directions use the same words, so they stay in one split.
        [_opposite_block(pairs), _opposite_block([pair[::-1] for pair in pairs])]
        for pairs in _fours(OPPOSITES)
    ]
    return split_blocks(draw, units + [[block] for block in _category_blocks(draw)])


def _opposite_block(pairs: Sequence[Sequence[str]]) -> Block:
    return Block(
        "opposite",
        tuple(f"The opposite of {word} is" for word, _ in pairs),
        tuple(opposite for _, opposite in pairs),
    )


def _category_blocks(draw: Draw) -> list[Block]:
    members = {name: draw.shuffled(words.split()) for name, words in CATEGORIES.items()}
    blocks = []
    for place in range(8):
        names = draw.shuffled(list(members))
        for start in range(0, len(names), 4):
            four = names[start : start + 4]
            questions = tuple(f"{members[name][place].capitalize()} is a kind of" for name in four)
            blocks.append(Block("category", questions, tuple(four)))
    return blocks


def knowledge(draw: Draw) -> dict[str, list[Row]]:
    """Capitals, cities and what everybody knows about everyday things."""
    blocks = [
        _fact_block("capital", [(f"The capital of {land} is", city) for land, city in four])
        for four in _fours(CAPITALS)
    ]
    blocks += [
        _fact_block("city", [(f"The city of {city} is in", land) for city, land in four])
        for four in _fours(CITIES)
    ]
    for paragraph in EVERYDAY.strip().split("\n\n"):
        rows = [line.split(" | ") for line in paragraph.split("\n")]
        blocks.append(_fact_block("everyday", [(row[0], row[1]) for row in rows]))
    return split_blocks(draw, [[block] for block in blocks])


def _fact_block(kind: str, facts: Sequence[tuple[str, str]]) -> Block:
    return Block(kind, tuple(fact[0] for fact in facts), tuple(fact[1] for fact in facts))


def word_forms(draw: Draw) -> dict[str, list[Row]]:
    """Which form of a verb fits the sentence?"""
    # A subject stands in one question only, so no question is asked twice.
    who = iter(draw.shuffled([f"the {kind} {noun}" for kind in SUBJECT_KINDS for noun in SUBJECTS]))
    units = []
    for four in IRREGULAR_VERBS.replace("\n", ";").strip(";").split(";"):
        questions = (
            f"Tomorrow {next(who)} will",
            f"Yesterday {next(who)}",
            f"By now {next(who)} has",
            f"At this moment {next(who)} is",
        )
        units.append([Block("irregular", questions, tuple(four.split()))])
    for verb in REGULAR_VERBS.split():
        stem = verb.removesuffix("e")
        questions = (
            f"Tomorrow {next(who)} will",
            f"Yesterday {next(who)}",
            f"Every single day {next(who)}",
            f"At this moment {next(who)} is",
        )
        third = verb + ("es" if verb.endswith("sh") else "s")
        units.append([Block("regular", questions, (verb, stem + "ed", third, stem + "ing"))])
    return split_blocks(draw, units)


def sequences(draw: Draw) -> dict[str, list[Row]]:
    """What comes next: numbers, letters, days, months."""
    makers = [_numbers] * 34 + [_letters] * 16 + [_days] * 5 + [_months] * 8
    return split_blocks(draw, _fresh_blocks(draw, makers))


def _numbers(draw: Draw) -> Block:
    smallest = draw.between(21, 60)
    answers = [smallest + step for step in (0, 1, 2, 3)]
    questions = []
    for answer in answers:
        step = draw.pick((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5))
        questions.append(" ".join(f"{answer - step * back}," for back in (4, 3, 2, 1)))
    return Block("numbers", tuple(questions), tuple(str(answer) for answer in answers))


def _letters(draw: Draw) -> Block:
    return _cyclic(draw, "letters", list(string.ascii_uppercase), (1, 1, 2, -1))


def _days(draw: Draw) -> Block:
    return _cyclic(draw, "days", DAYS, (1, -1))


def _months(draw: Draw) -> Block:
    return _cyclic(draw, "months", MONTHS, (1, 1, -1))


def _cyclic(draw: Draw, kind: str, names: Sequence[str], steps: Sequence[int]) -> Block:
    answers = draw.sample(range(len(names)), 4)
    questions = []
    for answer in answers:
        step = draw.pick(steps)
        shown = range(draw.pick((2, 3, 4)), 0, -1)
        questions.append(
            " ".join(f"{names[(answer - step * back) % len(names)]}," for back in shown)
        )
    return Block(kind, tuple(questions), tuple(names[answer] for answer in answers))


def _fours(table: str) -> list[list[tuple[str, str]]]:
    """The pairs of each line; an underscore stands for a space inside a name."""
    lines = []
    for line in table.strip().splitlines():
        pairs = [pair.split() for pair in line.split(";")]
        lines.append([(one.replace("_", " "), two.replace("_", " ")) for one, two in pairs])
    return lines
