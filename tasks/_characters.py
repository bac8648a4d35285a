"""Questions about the letters of words: what byte-level models see and others must recall."""

from _draw import Block, Draw, Row, split_blocks
from _words import COMMON_WORDS, ENDINGS, WORDS_WITH_THREE

NUM_BLOCKS = 63
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word_families() -> list[tuple[str, ...]]:
    """Groups of four words that differ in their first letter only."""
    families = []
    for ending, letters in ENDINGS.items():
        for start in range(0, len(letters), 4):
            families.append(tuple(letter + ending for letter in letters[start : start + 4]))
    return families


def spell(draw: Draw) -> dict[str, list[Row]]:
    """Which letter-by-letter spelling belongs to the word?"""
    units = [
        [
            Block(
                "spell",
                tuple(f'The word "{word}" is spelled' for word in family),
                tuple("-".join(word) for word in family),
            )
        ]
        for family in draw.sample(word_families(), NUM_BLOCKS)
    ]
    return split_blocks(draw, units)


def reverse(draw: Draw) -> dict[str, list[Row]]:
    """What is the word read from its last letter to its first?"""
    units = [
        [
            Block(
                "reverse",
                tuple(f'The word "{word}" written backwards is' for word in family),
                tuple(word[::-1] for word in family),
            )
        ]
        for family in draw.sample(word_families(), NUM_BLOCKS)
    ]
    return split_blocks(draw, units)


def contains_letter(draw: Draw) -> dict[str, list[Row]]:
    """Is the letter in the word?"""
    units = []
    for word in draw.sample([word for word in COMMON_WORDS if len(word) >= 5], 125):
        inside = draw.pick(sorted(set(word)))
        outside = draw.pick([letter for letter in LETTERS if letter not in word])
        questions = tuple(
            f'Does the word "{word}" contain the letter "{letter}"? Answer:'
            for letter in (inside, outside)
        )
        units.append([Block("contains", questions, ("Yes", "No"))])
    return split_blocks(draw, units)


def substitute(draw: Draw) -> dict[str, list[Row]]:
    """What does the word become when one letter takes the place of another?"""
    units = []
    words = [word for word in COMMON_WORDS if len(word) >= 5]
    words = [word for word in words if len(_single_letters(word)) >= 4]
    for word in draw.sample(words, NUM_BLOCKS):
        new_letter = draw.pick([letter for letter in LETTERS if letter not in word])
        old_letters = draw.sample(_single_letters(word), 4)
        questions = tuple(
            f'In "{word}", changing "{old}" to "{new_letter}" gives' for old in old_letters
        )
        answers = tuple(word.replace(old, new_letter) for old in old_letters)
        units.append([Block("substitute", questions, answers)])
    return split_blocks(draw, units)


def count_letters(draw: Draw) -> dict[str, list[Row]]:
    """How often does a letter stand in the word, and how many letters has it?"""
    occurrences = _occurrence_blocks(draw)[:38]
    lengths = _length_blocks(draw, NUM_BLOCKS - len(occurrences))
    return split_blocks(draw, [[block] for block in occurrences + lengths])


def _single_letters(word: str) -> list[str]:
    return [letter for letter in word if word.count(letter) == 1]


def _occurrence_blocks(draw: Draw) -> list[Block]:
    blocks = []
    for letter, triples in WORDS_WITH_THREE.items():
        pools = {
            count: draw.shuffled([word for word in COMMON_WORDS if word.count(letter) == count])
            for count in range(3)
        }
        pools[3] = draw.shuffled(triples.split())
        # Each word is used once a letter, so questions never repeat.
        for words in zip(*pools.values(), strict=False):
            questions = tuple(
                f'How many times is the letter "{letter}" in the word "{word}"? Answer:'
                for word in words
            )
            blocks.append(Block("occurrences", questions, ("0", "1", "2", "3")))
    return draw.shuffled(blocks)


def _length_blocks(draw: Draw, count: int) -> list[Block]:
    pools = {
        length: draw.shuffled([word for word in COMMON_WORDS if len(word) == length])
        for length in (5, 6, 7)
    }
    pools[4] = draw.shuffled([family[0] for family in word_families()])
    blocks = []
    for _ in range(count):
        questions = tuple(
            f'How many letters are in the word "{pools[length].pop()}"? Answer:'
            for length in (4, 5, 6, 7)
        )
        blocks.append(Block("length", questions, ("4", "5", "6", "7")))
    return blocks
