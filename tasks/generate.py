"""Writes the questions of every task: `python tasks/generate.py`.

Each task draws from its own seed, so changing one leaves the others as they are. With `--check`
nothing is written; the exit status is 1, naming the first file that differs.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import _characters
import _choices
import _grammar
import _texts
from _draw import TEST_ITEMS, TRAIN_ITEMS, Draw, Row

FOLDER = Path(__file__).parent
TASKS: dict[str, Callable[[Draw], dict[str, list[Row]]]] = {
    "suite_arithmetic": _texts.arithmetic,
    "suite_arithmetic_choice": _choices.arithmetic_choice,
    "suite_bits_per_byte": _texts.bits_per_byte,
    "suite_contains_letter": _characters.contains_letter,
    "suite_copy": _texts.copying,
    "suite_count_letters": _characters.count_letters,
    "suite_knowledge": _choices.knowledge,
    "suite_lexical": _choices.lexical,
    "suite_minimal_pairs": _grammar.minimal_pairs,
    "suite_reverse": _characters.reverse,
    "suite_sequences": _choices.sequences,
    "suite_spell": _characters.spell,
    "suite_substitute": _characters.substitute,
    "suite_word_forms": _choices.word_forms,
    "suite_word_problems": _texts.word_problems,
}


def files() -> Iterator[tuple[Path, bytes]]:
    """Every data file and what it must hold."""
    for task, build in TASKS.items():
        splits = build(Draw(task))
        for split, size in (("train", TRAIN_ITEMS), ("test", TEST_ITEMS)):
            rows = splits[split]
            if len(rows) != size:
                raise ValueError(f"{task}: {len(rows)} {split} items, {size} wanted")
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            yield FOLDER / "data" / task / f"{split}.jsonl", "".join(lines).encode()


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description="Write the questions of every task.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check: bool = parser.parse_args().check
    for path, content in files():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file() or path.read_bytes() != content:
            print(f"{path}: differs from what generate.py makes; run it to rewrite the file")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
