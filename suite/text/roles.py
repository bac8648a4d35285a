"""What a tokenizer's special tokens are for, read from the tokenizer and its chat template.

The template is asked first: where a token opens every turn it is a header even if the tokenizer
also names it its begin token, as SmolLM2 does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from suite.errors import ConfigError, near_names
from suite.text.encoding import Role

# Later lines win: a token that also ends texts is an end token. An unknown token is not asked for
# here: byte-level tokenizers name one that they never emit.
_ATTRIBUTES = {
    "pad_token_id": Role.PAD,
    "bos_token_id": Role.BEGIN,
    "eos_token_id": Role.END,
}
_QUESTION, _ANSWER, _MORE = "\ue000question\ue000", "\ue000answer\ue000", "\ue000more\ue000"


def find_roles(hf: Any, given: Mapping[str, Role], name: str) -> dict[int, Role]:
    """The role of every special token, by id.

    Args:
        hf: A Hugging Face fast tokenizer.
        given: Roles by the token's string, from a recipe; they win over what is found.
        name: The tokenizer's name in messages.

    Raises:
        ConfigError: A string in `given` is no special token of the tokenizer.
    """
    backend = hf.backend_tokenizer
    special = {
        number for number, token in backend.get_added_tokens_decoder().items() if token.special
    }
    special |= set(hf.all_special_ids)
    unknown = _unknown_id(backend.model)
    special |= {unknown} - {None}
    roles = dict.fromkeys(special, Role.OTHER)
    for attribute, role in _ATTRIBUTES.items():
        number = getattr(hf, attribute, None)
        if number is not None:
            roles[number] = role
    if unknown is not None:
        roles[unknown] = Role.UNKNOWN
    roles |= _roles_in_template(hf, special)
    for token, role in given.items():
        number = backend.token_to_id(token)
        if number not in special:
            known = (backend.id_to_token(known) for known in special)
            raise ConfigError(f"{name}: no special token {token!r}; {near_names(token, known)}")
        roles[number] = role
    return {number: role for number, role in roles.items() if role != Role.REGULAR}


def parse_roles(given: Mapping[str, str], where: str) -> dict[str, Role]:
    """Roles by their names in a recipe: `begin`, `end_of_turn`, ...

    Raises:
        ConfigError: No such role.
    """
    names = {role.name.lower(): role for role in Role}
    for token, name in given.items():
        if name not in names:
            raise ConfigError(f"{where}: {token!r} has role {name!r}; {near_names(name, names)}")
    return {token: names[name] for token, name in given.items()}


def _unknown_id(model: Any) -> int | None:
    """The id that the model itself emits for what it does not know."""
    token = getattr(model, "unk_token", None)
    if token is not None:
        found: int | None = model.token_to_id(token)
        return found
    if type(model).__name__ != "Unigram":
        return None
    number: int | None = json.loads(model.__getstate__()).get("unk_id")
    return number


def _probe(hf: Any, system: list[dict[str, str]]) -> tuple[str, str, str] | None:
    """A question with answer, with another question behind it, and waiting for the answer."""
    messages = [
        *system,
        {"role": "user", "content": _QUESTION},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _MORE},
    ]
    try:
        return (
            hf.apply_chat_template(messages[:-1], tokenize=False),
            hf.apply_chat_template(messages, tokenize=False),
            hf.apply_chat_template(messages[:-2], tokenize=False, add_generation_prompt=True),
        )
    except Exception:
        # Templates raise what they like.
        return None


def _roles_in_template(hf: Any, special: set[int]) -> dict[int, Role]:
    """Roles of the special tokens that a chat template writes around the messages."""
    if not getattr(hf, "chat_template", None):
        return {}
    renderings = _probe(hf, []) or _probe(hf, [{"role": "system", "content": "\ue000"}])
    if renderings is None:
        # It refuses any such conversation; it does so again, and is heard, when used.
        return {}
    whole, longer, asked = renderings
    before, _, rest = whole.partition(_QUESTION)
    between, _, after = rest.partition(_ANSWER)
    prompt = asked.partition(_QUESTION)[2]
    again = longer.partition(_ANSWER)[2].partition(_MORE)[0]

    backend = hf.backend_tokenizer
    backend.encode_special_tokens = False

    def found(text: str) -> list[int]:
        ids = backend.encode(text, add_special_tokens=False).ids
        return [number for number in ids if number in special]

    opening, closing, turn = found(before), found(after), found(between)
    # A begin token before each question opens a turn, but not every turn.
    headers = {number for number in found(again) if number != hf.bos_token_id}
    headers = headers.union(turn, found(prompt)).difference(closing)
    roles = dict.fromkeys(headers, Role.HEADER)
    roles |= dict.fromkeys(closing[:1], Role.END_OF_TURN)
    if opening and opening[0] not in roles and opening[0] == hf.bos_token_id:
        roles[opening[0]] = Role.BEGIN
    return roles
