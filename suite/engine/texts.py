"""Between text and a member's tokens: where its prompts begin and its continuations are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from suite.errors import TextError

Protocol = Literal["lm-eval", "paper"]


@dataclass(frozen=True, eq=False)
class MemberText:
    """A member's tokenizer and the tokens that begin and end its texts.

    Attributes:
        hf: A Hugging Face tokenizer.
        prefix_id: What stands before an empty prompt: the begin token, else the end token.
        end_ids: The tokens that end what it generates.
    """

    hf: Any
    prefix_id: int
    end_ids: tuple[int, ...]

    def encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """Ids of a text.

        Args:
            text: Strings of special tokens in it are read as these.
            add_special_tokens: None lets the tokenizer add what it adds by itself, unless the text
                begins with the begin token already.
        """
        if add_special_tokens is None:
            add_special_tokens = not text.startswith(self.hf.decode(self.prefix_id))
        ids: list[int] = self.hf.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without special tokens."""
        text: str = self.hf.decode(list(ids), skip_special_tokens=True)
        return text


def open_text(hf: Any, model: Any, *, name: str) -> MemberText:
    """The begin and end tokens that a tokenizer and its model name.

    Args:
        hf: A Hugging Face tokenizer.
        model: The model that it belongs to; its generation settings may name more end tokens.
        name: What messages call the model.

    Raises:
        TextError: There is neither a begin nor an end token.
    """
    prefix = hf.bos_token_id if hf.bos_token_id is not None else hf.eos_token_id
    if prefix is None:
        raise TextError(
            f"{name}: its tokenizer has neither begin nor end token, so an empty prompt cannot be"
            " given; set bos_token or eos_token in its tokenizer_config.json"
        )
    settings = getattr(model, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    found = dict.fromkeys(number for number in (hf.eos_token_id, *listed) if number is not None)
    return MemberText(hf, int(prefix), tuple(int(number) for number in found))


@dataclass(frozen=True)
class EncodedPair:
    """Tokens of a prompt (at least one) and of the continuation behind it.

    `is_moved` says that one token spans the border and counts with the continuation.
    """

    context: list[int]
    continuation: list[int]
    is_moved: bool = False


def encode_pair(
    text: MemberText, context: str, continuation: str, protocol: Protocol = "lm-eval"
) -> EncodedPair:
    """Tokens of a prompt and its continuation, by lm-eval's rule or the paper's.

    lm-eval: white space at the prompt's end counts with the continuation; both are encoded as one
    text, which is cut behind the tokens of the prompt alone. Where a token spans the border, so
    that the text does not begin with these, it is cut before that token: lm-eval itself would drop
    a part of the continuation, or stop. The paper encodes both apart, behind a begin token.

    Args:
        text: The member's.
        context: May be empty.
        continuation: Not empty.
        protocol: Which rule.
    """
    if protocol == "paper":
        before = text.encode(context, False) if context else []
        return EncodedPair(_begun(text, before), text.encode(continuation, False))
    continuation = context[len(context.rstrip()) :] + continuation
    context = context.rstrip()
    if not context:
        ids = text.encode(continuation, False)
        # A text that begins with the begin token by itself needs no second one.
        if ids[:1] == [text.prefix_id]:
            return EncodedPair(ids[:1], ids[1:])
        return EncodedPair([text.prefix_id], ids)
    whole = text.encode(context + continuation)
    before = text.encode(context)
    if whole[: len(before)] == before:
        return EncodedPair(before, whole[len(before) :])
    same = next(
        (place for place, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b),
        min(len(before), len(whole)),
    )
    return EncodedPair(whole[:same] or [text.prefix_id], whole[same:], is_moved=True)


def _begun(text: MemberText, ids: list[int]) -> list[int]:
    return ids if ids[:1] == [text.prefix_id] else [text.prefix_id, *ids]
