"""Multiple-choice tasks about arithmetic, facts, word forms, sequences and grammar."""

import string
from collections.abc import Sequence

from _draw import Block, Draw, Row, split_blocks
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
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()


def arithmetic_choice(draw: Draw) -> dict[str, list[Row]]:
    """One-step sums and differences, the wrong choices being near misses."""
    seen: set[str] = set()
    units = []
    while len(units) < NUM_BLOCKS:
        smallest = draw.between(2, 15)
        results = [smallest + step for step in (0, 1, 2, 3)]
        kind = draw.pick(("sum", "difference"))
        questions = [_problem(draw, kind, result) for result in results]
        if not seen.intersection(questions):
            seen.update(questions)
            block = Block(kind, tuple(questions), tuple(str(result) for result in results))
            units.append([block])
    return split_blocks(draw, units)


def _problem(draw: Draw, kind: str, result: int) -> str:
    if kind == "sum":
        first = draw.between(1, result - 1)
        return f"{first} + {result - first} ="
    second = draw.between(1, 19 - result) if result < 18 else 1
    return f"{result + second} - {second} ="


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
    people = ("the man", "the woman", "my brother", "my sister", "the teacher", "the girl")
    units = []
    for four in IRREGULAR_VERBS.replace("\n", ";").strip(";").split(";"):
        who = draw.sample(people, 4)
        questions = (
            f"Tomorrow {who[0]} will",
            f"Yesterday {who[1]}",
            f"By now {who[2]} has",
            f"At this moment {who[3]} is",
        )
        units.append([Block("irregular", questions, tuple(four.split()))])
    for verb in REGULAR_VERBS.split():
        who = draw.sample(people, 4)
        stem = verb.removesuffix("e")
        questions = (
            f"Tomorrow {who[0]} will",
            f"Yesterday {who[1]}",
            f"Every single day {who[2]}",
            f"At this moment {who[3]} is",
        )
        third = verb + ("es" if verb.endswith("sh") else "s")
        units.append([Block("regular", questions, (verb, stem + "ed", third, stem + "ing"))])
    return split_blocks(draw, units)


def sequences(draw: Draw) -> dict[str, list[Row]]:
    """What comes next: numbers, letters, days, months."""
    makers = [_numbers] * 34 + [_letters] * 16 + [_days] * 5 + [_months] * 8
    seen: set[str] = set()
    units = []
    for maker in makers:
        block = maker(draw)
        while seen.intersection(block.questions):
            block = maker(draw)
        seen.update(block.questions)
        units.append([block])
    return split_blocks(draw, units)


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

