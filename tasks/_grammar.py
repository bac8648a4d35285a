"""Minimal pairs: two sentences that differ in one word, one of them grammatical."""

from collections.abc import Callable

from _draw import TEST_ITEMS, TRAIN_ITEMS, Draw, Row, split_parts, split_words

NOUNS = split_words(
    "dog cat bird horse teacher doctor farmer student driver singer painter neighbour "
    "child:children man:men woman:women king queen lawyer baker boy girl soldier pilot tourist"
)
THINGS = split_words(
    "book table chair picture letter bottle window ticket pencil hammer basket blanket camera "
    "candle mirror pillow carpet bicycle button guitar jacket ladder needle napkin spoon wagon"
)
ACTIONS = split_words(
    "sleep wait smile laugh cook dance sing talk walk swim shout listen work paint travel "
    "complain arrive jump run whisper"
)
PLACES = split_parts(
    "in the garden; at the station; near the river; in the kitchen; by the lake; in the park; "
    "at the market; on the beach; behind the house; in the street"
)
STATES = split_parts("old; new; very heavy; broken; expensive; on the floor; in the car; missing")
MALES = split_words("man boy king uncle father brother prince waiter actor husband")
FEMALES = split_words("woman girl queen aunt mother sister princess waitress actress wife")
SELF_VERBS = split_words("hurt blamed washed defended introduced admired described saw")
# Past and participle of verbs whose two forms differ, with an object.
FORMS = split_parts(
    "ate eaten the cake; broke broken the vase; wrote written a letter; drove driven the bus; "
    "saw seen the film; took taken the money; gave given an answer; chose chosen a colour; "
    "drank drunk the milk; sang sung a song; threw thrown the ball; stole stolen the bike; "
    "forgot forgotten the key; drew drawn a map; rode ridden the horse; hid hidden the gold"
)
OBJECTS = split_words("him:he her:she them:they us:we me:I")
CONTACTS = split_words("met saw called helped thanked followed visited invited")


def subject_verb(draw: Draw) -> tuple[str, str]:
    """The verb agrees with its own subject, not with that of the clause between them."""
    subject, other = (_numbers(noun) for noun in draw.sample(NOUNS, 2))
    base, place = draw.pick(ACTIONS), draw.pick(PLACES)
    contact = draw.pick(CONTACTS)
    if draw.below(2):
        start = f"The {subject[0]} that the {other[1]} {contact}"
        return f"{start} {base}s {place}.", f"{start} {base} {place}."
    start = f"The {subject[1]} that the {other[0]} {contact}"
    return f"{start} {base} {place}.", f"{start} {base}s {place}."


def distant_agreement(draw: Draw) -> tuple[str, str]:
    """The verb agrees with the first noun, not with the nearer one."""
    head, near = (_numbers(noun) for noun in draw.sample(THINGS, 2))
    state = draw.pick(STATES)
    if draw.below(2):
        start = f"The {head[0]} beside the {near[1]}"
        return f"{start} is {state}.", f"{start} are {state}."
    start = f"The {head[1]} beside the {near[0]}"
    return f"{start} are {state}.", f"{start} is {state}."


def determiner_noun(draw: Draw) -> tuple[str, str]:
    """The determiner and the noun have the same number."""
    one, many = _numbers(draw.pick(THINGS))
    who = draw.pick(("She bought", "He painted", "We found", "They sold", "I cleaned"))
    place = draw.pick(PLACES)
    if draw.below(2):
        word = draw.pick(("this", "that", "one", "every"))
        return f"{who} {word} {one} {place}.", f"{who} {word} {many} {place}."
    word = draw.pick(("these", "those", "two", "many"))
    return f"{who} {word} {many} {place}.", f"{who} {word} {one} {place}."


def reflexive(draw: Draw) -> tuple[str, str]:
    """The reflexive pronoun has the gender of the subject."""
    males = draw.below(2) == 1
    who = draw.pick(MALES if males else FEMALES)
    right, wrong = ("himself", "herself") if males else ("herself", "himself")
    verb, place = draw.pick(SELF_VERBS), draw.pick(PLACES)
    return f"The {who} {verb} {right} {place}.", f"The {who} {verb} {wrong} {place}."


def irregular_form(draw: Draw) -> tuple[str, str]:
    """Past tense alone, participle after an auxiliary."""
    past, participle, rest = draw.pick(FORMS).split(" ", 2)
    who = _numbers(draw.pick(NOUNS))[0]
    if draw.below(2):
        return f"The {who} has {participle} {rest}.", f"The {who} has {past} {rest}."
    return f"The {who} {past} {rest}.", f"The {who} {participle} {rest}."


def pronoun_case(draw: Draw) -> tuple[str, str]:
    """An object pronoun follows the verb."""
    right, wrong = draw.pick(OBJECTS).split(":")
    who = _numbers(draw.pick(NOUNS))[0]
    verb, place = draw.pick(CONTACTS), draw.pick(PLACES)
    return f"The {who} {verb} {right} {place}.", f"The {who} {verb} {wrong} {place}."


PHENOMENA: tuple[Callable[[Draw], tuple[str, str]], ...] = (
    subject_verb,
    distant_agreement,
    determiner_noun,
    reflexive,
    irregular_form,
    pronoun_case,
)


def minimal_pairs(draw: Draw) -> dict[str, list[Row]]:
    """Pairs of all phenomena in turn, the good sentence standing first in half of them."""
    seen: set[frozenset[str]] = set()
    rows: list[Row] = []
    while len(rows) < TRAIN_ITEMS + TEST_ITEMS:
        phenomenon = PHENOMENA[len(rows) % len(PHENOMENA)]
        good, bad = phenomenon(draw)
        # A pair and its mirror image in the other split would be the same question twice.
        pair = frozenset((good, bad))
        if pair in seen:
            continue
        seen.add(pair)
        gold = draw.below(2)
        rows.append(
            {
                "kind": phenomenon.__name__,
                "choices": [good, bad] if gold == 0 else [bad, good],
                "gold": gold,
            }
        )
    return {"train": rows[:TRAIN_ITEMS], "test": rows[TRAIN_ITEMS:]}


def _numbers(noun: str) -> tuple[str, str]:
    """Singular and plural."""
    one, _, many = noun.partition(":")
    return one, many or one + "s"
