"""Tasks with free text: arithmetic, word problems, copying, and prose to compress."""

import json
from pathlib import Path

from _draw import TEST_ITEMS, TRAIN_ITEMS, Draw, Row, split_words
from _words import SCRIPT_WORDS

TOPICS_FILE = Path(__file__).parent / "python_docs_topics.jsonl"
PASSAGE_BYTES = (300, 500)
PASSAGES_PER_TOPIC = 12
MAX_COPY_BYTES = 24

NAMES = split_words("Ann Ben Eva Tom Sam Mia Leo Zoe Max Ida Jim Kim Lea Pat Roy Sue")
THINGS = split_words("apples coins books pens cards shells stamps nuts eggs cakes balls stones")


def arithmetic(draw: Draw) -> dict[str, list[Row]]:
    """Sums, differences and products, the result to be written out."""
    rows: dict[str, Row] = {}
    makers = (_sum, _difference, _product)
    while len(rows) < TRAIN_ITEMS + TEST_ITEMS:
        kind, question, answer = makers[len(rows) % len(makers)](draw)
        rows.setdefault(question, {"kind": kind, "question": question, "answer": str(answer)})
    return _cut(list(rows.values()))


def _sum(draw: Draw) -> tuple[str, str, int]:
    one, two = draw.between(2, 49), draw.between(2, 49)
    return "sum", f"{one} + {two}", one + two


def _difference(draw: Draw) -> tuple[str, str, int]:
    one, two = draw.between(20, 69), draw.between(1, 19)
    return "difference", f"{one} - {two}", one - two


def _product(draw: Draw) -> tuple[str, str, int]:
    one, two = draw.between(2, 12), draw.between(2, 12)
    return "product", f"{one} * {two}", one * two


def word_problems(draw: Draw) -> dict[str, list[Row]]:
    """Two-step stories; the solution is one line that ends in `#### N`."""
    rows: dict[str, Row] = {}
    makers = (_gains, _bags, _shopping)
    while len(rows) < TRAIN_ITEMS + TEST_ITEMS:
        maker = makers[len(rows) % len(makers)]
        question, steps, answer = maker(draw)
        rows.setdefault(
            question,
            {
                "kind": maker.__name__.strip("_"),
                "question": question,
                "solution": f"{steps} = {answer} #### {answer}",
                "answer": str(answer),
            },
        )
    return _cut(list(rows.values()))


def _gains(draw: Draw) -> tuple[str, str, int]:
    name, thing = draw.pick(NAMES), draw.pick(THINGS)
    start, gain, more = draw.between(2, 5), draw.between(1, 5), draw.between(1, 5)
    both = start + gain
    question = f"{name} has {start} {thing}, finds {gain} and buys {more}. How many {thing}?"
    return question, f"{start} + {gain} = {both} and {both} + {more}", both + more


def _bags(draw: Draw) -> tuple[str, str, int]:
    name, thing = draw.pick(NAMES), draw.pick(THINGS)
    bags, each, more = draw.between(2, 5), draw.between(2, 5), draw.between(1, 5)
    inside = bags * each
    question = f"{name} has {bags} bags of {each} {thing} and {more} more. How many {thing}?"
    return question, f"{bags} * {each} = {inside} and {inside} + {more}", inside + more


def _shopping(draw: Draw) -> tuple[str, str, int]:
    name, thing = draw.pick(NAMES), draw.pick(THINGS)
    count, price, spare = draw.between(2, 5), draw.between(2, 5), draw.between(1, 5)
    cost = count * price
    question = (
        f"{name} buys {count} {thing} for {price} dollars each and has {spare} dollars left. "
        f"How many dollars before?"
    )
    return question, f"{count} * {price} = {cost} and {cost} + {spare}", cost + spare


def copying(draw: Draw) -> dict[str, list[Row]]:
    """Short texts in ten scripts and emoji, to be repeated exactly."""
    rows: dict[str, Row] = {}
    scripts = list(SCRIPT_WORDS)
    while len(rows) < TRAIN_ITEMS + TEST_ITEMS:
        script = scripts[len(rows) % len(scripts)]
        words = SCRIPT_WORDS[script].split()
        # Chinese, Japanese, Thai and emoji are written without spaces.
        glue = " " if script in {"greek", "cyrillic", "arabic", "hebrew", "devanagari"} else ""
        text = glue.join(draw.pick(words) for _ in range(draw.between(1, 5)))
        if len(text.encode()) <= MAX_COPY_BYTES and len(text) > 1:
            rows.setdefault(text, {"script": script, "text": text})
    return _cut(draw.shuffled(list(rows.values())))


def bits_per_byte(draw: Draw) -> dict[str, list[Row]]:
    """Passages of Python's documentation; a topic lies in one split only."""
    lines = TOPICS_FILE.read_text(encoding="utf-8").splitlines()
    topics = draw.shuffled([json.loads(line) for line in lines])
    splits: dict[str, list[Row]] = {"train": [], "test": []}
    seen: set[str] = set()
    for topic in topics:
        rows: list[Row] = []
        for text in passages(topic["text"]):
            paragraphs = set(text.split("\n\n"))
            # Topics quote each other; a paragraph must not lie in both splits.
            if not seen & paragraphs:
                seen |= paragraphs
                rows.append({"topic": topic["topic"], "text": text})
        split = "test" if len(splits["test"]) < TEST_ITEMS else "train"
        splits[split].extend(rows[:PASSAGES_PER_TOPIC])
    return {"train": splits["train"][:TRAIN_ITEMS], "test": splits["test"][:TEST_ITEMS]}


def passages(text: str) -> list[str]:
    """Runs of whole paragraphs of a length within PASSAGE_BYTES; what fits in none is left out."""
    low, high = PASSAGE_BYTES
    found = []
    current = ""
    for paragraph in text.split("\n\n"):
        joined = f"{current}\n\n{paragraph}" if current else paragraph
        if len(joined.encode()) > high:
            # The paragraph may still begin a passage of its own.
            joined = paragraph if len(paragraph.encode()) <= high else ""
        if len(joined.encode()) >= low:
            found.append(joined)
            joined = ""
        current = joined
    return found


def _cut(rows: list[Row]) -> dict[str, list[Row]]:
    return {
        "train": rows[:TRAIN_ITEMS],
        "test": rows[TRAIN_ITEMS : TRAIN_ITEMS + TEST_ITEMS],
    }
