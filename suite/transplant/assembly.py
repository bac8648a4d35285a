"""One tokenizer's regular tokens with another's special tokens, as an ordinary fast tokenizer."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from suite.text.bytelevel import byte_tokenizer
from suite.text.encoding import Role
from suite.text.tokenizers import OpenedTokenizer


def assemble(
    owner: OpenedTokenizer, regular: OpenedTokenizer, *, keep: Collection[str] = ()
) -> Any:
    """A tokenizer that reads text as `regular` does and everything special as `owner`.

    Regular tokens keep their ids. Behind the last of them follow the owner's special tokens, those
    that a byte-level tokenizer keeps (see `byte_tokenizer`), by rising id. Begin token, chat
    template and settings are the owner's. The ids of the other special tokens stay empty, and so
    does that of a regular token which is written like a kept special one. Only a Unigram model's
    own unknown token stays where it is, because such a model cannot read without one.

    Args:
        owner: Where special tokens come from.
        regular: Where regular tokens come from.
        keep: Special tokens to keep although nothing uses them.

    Returns:
        A Hugging Face fast tokenizer.

    Raises:
        ConfigError: `keep` names no special token of the owner.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    settings = byte_tokenizer(owner, keep=keep)
    special = json.loads(settings.backend_tokenizer.to_str())
    state = json.loads(regular.hf.backend_tokenizer.to_str())
    unknown = owner.vocabulary.ids_with_role(Role.UNKNOWN)
    edit = _edit_unigram if state["model"]["type"] == "Unigram" else _edit_bpe
    strings = [token["content"] for token in special["added_tokens"]]
    removed = {*strings, *regular.vocabulary.special.values()}
    added = [token for token in state["added_tokens"] if token["content"] not in removed]
    number_of = edit(state["model"], removed, added, strings)
    if "unk_token" in state["model"]:
        state["model"]["unk_token"] = owner.vocabulary.special[unknown[0]] if unknown else None
    added += [t | {"id": number_of[t["content"]]} for t in special["added_tokens"]]
    state["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    state["post_processor"] = _renumbered(special["post_processor"], number_of)
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        **settings.special_tokens_map,
        extra_special_tokens=list(settings.extra_special_tokens),
        padding_side=settings.padding_side,
        model_input_names=settings.model_input_names,
        model_max_length=owner.hf.model_max_length,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = settings.chat_template
    return made


def _edit_bpe(
    model: dict[str, Any], removed: set[str], added: list[dict[str, Any]], strings: list[str]
) -> dict[str, int]:
    """Take entries out of a BPE model and put special tokens behind; returns their ids.

    They have to be entries of the model: an added token that is none gets the next id that the
    library thinks free, which counts entries and knows no gaps.
    """
    entries = {piece: number for piece, number in model["vocab"].items() if piece not in removed}
    entries |= {token["content"]: token["id"] for token in added}
    first = 1 + max(entries.values())
    number_of = {string: first + place for place, string in enumerate(strings)}
    model["vocab"] = entries | number_of
    model["merges"] = [
        merge for merge in model["merges"] if removed.isdisjoint([*merge, "".join(merge)])
    ]
    return number_of


def _edit_unigram(
    model: dict[str, Any], removed: set[str], added: list[dict[str, Any]], strings: list[str]
) -> dict[str, int]:
    """As `_edit_bpe`. Ids are places in a list, where the empty piece, which no text has, is a gap.

    Special tokens stay out of the list, in which a text that spells one would find it.
    """
    own = model["unk_id"]
    unknown = None if own is None else model["vocab"][own][0]
    pieces = [
        ["" if piece in removed - {unknown} else piece, score] for piece, score in model["vocab"]
    ]
    for token in added:
        pieces += [["", 0.0]] * (1 + token["id"] - len(pieces))
        pieces[token["id"]] = [token["content"], 0.0]
    while not pieces[-1][0]:
        pieces.pop()
    model["vocab"] = pieces
    following = [string for string in strings if string != unknown]
    number_of = {string: len(pieces) + place for place, string in enumerate(following)}
    return number_of | ({unknown: own} if unknown in strings else {})


def _renumbered(post_processor: Any, number_of: dict[str, int]) -> Any:
    """The step that adds a begin token, with the token's new id."""
    if post_processor is None:
        return None
    tokens = {
        string: token | {"ids": [number_of[string]]}
        for string, token in post_processor["special_tokens"].items()
    }
    return post_processor | {"special_tokens": tokens}
