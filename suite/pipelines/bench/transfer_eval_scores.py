"""Log-probabilities of the tokens of documents, kept so that a stopped measurement goes on.

Legend: K tokens of a document.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from suite.config import content_hash
from suite.engine.members import Member
from suite.engine.ngram_member import open_member
from suite.engine.readers import read_tokens
from suite.engine.requests import pair_request
from suite.engine.scoring import score
from suite.ensemble.combine import COMBINERS
from suite.ensemble.outcomes import MemberVocabulary, shared_outcomes
from suite.errors import ConfigError, ModelError
from suite.likelihood.heads import num_entries
from suite.text.corpus_sources import decoded, readable
from suite.text.passages import cut_passages
from suite.text.tokenizers import OpenedTokenizer

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeldOutDocument:
    """The beginning of a document, in passages that models can read.

    Attributes:
        name: Of its file.
        passages: Joined, they are the text.
    """

    name: str
    passages: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of its UTF-8."""
        return sum(len(passage.encode()) for passage in self.passages)

    @property
    def key(self) -> str:
        """Says whether two texts in passages are the same."""
        return content_hash(self.passages)


@dataclass(frozen=True, eq=False)
class DocumentScore:
    """What a model says about a document.

    Attributes:
        model: Says whether two models are the same.
        document: Says whether two texts are the same.
        log_probs: Natural, of each token behind the passages' begin tokens. float32 [K]
    """

    model: str
    document: str
    log_probs: Floats

    @property
    def nats(self) -> float:
        """-sum log p."""
        return -float(self.log_probs.sum(dtype=np.float64))


def read_documents(folder: Path, num_bytes: int, passage_bytes: int) -> list[HeldOutDocument]:
    """The first bytes of every text file of a folder, in the order of names.

    Args:
        folder: With `.txt` files.
        num_bytes: Of each; a character that the limit cuts is left out.
        passage_bytes: Most bytes that are read at once.

    Raises:
        ConfigError: There is no such file, or one is empty or cannot be read.
        TextError: One is not UTF-8.
    """
    documents = []
    for file in sorted(folder.glob("*.txt")):
        with readable(file):
            text = decoded(file.read_bytes(), str(file))
        start = text.encode()[:num_bytes].decode(errors="ignore")
        if not start:
            raise ConfigError(f"--data {file}: is empty; remove it")
        documents.append(HeldOutDocument(file.name, tuple(cut_passages(start, passage_bytes))))
    if not documents:
        raise ConfigError(f"--data {folder}: has no .txt file; give a folder with documents")
    return documents


class ScoreFile:
    """Scores in a JSON Lines file, one document of one model a line.

    A line that a kill left unfinished is passed over, and what is measured anew stands behind it.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Args:
            path: Of the file; its folder exists.

        Raises:
            ConfigError: It cannot be read or written.
        """
        self._path = path
        self._scores: dict[tuple[str, str], DocumentScore] = {}
        with readable(path):
            path.touch()
            lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._keep(_from_json(json.loads(line)))

    def find(self, model: str, document: str) -> DocumentScore | None:
        """The score of a model at a document; None if there is none yet."""
        return self._scores.get((model, document))

    def add(self, score: DocumentScore, *, label: str) -> None:
        """Append a score; `label` says to people what it is of.

        Raises:
            ConfigError: The file cannot be written.
        """
        line = json.dumps({"label": label, **_to_json(score)})
        # What a kill left unfinished must not swallow this line.
        ends = self._path.read_bytes()[-1:] in (b"", b"\n")
        with readable(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(("" if ends else "\n") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._keep(score)

    def _keep(self, score: DocumentScore) -> None:
        self._scores[score.model, score.document] = score


def _to_json(score: DocumentScore) -> dict[str, Any]:
    data = score.log_probs.astype("<f4").tobytes()
    return {
        "model": score.model,
        "document": score.document,
        "log_probs": base64.b64encode(data).decode("ascii"),
    }


def _from_json(data: dict[str, Any]) -> DocumentScore:
    values = np.frombuffer(base64.b64decode(data["log_probs"], validate=True), "<f4")
    return DocumentScore(str(data["model"]), str(data["document"]), values.astype(np.float32))


def reading_member(model: Any, tokenizer: OpenedTokenizer) -> Member:
    """A loaded model as the engine reads it; entries that no text has get no probability.

    Raises:
        ModelError: The tokenizer has no token to begin a text with, or does not fit the model.
    """
    name = tokenizer.name
    if tokenizer.begin_id is None:
        raise ModelError(f"{name} has neither begin nor end token to begin a text with")
    count = num_entries(tokenizer.vocabulary, model, name=name)
    dead = torch.from_numpy(tokenizer.vocabulary.is_dead)[:count]
    return open_member(model, name=name, num_entries=count, dead=dead)


def passage_log_probs(
    member: Member, tokenizer: OpenedTokenizer, passages: Sequence[str]
) -> Floats:
    """Of every token of passages, each behind the begin token; float32 [K].

    Raises:
        ConfigError: A passage has more tokens than the model reads.
        TextError: The tokenizer cannot read a passage.
    """
    assert tokenizer.begin_id is not None
    begin = [tokenizer.begin_id]
    requests = [
        pair_request(begin, tokenizer.encode(passage).ids.tolist(), max_length=member.max_length)
        for passage in passages
    ]
    if any(request.num_cut for request in requests):
        raise ConfigError(
            f"--passage-bytes: {tokenizer.name} reads {member.max_length} tokens, and a passage has"
            " more; give a smaller --passage-bytes"
        )
    values: Floats = score(member, requests, read_tokens).values["token"].float().numpy()
    return values


def check_same_tokens(
    members: tuple[OpenedTokenizer, OpenedTokenizer], documents: Sequence[HeldOutDocument]
) -> None:
    """Check that two models predict the same outcomes at every token of documents.

    Then a mixture's probability of a token follows from each member's probability of it.

    Args:
        members: Tokenizers.
        documents: The texts.

    Raises:
        ConfigError: They share no vocabulary, or cut a text differently.
    """
    space, maps = shared_outcomes(
        [
            MemberVocabulary(one.name, one.vocabulary, len(one.vocabulary), _end_ids(one))
            for one in members
        ]
    )
    for document in documents:
        for passage in document.passages:
            first, second = (
                own.outcome_of[torch.from_numpy(one.encode(passage).ids).long()]
                for one, own in zip(members, maps, strict=True)
            )
            if not torch.equal(first, second) or bool((first >= space.end).any()):
                raise ConfigError(
                    f"{members[0].name} and {members[1].name} cut {document.name} into different"
                    " tokens, so their probabilities cannot be mixed token by token; leave --member"
                    " out"
                )


def _end_ids(tokenizer: OpenedTokenizer) -> tuple[int, ...]:
    end = tokenizer.hf.eos_token_id
    return () if end is None else (int(end),)


def mixed(scores: Sequence[DocumentScore]) -> Floats:
    """The token mixture of members with equal weights: log mean_m p_m, float32 [K]."""
    log_probs = torch.from_numpy(np.stack([one.log_probs for one in scores]))[..., None]
    weights = torch.full((len(scores), log_probs.shape[1]), -math.log(len(scores)))
    values: Floats = COMBINERS["mean_probs"].combine(log_probs, weights)[:, 0].numpy()
    return values
