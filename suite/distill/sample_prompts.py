"""What a teacher's samples begin with: documents of a corpus without their ends, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from suite.errors import ConfigError, TextError
from suite.text.chat import render_chat
from suite.text.corpus import Corpus, Document, Message, Position
from suite.text.tokenizers import OpenedTokenizer

_BEGINNING = Position()


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt as a teacher reads it.

    Attributes:
        ids: Its tokens, at least one.
        text: A plain prompt; empty where there is none.
        messages: Those of a chat; None for a text.
        reference: The completion that the data has for it; None if it has none.
    """

    ids: tuple[int, ...]
    text: str = ""
    messages: tuple[Message, ...] | None = None
    reference: str | None = None

    def record(self, completion: str, *, has_prompt: bool) -> dict[str, Any]:
        """The line of a corpus in which a completion follows the prompt."""
        if self.messages is not None:
            turns = (*self.messages, Message("assistant", completion))
            return {"messages": [{"role": m.role, "content": m.content} for m in turns]}
        if has_prompt:
            return {"prompt": self.text, "completion": completion}
        return {"text": completion}


@dataclass(frozen=True)
class Unusable:
    """Why a document is no prompt."""

    reason: str


def check_prompts(corpus: Corpus | None, tokenizer: OpenedTokenizer) -> None:
    """Check that a teacher's tokenizer can make prompts of a corpus, or of nothing.

    Raises:
        ConfigError: It has no begin token, or no chat template for conversations.
    """
    if corpus is None and tokenizer.begin_id is None:
        raise ConfigError(
            f"teacher_samples: {tokenizer.name} has neither begin nor end token, which samples"
            " without a prompt begin with; give prompts"
        )
    is_chat = corpus is not None and corpus.config.messages is not None
    if is_chat and not tokenizer.hf.chat_template:
        raise ConfigError(
            f"teacher_samples: prompts has messages, but {tokenizer.name} has no chat template;"
            " give prompts with prompt and completion, or with text"
        )


@dataclass(frozen=True, eq=False)
class PromptReader:
    """Prompts in the order of a corpus, epoch after epoch.

    Attributes:
        corpus: Where they are; None for the begin token alone.
        tokenizer: The teacher's.
        max_tokens: Of the longest prompt.
    """

    corpus: Corpus | None
    tokenizer: OpenedTokenizer
    max_tokens: int

    def read(self, position: Position = _BEGINNING) -> Iterator[tuple[Position, Prompt | Unusable]]:
        """Prompts from a position on, without end, each with the position behind it."""
        if self.corpus is None:
            yield from repeat((position, Prompt(self._begun([]))))
            return
        for behind, document in self.corpus.documents(position):
            try:
                prompt = self._chat(document) if document.messages else self._text(document)
            except TextError as error:
                yield behind, Unusable(str(error))
                continue
            if len(prompt.ids) > self.max_tokens:
                reason = f"a prompt has {len(prompt.ids)} tokens, at most {self.max_tokens} fit"
                yield behind, Unusable(reason)
                continue
            yield behind, prompt

    def _text(self, document: Document) -> Prompt:
        data = (document.text or "").encode()
        assert self.corpus is not None
        if self.corpus.config.prompt is None:
            text, reference = data.decode(), None
        else:
            text = data[: document.prompt_bytes].decode()
            reference = data[document.prompt_bytes :].decode()
        if not text:
            raise TextError("a prompt is empty")
        ids = self.tokenizer.encode(text).ids.tolist()
        return Prompt(self._begun(ids), text, reference=reference)

    def _chat(self, document: Document) -> Prompt:
        messages, reference = document.messages or (), None
        if messages[-1].role == "assistant":
            *before, last = messages
            messages, reference = tuple(before), last.content
        # Tells a conversation that the template would not give back.
        render_chat(self.tokenizer, messages)
        text = self.tokenizer.hf.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        ids = self.tokenizer.encode(text, parse_special=True).ids.tolist()
        return Prompt(self._begun(ids), messages=messages, reference=reference)

    def _begun(self, ids: list[int]) -> tuple[int, ...]:
        """As training rows begin."""
        begin_id = self.tokenizer.begin_id
        if begin_id is None or ids[:1] == [begin_id]:
            return tuple(ids)
        return (begin_id, *ids)
